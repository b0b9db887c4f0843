"""Marks, deliveries and exits put together: one kill a victim, one episode a decision."""

from __future__ import annotations

from typing import Any

import pytest
from doubles import oom_ring
from doubles.oom_ring import SETTLE_EXIT_S, SETTLE_S

from otel_oom.bpf.events import OomMarkFlag, OomMemcgFlag
from otel_oom.receivers.oom import episodes, limit, records
from otel_oom.receivers.oom.kills import ALREADY_DYING, GROUP_MEMBER, PRIMARY, Assembler, Kill

GROUP = {"flags": int(OomMemcgFlag.GROUP | OomMemcgFlag.LOCKED), "id": 77}
FLAGS = oom_ring.base().flags


@pytest.fixture
def assembler() -> Assembler:
    return oom_ring.assembler()


def feed(assembler: Assembler, *ring: bytes, at_s: float = 0.0) -> None:
    for record in ring:
        assembler.take(records.decode(record), at_s)


def mark(tgid: int, **fields: Any) -> bytes:
    defaults = {"pid": tgid, "start_boot_ns": tgid, "boot_ns": oom_ring.base().boot_ns + tgid}
    return oom_ring.mark(tgid=tgid, **defaults | fields)


def delivered(tgid: int, args: bytes = b"hog\0") -> bytes:
    return oom_ring.delivered(args, tgid=tgid, start_boot_ns=tgid)


def exited(tgid: int) -> bytes:
    return oom_ring.exited(tgid=tgid, start_boot_ns=tgid)


def reported(assembler: Assembler, at_s: float = 0.0, *, flush: bool = False) -> list[Kill]:
    return assembler.ready(at_s, flush=flush)[0]


def pids(found: list[Kill]) -> list[int]:
    return [kill.mark.raw.tgid for kill in found]


def test_a_kill_whose_exit_was_seen_is_ready_at_once(assembler: Assembler) -> None:
    feed(assembler, mark(1), delivered(1), exited(1))
    reports, spans = assembler.ready(0.0)
    assert pids(reports) == pids(spans) == [1]
    assert reports[0].delivered is not None
    assert reports[0].exited is not None
    assert assembler.next_s() is None


def test_without_an_exit_it_is_reported_after_settle_and_its_span_ends_after_settle_exit(
    assembler: Assembler,
) -> None:
    feed(assembler, mark(1), at_s=3.0)
    assert assembler.ready(3.0) == ([], [])
    assert assembler.next_s() == 3.0 + SETTLE_S
    reports, spans = assembler.ready(3.0 + SETTLE_S)
    assert (pids(reports), spans) == ([1], [])
    assert assembler.next_s() == 3.0 + SETTLE_EXIT_S
    reports, spans = assembler.ready(3.0 + SETTLE_EXIT_S)
    assert (reports, pids(spans)) == ([], [1])
    assert spans[0].exited is None
    assert assembler.next_s() is None


def test_an_exit_after_the_report_ends_the_span(assembler: Assembler) -> None:
    feed(assembler, mark(1))
    assert pids(reported(assembler, SETTLE_S)) == [1]
    feed(assembler, exited(1), at_s=1.0)
    reports, spans = assembler.ready(1.0)
    assert (reports, pids(spans)) == ([], [1])
    assert spans[0].exited is not None


def test_an_exit_after_the_span_is_counted_and_nothing_else(assembler: Assembler) -> None:
    feed(assembler, mark(1))
    assembler.ready(SETTLE_EXIT_S)
    feed(assembler, exited(1), at_s=11.0)
    assert assembler.ready(11.0) == ([], [])
    assert assembler.tally.exits_without_mark == 1


def test_an_exit_before_settle_does_not_lose_a_delivery_that_came_first(
    assembler: Assembler,
) -> None:
    feed(assembler, delivered(1, b"early\0"), mark(1), exited(1))
    (kill,) = reported(assembler)
    assert kill.delivered is not None
    assert kill.delivered.args == ("early",)


def test_early_deliveries_are_kept_for_a_while_and_no_longer(assembler: Assembler) -> None:
    most = 1024
    for tgid in range(1, most + 2):
        feed(assembler, delivered(tgid))
    feed(assembler, mark(1), mark(2), exited(1), exited(2))
    first, second = reported(assembler)
    assert first.delivered is None
    assert second.delivered is not None


