"""When a kill is reported, and when its span is sent; times are given, nothing waits."""

from __future__ import annotations

import pytest
from doubles import oom_ring
from doubles.oom_ring import SETTLE_EXIT_S, SETTLE_S

from otel_oom.bpf.events import OomMarkFlag, OomMemcgFlag
from otel_oom.receivers.oom import kills, records


class Bench:
    """An assembler that is fed by pid, and tells by pid."""

    def __init__(self) -> None:
        self.assembler = oom_ring.assembler()
        self.marks = 0

    def mark(self, tgid: int, at_s: float, **fields: object) -> None:
        self.marks += 1
        boot_ns = oom_ring.base().boot_ns + self.marks
        self._take(oom_ring.mark(tgid=tgid, pid=tgid, boot_ns=boot_ns, **fields), at_s)

    def group_mark(self, tgid: int, at_s: float) -> None:
        flags = OomMemcgFlag.GROUP | OomMemcgFlag.LOCKED
        group = oom_ring.memcgs({"flags": flags, "group_kills": int(self.marks > 0)})
        self.mark(tgid, at_s, **group)

    def exit(self, tgid: int, at_s: float) -> None:
        self._take(oom_ring.exited(tgid=tgid), at_s)

    def ready(self, at_s: float, *, flush: bool = False) -> tuple[list[int], list[int]]:
        reports, spans = self.assembler.ready(at_s, flush=flush)
        return [k.mark.raw.tgid for k in reports], [k.mark.raw.tgid for k in spans]

    def _take(self, record: bytes, at_s: float) -> None:
        self.assembler.take(records.decode(record), at_s)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_kill_is_reported_with_its_exit(bench: Bench) -> None:
    bench.mark(1, 0.0)
    assert bench.ready(0.1) == ([], [])
    assert bench.assembler.next_s() == SETTLE_S
    bench.exit(1, 0.1)
    assert bench.ready(0.1) == ([1], [1])
    assert bench.assembler.next_s() is None


def test_a_kill_without_exit_is_reported_when_it_has_settled(bench: Bench) -> None:
    bench.mark(1, 1.0)
    assert bench.ready(1.0 + SETTLE_S) == ([1], [])
    assert bench.assembler.next_s() == 1.0 + SETTLE_EXIT_S
    assert bench.ready(5.0) == ([], [])
    assert bench.ready(1.0 + SETTLE_EXIT_S) == ([], [1])
    assert bench.assembler.next_s() is None


def test_the_span_of_a_reported_kill_is_sent_with_its_late_exit(bench: Bench) -> None:
    bench.mark(1, 0.0)
    assert bench.ready(SETTLE_S) == ([1], [])
    bench.exit(1, 2.0)
    assert bench.ready(2.0) == ([], [1])


def test_kills_are_told_in_the_order_of_their_marks(bench: Bench) -> None:
    for tgid in (3, 1, 2):
        bench.mark(tgid, 0.0)
    assert bench.ready(0.0) == ([], [])
    for tgid in (2, 3, 1):
        bench.exit(tgid, 0.1)
    assert bench.ready(0.1) == ([3, 1, 2], [3, 1, 2])


def test_a_group_waits_until_no_member_was_marked_for_a_while(bench: Bench) -> None:
    bench.group_mark(1, 0.0)
    bench.exit(1, 0.001)
    assert bench.ready(0.001) == ([], [])
    bench.group_mark(2, 0.015)
    bench.exit(2, 0.016)
    assert bench.ready(0.02) == ([], [])
    assert bench.assembler.next_s() == 0.035
    assert bench.ready(0.035) == ([1, 2], [1, 2])


def test_all_is_told_at_the_end(bench: Bench) -> None:
    bench.mark(1, 0.0)
    assert bench.ready(SETTLE_S) == ([1], [])
    bench.mark(2, 0.3)
    bench.mark(3, 0.3, flags=0)
    assert bench.ready(0.0, flush=True) == ([2, 3], [1, 2, 3])
    assert bench.ready(100.0, flush=True) == ([], [])


def test_marks_by_pid_are_reported_when_no_delivery_came(bench: Bench) -> None:
    without_victim = oom_ring.base().flags & ~OomMarkFlag.HAS_VICTIM
    bench.mark(1, 0.0, flags=without_victim)
    bench.mark(2, 0.1, flags=without_victim)
    assert bench.assembler.next_s() == SETTLE_S
    assert bench.ready(0.2) == ([], [])
    assert bench.ready(SETTLE_S) == ([1], [])
    assert bench.ready(0.1 + SETTLE_S) == ([2], [])


def test_a_process_marked_again_after_its_end_is_another_kill(bench: Bench) -> None:
    for at_s in (0.0, 1.0):
        bench.mark(1, at_s)
        assert bench.ready(at_s) == ([], [])  # waits on a timer
        bench.exit(1, at_s + 0.01)
        assert bench.ready(at_s + 0.01) == ([1], [1])
    assert bench.ready(SETTLE_EXIT_S * 3) == ([], [])


def test_kills_that_are_not_due_are_not_looked_at(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tgid in range(1000):
        bench.mark(tgid, 0.0)
    assert bench.ready(0.0) == ([], [])
    looked_at = []
    real = kills.Assembler._due_s

    def counted(self: kills.Assembler, kill: kills.Kill) -> float:
        looked_at.append(kill)
        return real(self, kill)

    monkeypatch.setattr(kills.Assembler, "_due_s", counted)
    bench.exit(500, 0.1)
    assert bench.ready(0.1) == ([500], [500])
    assert bench.assembler.next_s() == SETTLE_S
    assert len(looked_at) == 1
