"""One frame of `otel-oom top`: an answer of the agent, and what moved since the one before.

Names come from processes and files, which may be called anything: nothing of them is taken as
markup, and what a terminal would obey is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from otel_oom.pipeline import text
from otel_oom.top import interval
from otel_oom.top.interval import NOTHING, Row

_LINES_A_SECTION = 3
"""Above its rows: an empty one, the title and the names of the columns."""

_NS_PER_MB_S = 1e6
_ANY = 1 << 30
_CUT, _MOST_CHARACTERS = "file", 18
_LEFT = ("device", "operation", "call", "process", "layer", "file")


class _Section(NamedTuple):
    """A table with its title; `why_empty` in place of rows."""

    title: str
    columns: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    why_empty: str


def frame(
    before: Mapping[str, Any] | None,
    now: Mapping[str, Any],
    *,
    sort: str = "rate",
    height: int | None = None,
) -> RenderableType:
    """The frame; without an answer `before` it has no rates yet. `height` None: all rows."""
    lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in _header(now)]
    lines[0].stylize("bold")
    sections = list(_sections(before, now, sort))
    counts = [max(1, len(section.rows)) for section in sections]
    room = _ANY if height is None else height - len(lines) - _LINES_A_SECTION * len(sections)
    tables = (_table(*each) for each in zip(sections, shares(counts, room), strict=True))
    return Group(*lines, *(part for table in tables for part in table))


def shares(counts: Sequence[int], room: int) -> list[int]:
    """How many rows each section gets: as many as the others, or all that it has."""
    given = [0] * len(counts)
    for place in sorted(range(len(counts)), key=counts.__getitem__):
        left = sum(count == 0 for count in given)
        given[place] = max(1, min(counts[place], (room - sum(given)) // left))
    return given


def _header(now: Mapping[str, Any]) -> Iterable[str]:
    losses = ", ".join(f"{text.safe(name)} {view['lost']:.0f}" for name, view in _receivers(now))
    health = "" if now["ready"] else "; NOT READY, see `otel-oom doctor`"
    yield (
        f"otel-oom {text.safe(now['version'])} on {text.safe(now['host'])}, up "
        f"{_age(now['uptime_s'])}; lost in the kernel: {losses or 'not known'}{health}"
    )
    yield from (_kills(view) for view in interval.views(now, interval.OOM).values())
    if not interval.views(now, interval.STORAGE):
        yield "storage is not shown: the agent's pipelines have no receiver `storage`"


def _receivers(now: Mapping[str, Any]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    return ((name, view) for name, view in now["views"].items() if "lost" in view)


def _kills(view: Mapping[str, Any]) -> str:
    least, last = "at least " if view["is_at_least"] else "", view["last"]
    told = f"OOM kills in the last {_age(view['of_s'])}: {least}{view['kills']}"
    if not last:
        return told
    process, cgroup = text.safe(last["process"]), text.safe(last["cgroup"])
    return f"{told}, the last {_age(last['age_s'])} ago: {process} in {cgroup}"


def _sections(
    before: Mapping[str, Any] | None, now: Mapping[str, Any], sort: str
) -> Iterable[_Section]:
    found = interval.views(now, interval.STORAGE)
    earlier = interval.views(before, interval.STORAGE) if before else {}
    for name, view in found.items():
        of = f"{text.safe(name)}: " if len(found) > 1 else ""
        last = earlier.get(name, view)
        length_s = interval.seconds(last, view)
        rows = interval.rows(last, view, sort)
        over = f" over {length_s:.1f} s, by {sort}" if length_s else ""
        none = "none" if length_s else "being counted from now on"
        yield _requests(f"{of}block requests{over}", rows, _why_empty(view, "block", none))
        why_no_calls = _why_empty(view, "operations", none)
        yield _calls(f"{of}calls followed{over}", rows, view["sampled"], why_no_calls)
        yield _slowest(f"{of}slowest of the last {_age(view['slowest_of_s'])}", view["slowest"])


def _why_empty(view: Mapping[str, Any], tier: str, otherwise: str) -> str:
    return otherwise if tier in view["tiers"] else "cannot be seen; `otel-oom doctor` says why"


def _requests(title: str, rows: Iterable[Row], why_empty: str) -> _Section:
    columns = ("device", "operation", "/s", "MB/s")
    times = ("queue p50", "p99", "device p50", "p99")
    cells = [
        (*_name(row), _rate(row.bytes_rate / _NS_PER_MB_S), *_times(row, "queue", "device"))
        for row in rows
        if row.tier == interval.BLOCK
    ]
    return _Section(title, columns + times, cells, why_empty)


def _calls(title: str, rows: Iterable[Row], sampled: Mapping[str, int], why_empty: str) -> _Section:
    """Rates are of what was followed: how many more there were is not known."""
    cells = [
        (*_name(row), _share(sampled.get(row.operation, 1)), *_times(row, "call"))
        for row in rows
        if row.tier != interval.BLOCK
    ]
    return _Section(title, ("device", "call", "/s", "of", "p50", "p99"), cells, why_empty)


def _share(one_in: int) -> str:
    return "all" if one_in == 1 else f"1 in {one_in}"


def _slowest(title: str, found: Iterable[Mapping[str, Any]]) -> _Section:
    columns = ("ago", "took", "operation", "process", "layer", "share", "file")
    return _Section(title, columns, [_slow(one) for one in found], "none")


def _slow(one: Mapping[str, Any]) -> tuple[str, ...]:
    process = f"{text.safe(one['process'])}[{one['pid']}]" if one["pid"] else "(request)"
    verdict = (one["layer"], f"{one['share']:.0%}") if one["layer"] else ("not known", "")
    device = text.safe(one["device"])
    file = text.safe(one["path"]) or (f"inode {one['inode']}" if one["inode"] else "")
    where = f"{file} on {device}" if file and device else file or device
    operation = f"{one['operation']} {one['error']}".strip()
    took = text.duration(one["duration_s"])
    return _age(one["age_s"]), took, operation, process, *verdict, where


def _name(row: Row) -> tuple[str, str, str]:
    return text.safe(row.device) or "-", row.operation, _rate(row.rate)


def _times(row: Row, *kinds: str) -> tuple[str, ...]:
    found = (each for kind in kinds for each in row.times.get(kind, NOTHING))
    return tuple("-" if each is None else text.duration(each) for each in found)


def _rate(number: float) -> str:
    return f"{number:.1f}" if number < 100 else f"{number:.0f}"  # noqa: PLR2004 - three digits


def _age(seconds: float) -> str:
    """A time in its two greatest units, as `5 s`, `1 min`, `3 h 12 min`."""
    minutes, s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours // 24, "d"), (hours % 24, "h"), (minutes, "min"), (s, "s")]
    told = [f"{count} {unit}" for count, unit in parts if count]
    return " ".join(told[:2]) or "0 s"


def _table(section: _Section, count: int) -> Iterable[RenderableType]:
    hidden = f" ({count} of {len(section.rows)})" if count < len(section.rows) else ""
    title = f"\n{section.title}{hidden}" + (f": {section.why_empty}" if not section.rows else "")
    yield Text(title, style="bold", no_wrap=True, overflow="ellipsis")
    if section.rows:
        yield _rows(section.columns, section.rows[:count])


def _rows(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """What is too wide is cut from the file first: its column is the last."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name, cells in zip(columns, zip(*rows, strict=True), strict=True):
        longest = max(len(name), *map(cell_len, cells))
        table.add_column(
            name,
            no_wrap=name != _CUT,  # rich narrows those that may wrap; cells say that they do not
            justify="left" if name in _LEFT else "right",
            min_width=len(name) if name == _CUT else min(longest, _MOST_CHARACTERS),
        )
    for row in rows:
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
    return table
