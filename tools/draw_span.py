"""Draws the spans of slow storage operations: a row a layer, a bar a gap, as docs/storage.md shows.

    tools/draw_span.py oom.jsonl storage.fsync > fsync.svg

Reads the lines that the `file` exporter wrote, and draws the slowest span of that name.
"""

from __future__ import annotations

import itertools
import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

WIDTH, LEFT, TOP, ROW = 900, 110, 58, 30
_RIGHT = 36
_TOLD_SHARE = 0.04
COLOURS = {
    "syscall": "#8d99ae",
    "page_cache": "#e9a23b",
    "filesystem": "#4c9f70",
    "journal": "#9b5de5",
    "block_queue": "#e4572e",
    "scheduler": "#d1495b",
    "device": "#2e86ab",
    "wakeup": "#b8a400",
    "memory": "#c2185b",
}


class Gap(NamedTuple):
    """A gap between two stages, in nanoseconds from the span's start."""

    start_ns: int
    end_ns: int
    end: str
    layer: str


def main(arguments: list[str]) -> int:
    """Draw the slowest span of a name."""
    path, name = arguments
    found = [span for span in spans(pathlib.Path(path)) if span["name"] == name]
    if not found:
        print(f"{path} has no span {name}", file=sys.stderr)
        return 1
    print(svg(max(found, key=_duration_ns)))
    return 0


def spans(path: pathlib.Path) -> Iterator[dict[str, Any]]:
    """All spans of a file of OTLP JSON."""
    for line in path.read_text().splitlines():
        for resource in json.loads(line).get("resourceSpans", ()):
            for scope in resource["scopeSpans"]:
                yield from scope["spans"]


def svg(span: dict[str, Any]) -> str:
    """The picture."""
    drawn = gaps(span)
    layers = [layer for layer in COLOURS if any(gap.layer == layer for gap in drawn)]
    height = TOP + ROW * len(layers) + 44
    total_ns = _duration_ns(span)
    size = f'viewBox="0 0 {WIDTH} {height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(LEFT, 22, title(span), size=15),
        _text(LEFT, 41, verdict(span), fill="#555555"),
    ]
    for row, layer in enumerate(layers):
        parts += _row(layer, TOP + ROW * row, [g for g in drawn if g.layer == layer], total_ns)
    parts += _axis(TOP + ROW * len(layers), total_ns)
    return "\n".join([*parts, "</svg>"])


def gaps(span: dict[str, Any]) -> list[Gap]:
    """The gaps between the span's events, each with the layer of the event that ends it."""
    start_ns = int(span["startTimeUnixNano"])
    events = [
        (int(event["timeUnixNano"]) - start_ns, event["name"], _attributes(event))
        for event in span["events"]
    ]
    return [
        Gap(before, at, name, attributes["storage.layer"])
        for (before, *_), (at, name, attributes) in itertools.pairwise(events)
        if at > before
    ]


def title(span: dict[str, Any]) -> str:
    """What was slow, and how long."""
    told = _attributes(span)
    who = f"{told.get('process.executable.name', '')} (pid {told.get('process.pid', '')})"
    return f"{span['name']} on {told.get('system.device')} by {who}: {_ms(_duration_ns(span))}"


def verdict(span: dict[str, Any]) -> str:
    """The verdict, in words."""
    told = _attributes(span)
    return (
        f"longest: {_ms(told['storage.delay.gap'] * 1e9)} in the layer "
        f"{told['storage.delay.layer']}, from {told['storage.delay.from']} to "
        f"{told['storage.delay.to']}"
    )


def _row(layer: str, top: int, drawn: list[Gap], total_ns: int) -> list[str]:
    parts = [_text(LEFT - 8, top + 19, layer, anchor="end")]
    parts.append(
        f'<line x1="{LEFT}" x2="{WIDTH - _RIGHT}" y1="{top + ROW}" y2="{top + ROW}" '
        f'stroke="#dddddd"/>'
    )
    for gap in drawn:
        left, right = _x(gap.start_ns, total_ns), _x(gap.end_ns, total_ns)
        parts.append(
            f'<rect x="{left:.1f}" y="{top + 4}" width="{max(right - left, 0.8):.1f}" '
            f'height="{ROW - 8}" fill="{COLOURS[layer]}"/>'
        )
        if gap.end_ns - gap.start_ns >= 3 * _TOLD_SHARE * total_ns:
            told = f"{gap.end} {_ms(gap.end_ns - gap.start_ns)}"
            parts.append(_text(left + 4, top + 19, told, fill="#ffffff"))
    return parts


def _axis(top: int, total_ns: int) -> list[str]:
    return [
        _text(
            _x(total_ns * part // 4, total_ns), top + 20, _ms(total_ns * part / 4), anchor="middle"
        )
        for part in range(5)
    ]


def _x(time_ns: float, total_ns: int) -> float:
    return LEFT + (WIDTH - LEFT - _RIGHT) * time_ns / total_ns


def _text(
    x: float, y: float, text: str, *, size: int = 12, fill: str = "#222222", anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y}" font-size="{size}" fill="{fill}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )


def _attributes(told: dict[str, Any]) -> dict[str, Any]:
    """Of a span or event: each value as its only field has it."""
    return {
        each["key"]: next(iter(each["value"].values()), None) for each in told.get("attributes", ())
    }


def _duration_ns(span: dict[str, Any]) -> int:
    return int(span["endTimeUnixNano"]) - int(span["startTimeUnixNano"])


def _ms(time_ns: float) -> str:
    return f"{time_ns / 1e6:.1f} ms"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
