"""Whom a kill concerns, and for how long, as others can ask for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from doubles import oom_ring
from doubles.oom_ring import HAS

from otel_oom.bpf.events import OomMemcgFlag
from otel_oom.pipeline.incidents import Incident
from otel_oom.receivers.oom import attributes, ids, incident, kills, limit, records

PLAIN = oom_ring.base().flags & ~HAS.HAS_DECISION
DECIDED = PLAIN | HAS.HAS_DECISION
PATH = ("pods", "pod", "container")
OFFSET_NS = 1_790_000_000_000_000_000
SETTLE_EXIT_S = 10.0
START_NS = oom_ring.base().boot_ns


def noted(ring: Iterable[bytes]) -> list[Incident | None]:
    """What is made of each kill whenever the assembler tells of it."""
    found: list[Incident | None] = []
    of = ids.Ids("boot")

    def examine(mark: records.Mark) -> tuple[limit.Limit, None]:
        unlimited = limit.unlimited_pages(attributes.PAGE_BYTES)
        return limit.find(mark, unlimited_pages=unlimited, memory_nodes=1), None

    def note(kill: kills.Kill) -> None:
        found.append(incident.of(kill, of, OFFSET_NS, SETTLE_EXIT_S))

    assembler = kills.Assembler(examine, settle_s=0.25, settle_exit_s=SETTLE_EXIT_S, note=note)
    for record in ring:
        assembler.take(records.decode(record), 0.0)
    assembler.ready(0.0, flush=True)
    return found


def mark(flags: int = DECIDED, path: tuple[str, ...] = PATH, **fields: Any) -> bytes:
    levels = [{"flags": 0, "id": 10 + level, "level": level} for level in (3, 2, 1, 0)]
    return oom_ring.mark(path, (), flags, **oom_ring.memcgs(*levels), **fields)


def only(ring: Iterable[bytes]) -> Incident:
    (found,) = noted(ring)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("fields", "cgroup"),
    [
        ({"decision_constraint": 3, "decision_memcg_id": 13}, "/pods/pod/container"),
        ({"decision_constraint": 3, "decision_memcg_id": 12}, "/pods/pod"),
        ({"decision_constraint": 3, "decision_memcg_id": 11}, "/pods"),
        ({"decision_constraint": 3, "decision_memcg_id": 99}, "/pods/pod/container"),
        ({"decision_constraint": 0, "decision_memcg_id": 0}, "/"),
        ({"decision_constraint": 1, "decision_memcg_id": 0}, "/pods/pod/container"),
    ],
    ids=["own limit", "pod's limit", "above", "limit not known", "host", "cpuset"],
)
def test_it_concerns_the_cgroup_whose_limit_was_hit(fields: dict[str, int], cgroup: str) -> None:
    assert only([mark(**fields)]).cgroup == cgroup


def test_without_a_decision_the_lock_tells_the_limit() -> None:
    locked = [
        {"flags": OomMemcgFlag.LOCKED if level == 2 else 0, "id": 10 + level, "level": level}
        for level in (3, 2, 1, 0)
    ]
    who = {"trigger": oom_ring.base().victim}
    assert only([oom_ring.mark(PATH, (), PLAIN, **oom_ring.memcgs(*locked), **who)]).cgroup == (
        "/pods/pod"
    )


@pytest.mark.parametrize("flags", [DECIDED | HAS.PATH_CUT, DECIDED & ~HAS.HAS_VICTIM])
def test_a_cgroup_that_is_not_known_from_the_root_on_is_not_noted(flags: int) -> None:
    fields = {"decision_constraint": 3, "decision_memcg_id": 13}
    assert set(noted([mark(flags, **fields)])) == {None}


def test_it_is_noted_at_the_mark_and_ends_with_the_exit() -> None:
    exit_ns = START_NS + 7_000_000
    first, second = noted([mark(), oom_ring.exited(boot_ns=exit_ns)])

    assert first is not None
    assert second is not None
    assert first.start_ns == second.start_ns == START_NS + OFFSET_NS
    assert first.end_ns == first.start_ns + 10 * 10**9
    assert second.end_ns == exit_ns + OFFSET_NS
    assert second == first._replace(end_ns=second.end_ns)


def test_its_ids_are_those_of_the_kills_span() -> None:
    raw = mark()
    encoder = oom_ring.encoder()
    (kill,) = oom_ring.assembled([raw])
    span = encoder.spans([kill], 0).data.resource_spans[0].scope_spans[0].spans[0]  # type: ignore[union-attr]

    found = incident.of(kill, encoder.ids, 0, SETTLE_EXIT_S)

    assert found is not None
    assert (found.trace_id, found.span_id, found.what) == (span.trace_id, span.span_id, span.name)
