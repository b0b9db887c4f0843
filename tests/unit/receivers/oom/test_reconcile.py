"""The identities in the cases that matter: what is missing, where, and what is no difference."""

from __future__ import annotations

import dataclasses
import pathlib

import pytest
from doubles.oom_kernel import quiet_agent, settle

from otel_oom.receivers.oom import cgroups, reconcile


def test_a_kill_that_only_the_kernel_saw_is_told_with_its_cgroup() -> None:
    kernel, agent = quiet_agent()
    kernel.count_kill(12)
    agent.check()
    assert agent.missed == []
    agent.check()
    (missed,) = agent.missed
    assert (missed.count, missed.reason, missed.cgroup) == (1, reconcile.NOT_SEEN, "/c12")
    assert missed.kill_count == 1


def test_a_kill_lost_in_the_ring_is_told_as_that() -> None:
    kernel, agent = quiet_agent()
    kernel.kill(11, lost=True)
    kernel.kill(11)
    settle(agent)
    (missed,) = agent.missed
    assert (missed.count, missed.reason, missed.cgroup) == (1, reconcile.RING_OVERFLOW, "/c11")
    assert agent.told == 2


def test_a_lost_mark_of_a_dying_process_is_no_missed_kill() -> None:
    kernel, agent = quiet_agent()
    kernel.already_dying(11, lost=True)
    settle(agent)
    assert agent.missed == []


def test_a_group_kill_that_counts_twice_is_no_difference() -> None:
    kernel, agent = quiet_agent()
    kernel.group_kill(11, 3, twice=True, lost=(False,) * 3)
    settle(agent)
    assert (agent.told, agent.missed) == (3, [])


def test_a_kill_that_hides_behind_a_group_kill_is_found_by_its_cgroup() -> None:
    """The host's sum alone would take it for the first victim's second count."""
    kernel, agent = quiet_agent()
    kernel.group_kill(11, 2, twice=False, lost=(False,) * 2)
    kernel.kill(12)
    kernel.count_kill(12)
    settle(agent)
    agent.check()
    (missed,) = agent.missed
    assert (missed.count, missed.reason, missed.cgroup) == (1, reconcile.NOT_SEEN, "/c12")
    assert agent.told == kernel.true_kills == 4


def test_a_cgroup_whose_group_kill_is_explained_has_no_allowance_left() -> None:
    kernel, agent = quiet_agent()
    kernel.group_kill(11, 2, twice=False, lost=(False,) * 2)
    settle(agent)
    agent.check()
    kernel.count_kill(11)
    kernel.kill(11)
    settle(agent)
    agent.check()
    assert agent.told == kernel.true_kills == 4


def test_missed_kills_wait_for_the_books_to_be_quiet_but_not_for_ever() -> None:
    """A kill on its way makes its cgroup look as if it had one too many."""
    kernel, agent = quiet_agent(cgroups.V1)
    kernel.count_kill(12)
    agent.check()
    for _ in range(reconcile._PATIENCE_CHECKS):
        kernel.kill(11)
        agent.check()
        assert agent.missed == []
    kernel.kill(11)
    agent.check()
    (missed,) = agent.missed
    assert (missed.count, missed.cgroup) == (1, None)
    settle(agent)
    assert agent.told == kernel.true_kills


def test_kills_around_the_stop_are_told_by_it_or_by_the_next_start_but_once() -> None:
    kernel, agent = quiet_agent()
    kernel.count_kill(12)
    agent.stop(before=11, after=13)
    down = reconcile.since_last_run(agent.saved(), kernel.vmstat, kernel.counts())
    assert agent.told_kills == 1
    assert agent.told + sum(each.count for each in down) == kernel.true_kills == 3
    assert {each.reason for each in down} == {reconcile.AGENT_DOWN}


def test_a_kill_that_nobody_saw_is_told_at_the_stop_though_no_check_saw_it_twice() -> None:
    kernel, agent = quiet_agent()
    kernel.count_kill(12)
    agent.stop()
    assert [(m.count, m.cgroup, m.reason) for m in agent.missed] == [(1, "/c12", "not_seen")]


