"""Record batches to chunks and back. peer.py sends and reads them."""

import google_crc32c
import pyarrow as pa
from sheaf.exchange.v1 import data_exchange_pb2 as pb

CODECS = {
    "none": pb.COMPRESSION_NONE,
    "lz4": pb.COMPRESSION_LZ4,
    "snappy": pb.COMPRESSION_SNAPPY,
    "zstd": pb.COMPRESSION_ZSTD,
}
NAMES = {number: name for name, number in CODECS.items()}


def chunk_of(sequence, batch, compression):
    """One record batch as a chunk."""
    message = batch.serialize()
    payload = message.to_pybytes()
    if compression != "none":
        payload = pa.compress(message, codec=compression, asbytes=True)
    return pb.DataChunk(
        sequence=sequence,
        payload=payload,
        crc32c=google_crc32c.value(payload),
        compression=CODECS[compression],
        uncompressed_bytes=message.size,
        rows=batch.num_rows,
    )


def batch_of(chunk, schema):
    """The record batch in a chunk, after a look at its checksum."""
    found = google_crc32c.value(chunk.payload)
    if found != chunk.crc32c:
        raise ValueError(f"chunk {chunk.sequence} has CRC32C {found:08x}, {chunk.crc32c:08x} was sent")
    codec = NAMES[chunk.compression]
    payload = pa.py_buffer(chunk.payload)
    if codec != "none":
        payload = pa.decompress(payload, decompressed_size=chunk.uncompressed_bytes, codec=codec)
    return pa.ipc.read_record_batch(pa.ipc.read_message(payload), schema)
