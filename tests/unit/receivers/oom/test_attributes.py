"""What is missing of a kill is named with its reason, and nothing else is."""

from __future__ import annotations

import itertools

import pytest
from doubles import oom_ring, oom_told

from otel_oom.receivers.oom import attributes
from otel_oom.receivers.oom.context import Pressure

KILLS = oom_ring.variants()
NO_HOOK = "oom_kill_process cannot be hooked on this kernel"


def missing(name: str) -> dict[str, str]:
    """`oom.missing` of a variant's only kill, by what is missing."""
    (kill,) = oom_told.of(*KILLS[name])
    return dict(line.split(": ", 1) for line in kill.get("log oom.missing", []))


@pytest.mark.parametrize(
    ("name", "key", "reason"),
    [
        ("marked by pid", "process.*", "this kernel's hook gives a pid alone, and the victim was"),
        ("marked by pid", "oom.cgroup.*", "the kernel gave no memory cgroup"),
        ("path cut", "process.linux.cgroup", "longer than 4 KiB: its root end is cut"),
        ("path cut", "oom.trigger.cgroup", "longer than 4 KiB: its root end is cut"),
        ("arguments cut", "process.command_args", "cut, the whole has 9000 bytes"),
        ("no delivery", "process.command_args", "the victim was gone before it could be read"),
        ("arguments empty", "process.command_args", "the victim was gone before it could be"),
        ("no exit", "process.exit.code", "the victim's exit was not seen in time"),
        ("no memory", "oom.victim.memory.*", "the victim had let go of its memory"),
        ("delivered, never marked", "oom.victim.memory.*", "as of the SIGKILL's delivery"),
        ("delivered, never marked", "oom.trigger.*", "the kernel's mark of this victim was not"),
        ("trigger unknown", "oom.trigger.*", "the kernel's mark of this victim was not seen"),
        ("limit unknown", "oom.constraint", NO_HOOK),
        ("limit unknown", "oom.limit.*", NO_HOOK),
        ("captured", "oom.allocation.*", NO_HOOK),
        ("captured", "oom.victim.score", NO_HOOK),
        ("already dying", "oom.allocation.*", "oom_kill_process was not seen"),
        ("no flags", "oom.episode.role", "taken as a kill"),
        ("captured", "oom.cgroup.memory.*", "could not be read before the victim's exit"),
        ("captured", "oom.psi.*", "was not read"),
        ("captured", "linux.psi.*", "was not read"),
        ("context after exit", "oom.cgroup.memory.*", "could not be read before the victim's"),
        (
            "context of v1",
            "oom.cgroup.memory.{shmem,slab,kernel_stack,page_tables}",
            "memory.stat of cgroup v1 does not tell",
        ),
        ("context of v1", "oom.psi.*", "cgroup v1 has no pressure files"),
        ("context of v1", "linux.psi.*", "memory: No such file or directory"),
        ("decision unknown", "oom.limit.*", "it is more than 3 levels above the victim's cgroup"),
    ],
)
def test_what_is_missing_has_its_reason(name: str, key: str, reason: str) -> None:
    assert missing(name)[key].startswith(reason)


def test_nothing_is_missing_where_everything_was_had() -> None:
    everything = oom_ring.context(host_pressure=Pressure(1.0, 2.0))
    ring = [oom_ring.mark(flags=0x40F | 8, decision_memcg_id=0), *oom_ring.captured()[1:]]
    (kill,) = oom_told.of(ring, everything)
    assert "log oom.missing" not in kill
    assert kill["log linux.psi.memory.full.avg10"] == 2.0
    assert kill["log oom.cgroup.memory.page_tables"] == 8192


@pytest.mark.parametrize(("status", "code"), [(9, 137), (11 | 0x80, 139), (3 << 8, 3), (0, 0)])
def test_exit_codes(status: int, code: int) -> None:
    assert attributes.exit_code(status) == code


def tree(name: str) -> list[dict[str, object]]:
    (kill,) = oom_told.of(*KILLS[name])
    return list(kill["log oom.processes"])


def test_the_tree_has_each_process_once() -> None:
    for name in KILLS:
        for kill in oom_told.of(*KILLS[name]):
            pids = [process["pid"] for process in kill["log oom.processes"]]
            assert len(set(pids)) == len(pids), name


def test_the_tree_goes_from_the_victim_up_then_to_the_trigger() -> None:
    roles = [process["role"] for process in tree("captured")]
    assert roles[0] == "victim"
    assert roles.count("trigger") == 1
    assert set(roles[1 : roles.index("trigger")]) == {"ancestor"}


def test_a_parent_in_the_tree_is_the_next_process() -> None:
    chain = [process for process in tree("captured") if process["role"] in {"victim", "ancestor"}]
    for process, parent in itertools.pairwise(chain):
        assert process["parent_pid"] == parent["pid"]


def test_siblings_leave_out_who_is_told_of_already() -> None:
    siblings = [process for process in tree("context") if process["role"] == "sibling"]
    assert [process["pid"] for process in siblings] == [90001, 90002]
    assert siblings[0] == {
        "pid": 90001,
        "parent_pid": 90000,
        "name": "sib\nling",
        "memory": 123 << 12,
        "role": "sibling",
    }


def test_a_tree_of_one_that_triggered_its_own_kill() -> None:
    assert [process["role"] for process in tree("tree of one")] == ["victim"]