def test_reports_come_in_the_order_of_their_marks(assembler: Assembler) -> None:
    feed(assembler, mark(1), mark(2), mark(3), exited(3), exited(1), exited(2))
    assert pids(reported(assembler)) == [1, 2, 3]


def test_flush_gives_out_all_there_is_once(assembler: Assembler) -> None:
    feed(assembler, mark(1), mark(2), mark(3, flags=0), exited(2))
    reports, spans = assembler.ready(0.0, flush=True)
    assert pids(reports) == pids(spans) == [1, 2, 3]
    assert assembler.ready(0.0, flush=True) == ([], [])
    assert assembler.next_s() is None


def test_a_repeated_mark_of_one_process_is_one_kill(assembler: Assembler) -> None:
    feed(assembler, mark(1, anon_pages=5), mark(1, anon_pages=6), exited(1))
    (kill,) = reported(assembler)
    assert kill.mark.raw.anon_pages == 5
    assert assembler.tally.distinct == 1


def test_a_pid_that_comes_again_is_another_process(assembler: Assembler) -> None:
    feed(assembler, mark(1), exited(1), mark(1, start_boot_ns=999))
    feed(assembler, oom_ring.exited(tgid=1, start_boot_ns=999))
    first, second = reported(assembler)
    assert first.mark.identity == (1, 1)
    assert second.mark.identity == (1, 999)
    assert assembler.tally.distinct == 2


@pytest.mark.parametrize(("flags", "role"), [(0, PRIMARY), (2, ALREADY_DYING), (3, PRIMARY)])
def test_a_mark_without_a_kill_is_told_apart_where_that_is_known(
    assembler: Assembler, flags: int, role: str
) -> None:
    feed(assembler, mark(1, flags=FLAGS & ~3 | flags), exited(1))
    (kill,) = reported(assembler)
    assert kill.role == role
    assert kill.is_killed == (role == PRIMARY)
    assert kill.episode.kills == int(kill.is_killed)
    assert assembler.tally.already_dying == int(not kill.is_killed)


def test_two_plain_kills_are_two_episodes_even_with_one_trigger(assembler: Assembler) -> None:
    feed(assembler, mark(1), mark(2), exited(1), exited(2))
    first, second = reported(assembler)
    assert first.episode is not second.episode
    assert [first.role, second.role] == [PRIMARY, PRIMARY]
    assert assembler.tally.groups == 0


@pytest.mark.parametrize("decision", [0, 4])
def test_a_group_kill_is_one_episode(assembler: Assembler, decision: int) -> None:
    """The kernel counts the group's kill between the first mark and the second."""
    for tgid, count in (1, 0), (2, 1), (3, 1):
        group = oom_ring.memcgs(GROUP | {"group_kills": count})
        feed(assembler, mark(tgid, decision=decision, **group), exited(tgid))
    found = reported(assembler, SETTLE_S)
    assert [kill.role for kill in found] == [PRIMARY, GROUP_MEMBER, GROUP_MEMBER]
    assert {kill.episode.number for kill in found} == {1}
    assert found[0].episode.kills == 3
    assert found[0].episode.is_group
    assert assembler.tally.groups == 1


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"trigger_tid": 4242}, id="another trigger"),
        pytest.param({"group_kills": 5}, id="another group kill"),
    ],
)
def test_without_the_decision_a_new_trigger_or_count_is_a_new_episode(
    assembler: Assembler, other: dict[str, int]
) -> None:
    changed = dict(other)
    second = oom_ring.memcgs(GROUP | {"group_kills": changed.pop("group_kills", 1)})
    feed(assembler, mark(1, **oom_ring.memcgs(GROUP | {"group_kills": 1})))
    feed(assembler, mark(2, **second, **changed))
    one, two = reported(assembler, SETTLE_S)
    assert one.episode is not two.episode


