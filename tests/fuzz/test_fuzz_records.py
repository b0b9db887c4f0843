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


NAMES = st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20))
MEMCG, PROCESS = events.OomMemcgLayout.SIZE_BYTES, events.OomProcessLayout.SIZE_BYTES


@st.composite
def entries(draw: st.DrawFn, size: int, most: int) -> bytes:
    """Structs of any content, one after the other."""
    return b"".join(draw(st.lists(st.binary(min_size=size, max_size=size), max_size=most)))


@st.composite
def tails(draw: st.DrawFn) -> dict[str, bytes]:
    """The parts of a mark's tail, as many as the kernel side tells at most."""
    return {
        "memcg": draw(entries(MEMCG, 20)),
        "ancestor": draw(entries(PROCESS, 8)),
        "trigger_ancestor": draw(entries(PROCESS, 8)),
    }


@given(NAMES, NAMES, tails())
def test_a_marks_tail_comes_apart_as_it_was_put_together(
    victim_path: list[str], trigger_path: list[str], tail: dict[str, bytes]
) -> None:
    mark = records.decode(oom_ring.mark(victim_path, trigger_path, **tail))
    assert isinstance(mark, records.Mark)
    pack = events.OomMemcgLayout.FORMAT.pack
    assert b"".join(pack(*memcg) for memcg in mark.memcgs) == tail["memcg"]
    assert mark.raw_ancestors == tail["ancestor"]
    assert mark.raw_trigger_ancestors == tail["trigger_ancestor"]
    assert mark.victim_path == tuple(victim_path)
    assert mark.trigger_path == tuple(trigger_path)


@st.composite
def marks(draw: st.DrawFn) -> bytes:
    """A mark whose tail is of any content, and fits."""
    return oom_ring.mark(draw(NAMES), draw(NAMES), **draw(tails()))


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real record, or one like it, with some bytes changed: mostly still one that decodes."""
    record = bytearray(draw(st.sampled_from(WHOLE) | marks()))
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
