"""The ring as the kernel lays it out, read by its mapping."""

from __future__ import annotations

import collections
from collections.abc import Iterator

import pytest
from doubles.kernel_ring import BUSY, DISCARD, PAGE, Writer
from hypothesis import given, settings
from hypothesis import strategies as st

from otel_oom.bpf import ring


@pytest.fixture
def writer() -> Iterator[Writer]:
    made = Writer(PAGE)
    yield made
    made.close()


@pytest.fixture
def reader(writer: Writer) -> Iterator[ring.MappedRing]:
    made = ring.MappedRing(writer.fd, writer.size)
    yield made
    made.close()


def test_an_empty_ring(reader: ring.MappedRing) -> None:
    assert reader.is_empty()
    assert reader.drain(9) == []


def test_records_come_once_in_their_order(writer: Writer, reader: ring.MappedRing) -> None:
    records = [b"a", b"", b"0123456789", b"\0" * 8]
    for record in records:
        writer.write(record)
    assert not reader.is_empty()
    assert reader.drain(9) == records
    assert reader.is_empty()
    assert reader.drain(9) == []
    assert writer.consumed == writer.produced


def test_the_limit_leaves_the_rest_for_later(writer: Writer, reader: ring.MappedRing) -> None:
    for index in range(5):
        writer.write(b"%d" % index)
    assert reader.drain(0) == []
    assert reader.drain(2) == [b"0", b"1"]
    assert not reader.is_empty()
    assert reader.drain(2) == [b"2", b"3"]
    assert reader.drain(2) == [b"4"]


def test_a_record_that_is_still_written_holds_up_those_behind_it(
    writer: Writer, reader: ring.MappedRing
) -> None:
    writer.write(b"first")
    busy = writer.write(b"second", BUSY)
    writer.write(b"third")
    assert reader.drain(9) == [b"first"]
    assert reader.drain(9) == []
    assert not reader.is_empty()
    assert busy is not None
    writer.commit(busy, len(b"second"))
    assert reader.drain(9) == [b"second", b"third"]


def test_a_discarded_record_is_passed_over(writer: Writer, reader: ring.MappedRing) -> None:
    writer.write(b"kept")
    writer.write(b"discarded", DISCARD)
    writer.write(b"kept too")
    assert reader.drain(9) == [b"kept", b"kept too"]
    writer.write(b"alone", DISCARD)
    assert reader.drain(9) == []
    assert reader.is_empty()


def test_a_record_that_wraps_is_whole(writer: Writer, reader: ring.MappedRing) -> None:
    writer.start_at(7 * PAGE - 16)
    record = bytes(range(256)) * 4
    writer.write(record)
    assert reader.drain(9) == [record]


def test_positions_beyond_four_gib(writer: Writer, reader: ring.MappedRing) -> None:
    """They are 64 bits wide and never start anew."""
    writer.start_at((1 << 32) - 8)
    for index in range(3):
        writer.write(b"x" * index)
    assert reader.drain(9) == [b"", b"x", b"xx"]


def test_a_full_ring_has_room_again_after_a_drain(writer: Writer, reader: ring.MappedRing) -> None:
    count = 0
    while writer.write(b"x" * 500) is not None:
        count += 1
    assert len(reader.drain(1)) == 1
    assert writer.write(b"y" * 500) is not None
    assert reader.drain(99) == [b"x" * 500] * (count - 1) + [b"y" * 500]


def test_what_was_drained_stays_what_it_was(writer: Writer, reader: ring.MappedRing) -> None:
    """Copies: the kernel writes over the place at once."""
    writer.write(b"a" * 100)
    (kept,) = reader.drain(1)
    for _ in range(200):
        writer.write(b"b" * 100)
        reader.drain(9)
    assert kept == b"a" * 100


STEPS = st.one_of(
    st.tuples(st.just("write"), st.binary(max_size=700), st.sampled_from([0, DISCARD, BUSY])),
    st.tuples(st.just("drain"), st.integers(0, 6), st.just(0)),
    st.tuples(st.just("commit"), st.booleans(), st.just(0)),
)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 3 * PAGE // 8), st.lists(STEPS, max_size=60))
def test_whatever_is_written_comes_out_once_and_in_order(
    start: int, steps: list[tuple[str, bytes | int, int]]
) -> None:
    writer = Writer(PAGE)
    writer.start_at(8 * start)
    reader = ring.MappedRing(writer.fd, writer.size)
    expected: list[list[object]] = []  # [record or None if discarded, busy at]
    got: list[bytes] = []
    busy: collections.deque[tuple[int, int, list[object]]] = collections.deque()
    for step, argument, flags in steps:
        if step == "write" and isinstance(argument, bytes):
            at = writer.write(argument, flags)
            if at is None:
                continue
            entry: list[object] = [None if flags == DISCARD else argument]
            expected.append(entry)
            if flags == BUSY:
                busy.append((at, len(argument), entry))
        elif step == "drain":
            limit = int(argument)  # type: ignore[arg-type]
            drained = reader.drain(limit)
            assert len(drained) <= limit
            got += drained
        elif busy:
            at, length, entry = busy.popleft()
            writer.commit(at, length, DISCARD if argument else 0)
            entry[0] = None if argument else entry[0]
    for at, length, _ in busy:
        writer.commit(at, length)
    got += reader.drain(10_000)
    assert got == [entry[0] for entry in expected if entry[0] is not None]
    assert reader.is_empty()
    reader.close()
    writer.close()


def test_the_ring_of_this_machine() -> None:
    """Plain loads are enough where the processor keeps them in order; elsewhere libbpf reads."""
    machine = ring.platform.machine()
    writer = Writer(PAGE)
    if machine == "x86_64":
        opened = ring.open_ring(writer.fd, writer.size)
        assert isinstance(opened, ring.MappedRing)
        opened.close()
    writer.close()
