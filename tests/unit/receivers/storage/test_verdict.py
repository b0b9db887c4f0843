"""The layer of the longest gap, and what is not slow after all."""

from __future__ import annotations

import pytest
from doubles import storage_record as made

from otel_oom.bpf.storage_operations_events import StorageCause
from otel_oom.receivers.storage import verdict

MS = 1_000_000


def judge(stage_ms: int = 10, total_ms: int = 20) -> verdict.Judge:
    return verdict.Judge(stage_ns=stage_ms * MS, total_ns=total_ms * MS)


def test_the_longest_gap_has_the_verdict() -> None:
    by = made.request(start=1, issue=1.5, complete=33)
    line = made.timed(made.operation(40, [made.wait(2, 33, 39, by=by)]))

    assert judge().judge(line) == verdict.Verdict(
        "device", "wait.sleep", "block.completed", 31 * MS, 31 / 40, "total"
    )


@pytest.mark.parametrize(("end", "threshold"), [(19.9, "stage"), (20, "total")])
def test_the_threshold_that_was_exceeded(end: float, threshold: str) -> None:
    found = judge().judge(made.timed(made.operation(end, [made.wait(1, 12, 12)])))

    assert found is not None
    assert found.threshold == threshold


def test_a_wait_whose_stages_are_all_short_is_below() -> None:
    by = made.request(start=1, issue=6, complete=11)
    one = judge()

    assert one.judge(made.timed(made.operation(13, [made.wait(0.5, 11, 12, by=by)]))) is None
    assert one.below == 1


def test_of_equal_gaps_the_first() -> None:
    line = made.timed(made.operation(20, [made.wait(0, 10, 20, StorageCause.THROTTLED)]))
    found = judge().judge(line)

    assert found is not None
    assert (found.layer, found.share) == ("page_cache", 0.5)


def test_a_gap_on_the_cpu_counts_without_the_waits_that_were_left_out() -> None:
    waited = [5 * MS + 24 * MS, 0, 0, 0, 0, 0, 0, 0]
    raw = made.operation(35, [made.wait(0, 5, 5)], all_waits=500, waited_ns=waited)
    found = judge().judge(made.timed(raw))

    assert found is not None
    assert (found.layer, found.gap_ns) == ("syscall", 30 * MS)  # surely 6 ms of its own

    waited = [7 * MS + 24 * MS, 0, 0, 0, 0, 0, 0, 0]
    raw = made.operation(36, [made.wait(0, 7, 7)], all_waits=500, waited_ns=waited)
    found = judge().judge(made.timed(raw))

    assert found is not None
    assert (found.layer, found.gap_ns) == ("filesystem", 7 * MS)


def test_an_operation_that_took_no_time_at_all() -> None:
    found = judge(0, 0).judge(made.timed(made.operation(0)))

    assert found is not None
    assert (found.gap_ns, found.share) == (0, 1.0)
