"""Ring records to encoded OTLP, on one core: how many a second, beside plain protobuf parsing.

A kill is three ring records (mark, delivery, exit) and gives one log record and one span. The
peer in the same run is the cheapest thing that could be done with as many bytes: parsing the
encoded result once. Run by `make bench`.
"""

from __future__ import annotations

import pathlib
import struct
import sys
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from otel_oom.receivers.oom import attributes, encode, kills, limit, records

CAPTURED = pathlib.Path(__file__).resolve().parents[1] / "data" / "oom_kill.ring"
KILLS = 2_000
ROUNDS = 5
BATCH_KILLS = 85  # as many as one drain of the ring of 256 records holds


def captured() -> list[bytes]:
    """The ring records of one real kill whose trigger is not its victim."""
    data, found = CAPTURED.read_bytes(), []
    while data:
        (size,) = struct.unpack_from("<I", data)
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found


def many(one: list[bytes], count: int) -> list[bytes]:
    """As many kills, each of another process."""
    made = []
    for index in range(count):
        for record in one:
            changed = bytearray(record)
            struct.pack_into("<I", changed, 20, 1000 + index)
            made.append(bytes(changed))
    return made


def pipeline(ring: list[bytes]) -> list[bytes]:
    """What the receiver does between the ring and the exporter's queue."""
    unlimited, out = attributes.UNLIMITED_PAGES, []
    encoder = encode.Encoder(boot_id="boot", version="0", mode="core")
    assembler = kills.Assembler(
        lambda mark: (limit.find(mark, unlimited_pages=unlimited, memory_nodes=1), None),
        settle_s=0.25,
        settle_exit_s=10.0,
    )
    for start in range(0, len(ring), 3 * BATCH_KILLS):
        for record in ring[start : start + 3 * BATCH_KILLS]:
            assembler.take(records.decode(record), 0.0)
        reports, spans = assembler.ready(0.0)
        out.append(encoder.logs(reports, 0, 0).data.SerializeToString())
        out.append(encoder.spans(spans, 0).data.SerializeToString())
    return out


def best_s(work: Callable[[], object]) -> float:
    """CPU seconds of the best of some rounds."""
    times = []
    for _ in range(ROUNDS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def main() -> None:
    """Print the table."""
    ring = many(captured(), KILLS)
    encoded = pipeline(ring)
    ours = best_s(lambda: pipeline(ring))
    decoding = best_s(lambda: [records.decode(record) for record in ring])
    parsing = best_s(lambda: [LogsData.FromString(part) for part in encoded[::2]])
    print(
        f"ring bytes {sum(map(len, ring)) / KILLS:.0f} a kill, OTLP bytes "
        f"{sum(map(len, encoded)) / KILLS:.0f} a kill"
    )
    print(f"decode                   {ours and len(ring) / decoding:12,.0f} ring records/s")
    print(
        f"ring to encoded OTLP     {len(ring) / ours:12,.0f} ring records/s "
        f"({KILLS / ours:,.0f} kills/s, {ours / KILLS * 1e6:.1f} us a kill)"
    )
    print(f"peer: parse the result   {KILLS / parsing:12,.0f} kills/s; ratio {ours / parsing:.1f}")


if __name__ == "__main__":
    main()
