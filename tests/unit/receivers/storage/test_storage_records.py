"""Reports of the operation tier to Python: what is decoded, and what is refused."""

from __future__ import annotations

import pytest
from doubles import storage_record as made

from otel_oom import errors
from otel_oom.bpf.storage_operations_events import StorageCause
from otel_oom.receivers.storage import records

WHOLE = made.packed(made.operation(20, [made.wait(2, 3, 4)]), made.commit(10))


def test_an_operation_with_its_commit() -> None:
    by = made.request(start=1, issue=2, complete=3)
    raw = made.operation(20, [made.wait(9, 10, 11), made.wait(2, 3, 4, by=by)], result=-5)
    operation = made.decoded(raw, made.commit(12, begin=6))

    assert (operation.start_ns, operation.end_ns) == (made.ns(0), made.ns(20))
    assert [wait.sleep_ns for wait in operation.waits] == [made.ns(2), made.ns(9)]
    assert [wait.request for wait in operation.waits] == [by, None]
    assert operation.file.inode == 4711
    assert operation.raw.result == -5
    assert operation.commit is not None
    assert operation.commit.duration_ns == 6_000_000


def test_an_operation_without_a_commit() -> None:
    assert made.decoded(made.operation(20)).commit is None


def test_waits_that_were_not_kept_are_counted() -> None:
    waited = [0, 0, 0, 0, 9_000_000, 0, 0, 0]
    raw = made.operation(20, [made.wait(2, 3, 4)], all_waits=4, waited_ns=waited)

    assert made.decoded(raw).left_out == (3, 7_000_000)
    assert made.decoded(made.operation(20, [made.wait(2, 3, 4)])).left_out == (0, 0)


@pytest.mark.parametrize("size", [0, 1, len(WHOLE) // 2, len(WHOLE) - 1, len(WHOLE) + 1])
def test_another_size_is_refused(size: int) -> None:
    with pytest.raises(errors.BadRecord, match=f"this one {size}"):
        records.decode((WHOLE + b"\0")[:size])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"call": 0}, "unknown call 0"),
        ({"call": 14}, "unknown call 14"),
        ({"call": 99}, "unknown call 99"),
        ({"number": 0}, "operation 0"),
        ({"begin": 30}, "from"),
    ],
)
def test_an_operation_that_cannot_be_is_refused(change: dict[str, int], text: str) -> None:
    with pytest.raises(errors.BadRecord, match=text):
        made.decoded(made.operation(20, **change))


def test_a_commit_that_is_a_system_call_is_refused() -> None:
    with pytest.raises(errors.BadRecord, match="commit"):
        made.decoded(made.operation(20), made.operation(20))


@pytest.mark.parametrize(
    "wait",
    [
        made.wait(2, 3, 4)._replace(run_ns=made.ns(1)),
        made.wait(2, 3, 4)._replace(sleep_ns=0),
        made.wait(2, 3, 4)._replace(cause=int(StorageCause.RECLAIM) + 1),
    ],
)
def test_a_wait_that_cannot_be_is_refused(wait: made.StorageWait) -> None:
    with pytest.raises(errors.BadRecord, match="wait"):
        made.decoded(made.operation(20, [wait]))
