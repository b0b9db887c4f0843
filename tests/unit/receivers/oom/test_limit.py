"""Whose limit it was, from marks made for each kind of evidence."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest
from doubles import oom_ring
from doubles.oom_ring import HAS

from otel_oom.bpf.events import OomMemcgFlag
from otel_oom.receivers.oom import limit, records

PLAIN = oom_ring.base().flags & ~HAS.HAS_DECISION
DECIDED = PLAIN | HAS.HAS_DECISION
UNLIMITED = limit.unlimited_pages(4096)
LOCKED = OomMemcgFlag.LOCKED
PATH = ("pods", "pod", "container")


def mark(
    *memcgs: dict[str, int],
    path: tuple[str, ...] = PATH,
    trigger: tuple[str, ...] | None = None,
    flags: int = PLAIN,
    **fields: Any,
) -> records.Mark:
    """A victim in the first of `memcgs`; `trigger`: where another process asked for memory."""
    who = {"trigger": oom_ring.base().victim} if trigger is None else {}
    raw = oom_ring.mark(path, trigger or (), flags, **oom_ring.memcgs(*memcgs), **who, **fields)
    found = records.decode(raw)
    assert isinstance(found, records.Mark)
    return found


def levels(*changes: dict[str, int]) -> list[dict[str, int]]:
    """Memcgs from the container up to the root; unlimited and unlocked where not said."""
    plain = {"flags": 0, "max_pages": UNLIMITED}
    return [
        plain | {"id": 10 + level, "level": level} | change
        for level, change in zip(range(len(changes) - 1, -1, -1), changes, strict=True)
    ]


def find(found: records.Mark, nodes: int = 1) -> limit.Limit:
    return limit.find(found, unlimited_pages=UNLIMITED, memory_nodes=nodes)


def owner(found: limit.Limit) -> int | None:
    return found.owner.id if found.owner else None


@pytest.mark.parametrize(
    ("number", "word"),
    [(0, "none"), (1, "cpuset"), (2, "memory_policy"), (3, "memcg"), (9, "unknown_9")],
)
def test_the_decision_tells_what_was_short(number: int, word: str) -> None:
    found = find(mark(*levels({}, {}), flags=DECIDED, decision_constraint=number))
    assert (found.constraint, owner(found), found.reason) == (word, None, "")


def test_the_decision_tells_the_owner() -> None:
    memcgs = levels({"flags": LOCKED}, {}, {}, {})
    found = find(mark(*memcgs, flags=DECIDED, decision_constraint=3, decision_memcg_id=12))
    assert (found.constraint, owner(found)) == ("memcg", 12)


def test_an_owner_above_the_levels_that_were_told_is_said_to_be_there() -> None:
    memcgs = levels({}, {})
    found = find(mark(*memcgs, flags=DECIDED, decision_constraint=3, decision_memcg_id=99))
    assert (found.constraint, owner(found)) == ("memcg", None)
    assert found.reason == "it is more than 2 levels above the victim's cgroup"


def test_the_highest_locked_memcg_is_the_owner() -> None:
    """The lock is taken on the owner and on all below it."""
    memcgs = levels({"flags": LOCKED}, {"flags": LOCKED, "max_pages": 100}, {}, {})
    found = find(mark(*memcgs))
    assert (found.constraint, owner(found)) == ("memcg", 12)


@pytest.mark.parametrize(
    ("trigger", "is_owner"),
    [
        (("pods", "pod", "container"), True),
        (("pods", "pod", "sidecar"), True),
        (("pods", "pod"), True),
        (("pods", "other", "container"), False),
        (("pods",), False),
        ((), False),
    ],
)
def test_a_lock_counts_only_if_the_trigger_is_below_it(
    trigger: tuple[str, ...], *, is_owner: bool
) -> None:
    """Else another OOM holds it, which waits for its turn."""
    memcgs = levels({"flags": LOCKED}, {"flags": LOCKED, "max_pages": 100}, {}, {})
    found = find(mark(*memcgs, trigger=trigger))
    assert owner(found) == (12 if is_owner else None)
    if not is_owner:
        assert found.constraint == ""
        assert "nothing else tells which limit it was" in found.reason
        assert found.constraint_reason


@pytest.mark.parametrize("flag", [HAS.PATH_CUT, HAS.TRIGGER_PATH_CUT])
def test_with_a_path_that_is_cut_it_cannot_be_told_who_is_below_what(flag: HAS) -> None:
    memcgs = levels({"flags": LOCKED}, {"flags": LOCKED, "max_pages": 100}, {}, {})
    found = find(mark(*memcgs, path=PATH[1:], trigger=PATH[1:], flags=PLAIN | flag))
    assert (found.constraint, owner(found)) == ("", None)


def test_where_no_memcg_has_a_limit_the_host_was_short() -> None:
    found = find(mark(*levels({}, {}, {}, {})))
    assert (found.constraint, owner(found), found.reason) == ("none", None, "")


def test_with_several_nodes_a_cpuset_or_a_policy_may_have_been_short() -> None:
    found = find(mark(*levels({}, {}, {}, {})), nodes=2)
    assert (found.constraint, owner(found), found.reason) == ("", None, "")
    assert "look the same" in found.constraint_reason


def test_a_limit_without_a_lock_or_a_decision_proves_nothing() -> None:
    found = find(mark(*levels({"max_pages": 100}, {}, {}, {})))
    assert (found.constraint, owner(found)) == ("", None)
    assert found.reason == found.constraint_reason != ""


def test_a_mark_without_memcgs_says_so() -> None:
    found = find(mark())
    assert (found.constraint, owner(found)) == ("", None)
    assert found.reason == "the kernel gave no memory cgroup"


def test_no_limit_is_what_the_kernel_means_by_it() -> None:
    """PAGE_COUNTER_MAX is LONG_MAX in pages; `max` and v1's 9223372036854771712 bytes are it."""
    assert limit.unlimited_pages(4096) * 4096 == 9223372036854771712
    assert limit.unlimited_pages(65536) * 65536 == 9223372036854710272


@pytest.mark.parametrize(
    ("text", "nodes"), [("0\n", 1), ("0-1\n", 2), ("0-1,4\n", 3), ("0,2,4-7\n", 6), ("\n", 1)]
)
def test_nodes_with_memory_are_counted(tmp_path: pathlib.Path, text: str, nodes: int) -> None:
    where = tmp_path / "sys/devices/system/node"
    where.mkdir(parents=True)
    (where / "has_memory").write_text(text)
    assert limit.memory_nodes(tmp_path) == nodes


def test_a_kernel_that_knows_no_nodes_has_one(tmp_path: pathlib.Path) -> None:
    assert limit.memory_nodes(tmp_path) == 1
