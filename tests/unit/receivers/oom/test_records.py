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
    assert records.path_text(mark.trigger_path) == "/kubepods-demo/pod-demo"
    assert [memcg.level for memcg in mark.memcgs] == [2, 1, 0]
    assert [records.text(process.comm) for process in mark.ancestors[:2]] == ["python", "bash"]
    assert len(mark.ancestors) == mark.raw.ancestors == 6
    assert mark.ancestors[-1].tgid == mark.trigger_ancestors[-1].tgid == 1
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


def test_the_largest_mark() -> None:
    """As many cgroups and ancestors as the kernel side tells, and two paths of 4 KiB."""
    names = [f"{index:0>200}" for index in range(20)]
    chain = b"".join(oom_ring.process(tgid=pid, comm=b"p%d" % pid) for pid in range(1, 9))
    levels = oom_ring.memcgs(*({"level": level} for level in range(19, -1, -1)))
    whole = oom_ring.mark(
        names, names[::-1], ancestor=chain, trigger_ancestor=chain[::-1], **levels
    )
    mark = records.decode(whole)
    assert isinstance(mark, records.Mark)
    assert [memcg.level for memcg in mark.memcgs] == list(range(19, -1, -1))
    assert [process.tgid for process in mark.ancestors] == list(range(1, 9))
    assert mark.raw_trigger_ancestors == chain[::-1]
    assert mark.victim_path == mark.trigger_path[::-1] == tuple(names)


def test_a_mark_with_no_tail() -> None:
    mark = records.decode(oom_ring.mark((), memcg=b"", ancestor=b"", trigger_ancestor=b""))
    assert isinstance(mark, records.Mark)
    assert mark[4:] == ((), b"", b"", (), ())


PARTS = ("memcgs", "ancestors", "trigger_ancestors", "victim_path_len", "trigger_path_len")


@pytest.mark.parametrize("part", [*PARTS, "tail_len"])
@pytest.mark.parametrize("value", [0, 1000, 2**32 - 1])
def test_a_mark_that_tells_another_tail_than_it_has_is_refused(part: str, value: int) -> None:
    with pytest.raises(errors.BadRecord, match=f"a mark of {len(MARK)} bytes says"):
        records.decode(oom_ring.mark(**{part: value}))


@pytest.mark.parametrize("part", PARTS)
def test_a_part_beyond_the_records_end_is_refused_even_if_the_tail_is_to_have_it(part: str) -> None:
    one = {"memcgs": 56, "ancestors": 40, "trigger_ancestors": 40}.get(part, 1)
    raw = oom_ring.base()
    more = {part: getattr(raw, part) + 1, "tail_len": raw.tail_len + one}
    with pytest.raises(errors.BadRecord, match=f"{raw.tail_len + one}, of parts that take"):
        records.decode(oom_ring.mark(**more))


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
