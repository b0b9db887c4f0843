"""Records between the ring and whoever understands them: in order, none lost, and bounded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from doubles.kernel_ring import PAGE, Writer
from hypothesis import given
from hypothesis import strategies as st

from otel_oom.bpf import ring
from otel_oom.receivers.oom.backlog import Backlog

ROOM = 4  # records of a quarter of the ring, less their headers
RECORD = b"x" * (PAGE // ROOM - 16)


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


def test_nothing_comes_of_an_empty_ring(reader: ring.MappedRing) -> None:
    backlog = Backlog()
    assert backlog.take(reader, 9) == []
    assert not backlog


def test_the_oldest_come_first_and_the_rest_waits(writer: Writer, reader: ring.MappedRing) -> None:
    backlog = Backlog()
    for record in (b"1", b"2", b"3"):
        writer.write(record)
    assert backlog.take(reader, 2) == [b"1", b"2"]
    assert len(backlog) == 1
    writer.write(b"4")
    assert backlog.take(reader, 9) == [b"3", b"4"]
    assert not backlog


def test_the_whole_ring_has_room_again_when_one_record_was_taken(
    writer: Writer, reader: ring.MappedRing
) -> None:
    """In a storm: however long the rest takes, as many as the ring holds may come meanwhile."""
    backlog, got = Backlog(), []
    for _ in range(3):
        written = [writer.write(RECORD) for _ in range(ROOM)]
        assert None not in written
        got += backlog.take(reader, 1)
        assert reader.is_empty()
    assert len(backlog) == 3 * ROOM - 3
    assert got + backlog.take(reader, 99) == [RECORD] * 3 * ROOM


def test_beyond_its_bound_records_stay_in_the_ring(writer: Writer, reader: ring.MappedRing) -> None:
    backlog = Backlog(most_bytes=len(RECORD))
    for _ in range(ROOM):
        writer.write(RECORD)
    assert len(backlog.take(reader, 1)) == 1
    for _ in range(ROOM):
        writer.write(RECORD)
    backlog.take(reader, 0)
    assert not reader.is_empty()
    assert writer.write(RECORD) is None  # which the kernel side counts
    assert len(backlog.take(reader, 99)) == ROOM - 1
    assert len(backlog.take(reader, 99)) == ROOM
    assert reader.is_empty()


STEPS = st.lists(
    st.tuples(st.just("write"), st.integers(0, 700)) | st.tuples(st.just("take"), st.integers(0, 9))
)


@given(STEPS, st.integers(1, 3000))
def test_what_was_written_comes_out_once_and_in_order(
    steps: list[tuple[str, int]], most_bytes: int
) -> None:
    writer = Writer(PAGE)
    reader = ring.MappedRing(writer.fd, writer.size)
    backlog, written, got = Backlog(most_bytes), [], []
    for index, (step, number) in enumerate(steps):
        if step == "write":
            record = index.to_bytes(2, "little") + bytes(number)
            if writer.write(record) is not None:
                written.append(record)
        else:
            taken = backlog.take(reader, number)
            assert len(taken) <= number
            got += taken
    while more := backlog.take(reader, 100):
        got += more
    reader.close()
    writer.close()

    assert got == written
