"""The processes that a kill was about, as `oom.processes` has them.

A storm's kills have their ancestors in common, so those are written once and kept.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable
from typing import NamedTuple

from otel_oom.bpf.events import OomProcess
from otel_oom.pipeline.otlp import wire_values
from otel_oom.receivers.oom import records
from otel_oom.receivers.oom.kills import Kill

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
ANCESTOR = "ancestor"
CONTAINER_INIT = "container_init"
INIT_PID = 1

_MOST_CHAINS, _MOST_KEPT = 256, 1024
_FIELDS = wire_values.attributes(
    1, {"pid": "int", "parent_pid": "int", "name": "string", "memory": "int", "role": "string"}
)
_PARENT_PID, _NAME, _ROLE = _FIELDS["parent_pid"], _FIELDS["name"], _FIELDS["role"]
_pid, _memory = _FIELDS["pid"].of, _FIELDS["memory"].of


class Chain(NamedTuple):
    """Processes, each one's parent after it, as elements of `oom.processes`.

    `pids` and `joined` are of all up to one that has no id, or that was there before.
    """

    first_pid: int
    elements: tuple[tuple[int, bytes], ...]
    pids: frozenset[int]
    joined: bytes


def encode(kill: Kill, ancestors: Chain) -> bytes:
    """The tree: victim, trigger, the ancestors of both, and others under the limit."""
    mark = kill.mark
    seen: set[int] = set()
    parts: list[bytes] = []
    if mark.victim.tgid:
        _add(mark.victim, "victim", ancestors, seen, parts)
    if not mark.trigger_is_victim:
        above = chain(mark.raw_trigger_ancestors, "trigger_ancestor")
        _add(mark.trigger, "trigger", above, seen, parts)
    if kill.context:
        parts += [
            _sibling(each.pid, each.parent_pid, each.name, each.memory)
            for each in kill.context.siblings
            if each.pid not in seen
        ]
    return b"".join(parts)


@functools.lru_cache(_MOST_CHAINS)
def chain(raw: bytes, role: str) -> Chain:
    """Ancestors as they stand in a mark.

    Kept by their bytes: to hash the processes takes longer than to write them.
    """
    processes = records.processes(raw)
    init = container_init(raw) if role == ANCESTOR else None
    parents = [*(process.tgid for process in processes[1:]), 0]
    elements = tuple(
        [
            (
                process.tgid,
                _ancestor(
                    process.tgid,
                    parent,
                    process.comm,
                    process.rss_pages,
                    CONTAINER_INIT if process == init else role,
                ),
            )
            for process, parent in zip(processes, parents, strict=False)
        ]
    )
    pids: set[int] = set()
    parts: list[bytes] = []
    _add_each(elements, pids, parts)
    first_pid = processes[0].tgid if processes else 0
    return Chain(first_pid, elements, frozenset(pids), b"".join(parts))


@functools.lru_cache(_MOST_CHAINS)
def container_init(raw: bytes) -> OomProcess | None:
    """The nearest ancestor that is PID 1 of a PID namespace which is not the host's."""
    for process in records.processes(raw):
        if process.vpid == INIT_PID:
            return process if process.tgid != INIT_PID else None
    return None


def _add(
    process: OomProcess, role: str, ancestors: Chain, seen: set[int], parts: list[bytes]
) -> None:
    """A process and its ancestors, up to one that was seen."""
    if not process.tgid or process.tgid in seen:
        return
    seen.add(process.tgid)
    parent_pid, memory = ancestors.first_pid, process.rss_pages * PAGE_BYTES
    parts.append(_process(process.tgid, parent_pid, records.text(process.comm), memory, role))
    if seen.isdisjoint(ancestors.pids):
        seen |= ancestors.pids
        parts.append(ancestors.joined)
    else:
        _add_each(ancestors.elements, seen, parts)


def _add_each(elements: Iterable[tuple[int, bytes]], seen: set[int], parts: list[bytes]) -> None:
    for pid, encoded in elements:
        if not pid or pid in seen:
            return
        seen.add(pid)
        parts.append(encoded)


@functools.lru_cache(_MOST_KEPT)
def _ancestor(pid: int, parent_pid: int, comm: bytes, rss_pages: int, role: str) -> bytes:
    """Where each victim has a parent of its own, those above it are the same: a third less."""
    return _process(pid, parent_pid, records.text(comm), rss_pages * PAGE_BYTES, role)


def _process(pid: int, parent_pid: int, name: str, memory: int, role: str) -> bytes:
    fields = (_pid(pid), _PARENT_PID[parent_pid], _NAME[name], _memory(memory), _ROLE[role])
    return wire_values.map_element(b"".join(fields))


@functools.lru_cache(_MOST_KEPT)
def _sibling(pid: int, parent_pid: int, name: str, memory: int) -> bytes:
    """One of those that the kills of a storm have in common."""
    return _process(pid, parent_pid, name, memory, "sibling")