@pytest.mark.parametrize(
    ("other", "is_new"), [({"decision": 8}, True), ({"trigger_tid": 4242}, False)]
)
def test_the_decision_tells_episodes_apart_and_nothing_else_does(
    assembler: Assembler, other: dict[str, int], *, is_new: bool
) -> None:
    group = oom_ring.memcgs(GROUP | {"group_kills": 1})
    feed(assembler, mark(1, **group | {"decision": 7}))
    feed(assembler, mark(2, **group | {"decision": 7} | other))
    one, two = reported(assembler, SETTLE_S)
    assert (one.episode is not two.episode) == is_new


def test_a_group_waits_for_its_members_though_the_first_has_exited(assembler: Assembler) -> None:
    feed(assembler, mark(1, **oom_ring.memcgs(GROUP | {"group_kills": 0})), exited(1))
    assert reported(assembler, 0.001) == []
    feed(assembler, mark(2, **oom_ring.memcgs(GROUP | {"group_kills": 1})), exited(2), at_s=0.015)
    assert reported(assembler, 0.03) == []
    found = reported(assembler, 0.035)
    assert pids(found) == [1, 2]
    assert found[0].episode.kills == 2


def test_a_group_that_never_ends_does_not_wait_longer_than_settle(assembler: Assembler) -> None:
    first: list[float] = []
    for step in range(40):
        at_s = step * 0.01
        group = oom_ring.memcgs(GROUP | {"group_kills": int(step > 0)})
        feed(assembler, mark(step + 1, **group), exited(step + 1), at_s=at_s)
        first += [at_s for kill in reported(assembler, at_s) if kill.mark.raw.tgid == 1]
    assert first == [SETTLE_S]


def test_the_group_is_the_highest_up_to_the_limits_owner() -> None:
    nested = oom_ring.memcgs(
        {"id": 1, "level": 3, "flags": OomMemcgFlag.GROUP},
        {"id": 2, "level": 2, "flags": OomMemcgFlag.GROUP},
        {"id": 3, "level": 1, "flags": OomMemcgFlag.GROUP},
        {"id": 4, "level": 0, "flags": OomMemcgFlag.GROUP},
    )
    found = records.decode(mark(1, **nested))
    assert isinstance(found, records.Mark)

    def group_of(owner: int | None) -> int:
        memcg = None if owner is None else found.memcgs[owner]
        group = episodes.group_memcg(found, limit.Limit("memcg", memcg))
        assert group is not None
        return group.id

    assert [group_of(owner) for owner in (0, 1, 2)] == [1, 2, 3]
    assert group_of(None) == 3  # the root is no group, whatever its flag
    plain = records.decode(mark(1, **oom_ring.memcgs({"flags": 0})))
    assert isinstance(plain, records.Mark)
    assert episodes.group_memcg(plain, limit.Limit()) is None


def test_a_mark_by_pid_is_joined_with_what_its_victim_tells_at_its_death(
    assembler: Assembler,
) -> None:
    feed(assembler, oom_ring.marked_by_pid(), oom_ring.at_delivery(), *oom_ring.captured()[1:])
    (kill,) = reported(assembler)
    early = records.decode(oom_ring.marked_by_pid())
    assert isinstance(early, records.Mark)
    assert kill.mark.raw.boot_ns == early.raw.boot_ns
    assert kill.mark.trigger == early.trigger
    assert records.text(kill.mark.victim.comm) == "worker"
    assert kill.mark.has(OomMarkFlag.AT_DELIVERY)
    assert assembler.tally.distinct == 1


def test_a_mark_by_pid_whose_victim_tells_nothing_is_reported_after_settle(
    assembler: Assembler,
) -> None:
    feed(assembler, oom_ring.marked_by_pid())
    assert assembler.next_s() == SETTLE_S
    assert assembler.ready(SETTLE_S / 2) == ([], [])
    (kill,) = reported(assembler, SETTLE_S)
    assert not kill.mark.has(OomMarkFlag.HAS_VICTIM)


def test_a_victims_own_tale_without_a_mark_is_a_kill_too(assembler: Assembler) -> None:
    feed(assembler, oom_ring.at_delivery(), *oom_ring.captured()[1:])
    (kill,) = reported(assembler)
    assert not kill.mark.trigger.tgid
    assert records.text(kill.mark.victim.comm) == "worker"
