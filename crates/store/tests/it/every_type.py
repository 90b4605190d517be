"""Puts every type that pyarrow can make, gets it back and compares.

Usage: every_type.py grpc://HOST:PORT DATA_DIR
"""

import glob
import json
import pathlib
import sys

import pyarrow as pa
import pyarrow.flight as flight

sys.dont_write_bytecode = True
sys.path.append(str(pathlib.Path(__file__).parents[3] / "testkit" / "python"))
import arrow_types  # noqa: E402

def main():
    client = flight.connect(sys.argv[1])
    sent = arrow_types.table_of(arrow_types.columns())
    for compression in (None, "lz4", "zstd"):
        options = flight.FlightCallOptions(
            write_options=pa.ipc.IpcWriteOptions(compression=compression))
        writer, results = client.do_put(
            flight.FlightDescriptor.for_path("batches"), sent.schema, options)
        for batch in sent.to_batches():
            writer.write_batch(batch)
        writer.done_writing()
        receipt = json.loads(results.read().to_pybytes())
        writer.close()
        assert receipt["created"] and receipt["rows"] == sent.num_rows, receipt

        descriptor = flight.FlightDescriptor.for_path("batches", receipt["batch_id"])
        info = client.get_flight_info(descriptor)
        assert info.total_records == sent.num_rows, info
        assert info.total_bytes == receipt["bytes"], info
        assert info.ordered
        assert info.schema.equals(sent.schema, check_metadata=True)
        [endpoint] = info.endpoints
        reader = client.do_get(endpoint.ticket)
        got = reader.read_all()
        assert got.equals(sent, check_metadata=True), compression
        got.validate(full=True)
        assert len(got.column(0).chunks) == len(sent.column(0).chunks)

        [path] = glob.glob(f"{sys.argv[2]}/batches/*/{receipt['batch_id']}.arrow")
        with pa.memory_map(path) as file:
            stored = pa.ipc.open_file(file).read_all()
            assert stored.equals(sent, check_metadata=True), path
            stored.validate(full=True)
    print("types", sent.num_columns)


main()
