"""Ring records to Python: what is decoded, and what is refused."""

from __future__ import annotations

import struct

import pytest
from doubles import oom_ring

from otel_oom import errors
from otel_oom.bpf import events
from otel_oom.receivers.oom import records

MARK, DELIVERED, EXITED = oom_ring.captured()


def test_a_mark() -> None:
    mark = records.decode(MARK)
    assert isinstance(mark, records.Mark)
    assert mark.identity == (mark.raw.tgid, mark.raw.start_boot_ns) == (4316, 3519670968059)
    assert records.text(mark.victim.comm) == "worker"
    assert records.text(mark.trigger.comm) == "small"
    assert records.path_text(mark.victim_path) == "/kubepods-demo/pod-demo"
    assert len(mark.ancestors) == mark.raw.ancestors
    assert [memcg.level for memcg in mark.memcgs] == [2, 1, 0]
    assert not mark.trigger_is_victim
    assert mark.has(events.OomMarkFlag.HAS_MM)
    assert not mark.has(events.OomMarkFlag.PATH_CUT)


def test_a_delivery() -> None:
    delivered = records.decode(oom_ring.delivered(b"a\0b c\0", total=100))
    assert isinstance(delivered, records.Delivered)
    assert delivered.args == ("a", "b c")
    assert delivered.args_total_bytes == 100
    assert delivered.is_cut


def test_an_exit() -> None:
    exited = records.decode(oom_ring.exited(exit_code=9))
    assert isinstance(exited, records.Exited)
    assert exited.exit_code == 9
    assert exited.identity == records.decode(MARK).identity


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", ""),
        (b"\0" * 16, ""),
        (b"name\0rest of an older one", "name"),
        (b"sixteen bytes ok", "sixteen bytes ok"),
        ("é".encode() + b"\0", "é"),
        (b"a\xff\xfeb\0", "a\\xff\\xfeb"),
        (b"\xc3\0", "\\xc3"),
        (b"a\nb\x1b\x7f", "a\nb\x1b\x7f"),
    ],
)
def test_text_keeps_any_byte(raw: bytes, expected: str) -> None:
    assert records.text(raw) == expected


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", ()),
        (b"\0", ("",)),
        (b"a\0", ("a",)),
        (b"a\0b", ("a", "b")),
        (b"a\0\0b\0", ("a", "", "b")),
        (b"\xff\0", ("\\xff",)),
    ],
)
def test_arguments(raw: bytes, expected: tuple[str, ...]) -> None:
    assert records.arguments(raw) == expected


def test_processes_and_memcgs_beyond_their_arrays_are_those_that_there_are() -> None:
    mark = records.decode(oom_ring.mark(ancestors=1000, trigger_ancestors=2**32 - 1, memcgs=21))
    assert isinstance(mark, records.Mark)
    assert len(mark.ancestors) == len(mark.trigger_ancestors) == 8
    assert len(mark.memcgs) == 20


@pytest.mark.parametrize("whole", [MARK, DELIVERED, EXITED], ids=["mark", "delivered", "exited"])
def test_a_record_that_is_cut_anywhere_is_refused(whole: bytes) -> None:
    for size in range(len(whole)):
        with pytest.raises(errors.BadRecord):
            records.decode(whole[:size])


@pytest.mark.parametrize("whole", [MARK, DELIVERED, EXITED], ids=["mark", "delivered", "exited"])
def test_a_record_that_is_too_long_is_refused(whole: bytes) -> None:
    for more in (1, 8, 70_000):
        with pytest.raises(errors.BadRecord):
            records.decode(whole + bytes(more))


@pytest.mark.parametrize("kind", [0, 4, 2**32 - 1])
def test_a_record_of_an_unknown_kind_is_refused(kind: int) -> None:
    offset, _ = events.OomHeaderLayout.OFFSETS["kind"]
    record = bytearray(MARK)
    struct.pack_into("<I", record, offset, kind)
    with pytest.raises(errors.BadRecord, match=f"unknown kind {kind}"):
        records.decode(bytes(record))


def test_a_victims_path_longer_than_both_paths_is_refused() -> None:
    offset, _ = events.OomMarkLayout.OFFSETS["victim_path_len"]
    record = bytearray(MARK)
    struct.pack_into("<I", record, offset, 5000)
    with pytest.raises(errors.BadRecord, match="5000"):
        records.decode(bytes(record))
