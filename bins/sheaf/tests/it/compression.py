"""Puts and gets with every codec, as an unmodified pyarrow does.

Usage: compression.py grpc://HOST:PORT
"""

import pathlib
import sys

import pyarrow as pa
import pyarrow.flight as flight

sys.dont_write_bytecode = True
sys.path.append(str(pathlib.Path(__file__).parent))
import every_type  # noqa: E402

ROWS = 20_000
CODECS = ("lz4", "zstd")


def table():
    """Numbers that walk and words that repeat."""
    return pa.table({
        "walk": pa.array([n // 3 + n % 2 for n in range(ROWS)]),
        "word": pa.array([("north", "south", None)[n % 3] for n in range(ROWS)]),
    })


class Sheaf(every_type.Sheaf):
    def call(self, wanted, **options):
        headers = [] if wanted is None else [(b"sheaf-compression", wanted.encode())]
        return flight.FlightCallOptions(
            headers=headers, write_options=pa.ipc.IpcWriteOptions(**options))

    def store(self, sent, path, keep=None, **options):
        """The receipt of a put that the server is to `keep` so."""
        descriptor = flight.FlightDescriptor.for_path("batches", path)
        writer, results = self.client.do_put(descriptor, sent.schema, self.call(keep, **options))
        with writer:
            for batch in sent.to_batches(max_chunksize=ROWS // 2):
                writer.write_batch(batch)
            writer.done_writing()
            receipt = results.read()
        return every_type.json.loads(receipt.to_pybytes())

    def fetch(self, path, wanted=None):
        reader = self.client.do_get(flight.Ticket(f"batches/{path}"), self.call(wanted))
        got = reader.read_all()
        got.validate(full=True)
        return got


def refused(call):
    try:
        call()
    except pa.ArrowException as error:
        return str(error)
    raise AssertionError("nothing was refused")


def main():
    sheaf = Sheaf(sys.argv[1])
    sent = table()
    plain = sheaf.store(sent, "plain", "none")
    assert plain["stored_bytes"] == plain["bytes"] > 300_000, plain
    for codec in CODECS:
        # Compressed here, and kept as it came.
        came = sheaf.store(sent, f"came-{codec}", compression=codec)
        assert came["stored_bytes"] == came["bytes"] < plain["bytes"] / 2, came
        # Compressed there: the same content as the one that is kept as it came.
        kept = sheaf.store(sent, f"kept-{codec}", codec)
        assert kept["stored_bytes"] < kept["bytes"] / 2, kept
        assert (kept["bytes"], kept["checksum"]) == (plain["bytes"], plain["checksum"]), kept
        for keep in (None, "none", *CODECS):
            again = sheaf.store(sent, f"kept-{codec}", keep)
            assert again == {**kept, "created": False}, again
        info, _ = sheaf.get(f"kept-{codec}")
        assert info.total_bytes == kept["stored_bytes"], info
    for name in ("plain", "came-lz4", "came-zstd", "kept-lz4", "kept-zstd"):
        for wanted in (None, "none", "lz4", "zstd", "zstd, lz4", "lz4,none", "as-put"):
            got = sheaf.fetch(name, wanted)
            assert got.equals(sent, check_metadata=True), (name, wanted)
        for wanted in (None, "none", *CODECS):
            part = sheaf.fetch(f"{name}?columns=word&offset=9990&limit=20", wanted)
            assert part.equals(sent.select(["word"]).slice(9990, 20)), (name, wanted)
        sheaf.process(name)
    for wrong in ("gzip", "zstd, gzip", ""):
        said = refused(lambda: sheaf.fetch("plain", wrong))
        assert "sheaf-compression" in said and "is no codec" in said, said
    said = refused(lambda: sheaf.store(sent, "other", "zstd, lz4"))
    assert "sheaf-compression" in said and "write none, lz4 or zstd" in said, said
    said = refused(lambda: sheaf.fetch("plain?limit=1", "as-put"))
    assert "as-put cannot be combined" in said, said
    print("done")


if __name__ == "__main__":
    main()
