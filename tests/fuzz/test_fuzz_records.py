"""Any bytes from the ring are a record or a `BadRecord`, and any record can be told."""

from __future__ import annotations

import contextlib
import struct

from doubles import oom_ring
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_oom import errors
from otel_oom.bpf import events
from otel_oom.receivers.oom import records

NUMBERS = [0, 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1]
WHOLE = [*oom_ring.captured(), *(each for ring, _ in oom_ring.variants().values() for each in ring)]
KIND, _ = events.OomHeaderLayout.OFFSETS["kind"]


@given(st.binary(max_size=4096))
def test_any_bytes(record: bytes) -> None:
    with contextlib.suppress(errors.BadRecord):
        records.decode(record)


@given(st.sampled_from([1, 2, 3]), st.binary(min_size=24, max_size=3000))
def test_any_bytes_of_a_known_kind(kind: int, record: bytes) -> None:
    changed = bytearray(record)
    struct.pack_into("<I", changed, KIND, kind)
    with contextlib.suppress(errors.BadRecord):
        records.decode(bytes(changed))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real record with some bytes changed: mostly still one that decodes."""
    record = bytearray(draw(st.sampled_from(WHOLE)))
    for _ in range(draw(st.integers(0, 12))):
        at = draw(st.integers(0, len(record) - 1))
        value = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
        record[at] = value
    if draw(st.booleans()):  # a number of the header or of the mark's first half
        at = draw(st.integers(0, min(150, len(record) - 8) // 8)) * 8
        if at != KIND:
            struct.pack_into("<Q", record, at, draw(st.sampled_from(NUMBERS)))
    return bytes(record)


@settings(max_examples=300, deadline=None)
@given(st.lists(mutated(), max_size=6))
def test_whatever_decodes_can_be_told(ring: list[bytes]) -> None:
    assembler = oom_ring.assembler()
    for record in ring:
        with contextlib.suppress(errors.BadRecord):
            assembler.take(records.decode(record), 0.0)
    kills, spans = assembler.ready(0.0, flush=True)
    encoder = oom_ring.encoder()
    logs = encoder.logs(kills, oom_ring.BOOT_TO_UNIX_NS, oom_ring.NOW_NS)
    assert logs.items == sum(
        len(scope.log_records)
        for resource in logs.data.resource_logs
        for scope in resource.scope_logs
    )
    assert encoder.spans(spans, oom_ring.BOOT_TO_UNIX_NS).items == len(spans)
