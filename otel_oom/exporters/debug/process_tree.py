"""Draws the processes of an OOM kill, `oom.processes`, as a tree of parents and children."""

from __future__ import annotations

import collections
from collections.abc import Iterator, Mapping, Sequence

from otel_oom.pipeline import otlp, text

Process = Mapping[str, otlp.Value]
"""`{pid, parent_pid, name, memory (bytes), role}`; whatever is missing is not drawn."""

_BRANCH, _LAST, _BAR, _BLANK = "├─ ", "└─ ", "│  ", "   "
_MARKS = {"victim": "✗ "}


def lines(processes: Sequence[Process]) -> Iterator[str]:
    """Yield a line per process, each below its parent; every process exactly once."""
    children: dict[otlp.Value, list[Process]] = collections.defaultdict(list)
    for process in processes:
        children[process.get("parent_pid")].append(process)
    drawn: set[int] = set()
    for index, root in enumerate(roots := list(_roots(processes, children))):
        yield from _draw(root, children, drawn, "", last=index == len(roots) - 1)


def _roots(
    processes: Sequence[Process], children: Mapping[otlp.Value, Sequence[Process]]
) -> Iterator[Process]:
    """Yield those without a listed parent, and one of each circle (a pid may be reused)."""
    pids = {process.get("pid") for process in processes}
    seen: set[int] = set()
    parentless = [one for one in processes if one.get("parent_pid") not in pids]
    for process in [*parentless, *processes]:
        if id(process) not in seen:
            yield process
            _mark(process, children, seen)


def _mark(
    process: Process, children: Mapping[otlp.Value, Sequence[Process]], seen: set[int]
) -> None:
    waiting = [process]
    while waiting:
        one = waiting.pop()
        if id(one) not in seen:
            seen.add(id(one))
            waiting.extend(children.get(one.get("pid"), ()))


def _draw(
    root: Process,
    children: Mapping[otlp.Value, Sequence[Process]],
    drawn: set[int],
    indent: str,
    *,
    last: bool,
) -> Iterator[str]:
    """Draw a process and what is below it; a list of the open branches, not recursion."""
    waiting = [(root, indent, last)]
    while waiting:
        process, before, is_last = waiting.pop()
        if id(process) in drawn:
            continue
        drawn.add(id(process))
        yield before + (_LAST if is_last else _BRANCH) + _label(process)
        below = [one for one in children.get(process.get("pid"), ()) if id(one) not in drawn]
        inside = before + (_BLANK if is_last else _BAR)
        for index, child in enumerate(reversed(below)):
            waiting.append((child, inside, index == 0))


def _label(process: Process) -> str:
    role = text.safe(str(process.get("role") or ""))
    name = text.safe(str(process.get("name") or "?"))
    words = [f"{_MARKS.get(role, '')}{name}[{process.get('pid', '?')}]"]
    memory = process.get("memory")
    if isinstance(memory, int | float):
        words.append(text.size(memory))
    if role:
        words.append(f"({role})")
    return " ".join(words)