def test_what_is_not_reported_yet_is_not_saved_as_told() -> None:
    """An agent that is killed with a kill in its hands has not told it."""
    kernel, agent = quiet_agent()
    kernel.kill(11)
    agent.check()
    agent.drain()
    agent.check()
    saved = agent.saved()
    down = reconcile.since_last_run(saved, kernel.vmstat, kernel.counts())
    assert [(m.count, m.cgroup) for m in down] == [(1, "/c11")]
    agent.report()
    agent.check()
    assert reconcile.since_last_run(agent.saved(), kernel.vmstat, kernel.counts()) == []


def test_a_group_kill_told_by_the_last_run_takes_no_blame_for_one_in_another_cgroup() -> None:
    kernel, agent = quiet_agent()
    kernel.group_kill(11, 3, twice=True, lost=(False,) * 3)
    settle(agent)
    agent.stop()
    kernel.count_kill(13)
    down = reconcile.since_last_run(agent.saved(), kernel.vmstat, kernel.counts())
    assert [(m.count, m.cgroup) for m in down] == [(1, "/c13")]


def test_more_victims_than_marks_is_a_bug_of_ours_once_two_checks_see_it() -> None:
    kernel, agent = quiet_agent()
    kernel.kill(11)
    agent.drain()
    agent.report()
    kernel.counters = kernel.counters._replace(marks=0)
    tally = agent.assembler.tally
    first = agent.books.check(kernel.counters, tally, kernel.vmstat, 0)
    second = agent.books.check(kernel.counters, tally, kernel.vmstat, 0)
    assert (first.own_difference, second.own_difference) == (0, 1)


def test_more_marks_than_the_kernel_counted_is_a_bug_of_ours() -> None:
    kernel, agent = quiet_agent()
    kernel.mark_kill(11)
    agent.drain()
    agent.report()
    tally = agent.assembler.tally
    agent.books.check(kernel.counters, tally, kernel.vmstat, 0)
    second = agent.books.check(kernel.counters, tally, kernel.vmstat, 0)
    assert second.surplus == 1


def test_marks_of_which_nothing_told_whether_they_were_kills_are_no_surplus() -> None:
    kernel, agent = quiet_agent()
    kernel.mark_kill(11)
    kernel.counters = kernel.counters._replace(unknown=1)
    agent.drain()
    agent.report()
    tally = agent.assembler.tally
    agent.books.check(kernel.counters, tally, kernel.vmstat, 0)
    assert agent.books.check(kernel.counters, tally, kernel.vmstat, 0).surplus == 0


def test_the_summary_line_has_the_terms() -> None:
    kernel, agent = quiet_agent()
    kernel.kill(11)
    kernel.already_dying(11)
    kernel.repeat()
    settle(agent)
    sums = agent.books.sums(kernel.counters, agent.assembler.tally, kernel.vmstat)
    assert sums.line() == (
        "victims 2 + lost in the ring 0 = marks 3 - repeated 1; kernel's kills 1 in [1, 1] "
        "(already dying 1, group kills 0)"
    )


@pytest.fixture
def proc(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "proc").mkdir()
    return tmp_path / "proc/vmstat"


def test_vmstat_is_read_anew_and_has_no_kills_where_the_kernel_counts_none(
    proc: pathlib.Path,
) -> None:
    proc.write_text("nr_free_pages 1\noom_kill 7\nnuma_hit 2\n")
    vmstat = reconcile.Vmstat(proc.parent.parent)
    assert vmstat.kills() == 7
    proc.write_text("nr_free_pages 1\nnot_oom_kill 9\n")
    assert vmstat.kills() == 0
    vmstat.close()


def test_vmstat_of_this_machine_is_a_number() -> None:
    vmstat = reconcile.Vmstat(pathlib.Path("/"))
    said = [
        line
        for line in pathlib.Path("/proc/vmstat").read_text().splitlines()
        if line.startswith("oom_kill ")
    ]
    assert vmstat.kills() >= int(said[0].split()[1]) if said else vmstat.kills() == 0
    vmstat.close()


def test_a_saved_state_survives_its_way_through_a_dictionary() -> None:
    kernel, agent = quiet_agent()
    kernel.kill(11)
    settle(agent)
    saved = agent.saved()
    assert dataclasses.asdict(saved) == {
        "boot_id": "boot",
        "kills": 1,
        "cgroups": {11: 1},
        "saved_unix_ns": 0,
    }
