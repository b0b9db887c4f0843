"""The stages of an operation in OTLP's wire form: on its span, and on its log record.

Operations whose stages are of the same kinds in the same order differ in nothing but times. So
all the rest is made once for each such shape and kept, and the times are packed into it in one
go: an fsync's 35 stages take a tenth of what they take one by one.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from otel_oom import semconv
from otel_oom.pipeline.otlp import wire, wire_values
from otel_oom.receivers.storage.stages import Kind

_MOST_KEPT = 1024
_UINT64_MAX = 2**64 - 1
_NS_PER_S = 1e9
_EIGHT_BYTES = bytes(8)

# Fields of `Span` and `Span.Event`, and of `LogRecord` (opentelemetry-proto).
_EVENTS, _TIME, _NAME, _EVENT_ATTRIBUTES, _LOG_ATTRIBUTES = 11, 1, 2, 3, 6
_MAP_ENTRIES = 1

_EVENT_LAYER = wire_values.attributes(_EVENT_ATTRIBUTES, {semconv.LAYER: "string"})[semconv.LAYER]
_ENTRY = wire_values.attributes(
    _MAP_ENTRIES, {"name": "string", "layer": "string", "offset": "double"}
)
_STAGES = wire_values.attributes(_LOG_ATTRIBUTES, {semconv.STAGES: "map[]"})[semconv.STAGES]


class _Template:
    """Bytes with numbers of eight bytes between them, one after each chunk but the last."""

    def __init__(self, chunks: Sequence[bytes], code: str) -> None:
        form = code.join(f"{len(chunk)}s" for chunk in chunks)
        self._pack = struct.Struct(f"<{form}").pack
        self._parts: list[bytes | int | float] = [b""] * (2 * len(chunks) - 1)
        self._parts[::2] = chunks

    def filled(self, numbers: Iterable[float]) -> bytes:
        """The bytes with these numbers; `struct.error` if one does not fit."""
        parts = self._parts.copy()
        parts[1::2] = numbers
        return self._pack(*parts)


class Shape(NamedTuple):
    """What operations of the same stages share."""

    events: _Template
    stages: _Template


class Shapes(dict[tuple[Kind, ...], Shape]):
    """Shapes by their kinds, made when first asked for; bounded."""

    def __missing__(self, kinds: tuple[Kind, ...]) -> Shape:
        if len(self) >= _MOST_KEPT:
            self.clear()
        made = self[kinds] = Shape(_events(kinds), _stages(kinds))
        return made

    def span_events(self, kinds: list[Kind], times_unix_ns: list[int]) -> bytes:
        """The events of a `Span`; of times beyond 64 bits the lowest 64."""
        template = self[tuple(kinds)].events
        try:
            return template.filled(times_unix_ns)
        except struct.error:
            return template.filled([time_ns & _UINT64_MAX for time_ns in times_unix_ns])

    def log_stages(self, kinds: list[Kind], times_ns: list[int]) -> bytes:
        """The attribute `storage.stages` of a `LogRecord`: offsets from the first stage."""
        first_ns = times_ns[0]
        offsets = [(time_ns - first_ns) / _NS_PER_S for time_ns in times_ns]
        return self[tuple(kinds)].stages.filled(offsets)


def _events(kinds: Iterable[Kind]) -> _Template:
    time = wire.tag(_TIME, wire.EIGHT_BYTES)
    before, after = [], []
    for kind in kinds:
        rest = wire.text(_NAME, kind.name) + _EVENT_LAYER[kind.layer]
        size_bytes = len(time) + len(_EIGHT_BYTES) + len(rest)
        before.append(wire.tag(_EVENTS, wire.LENGTH) + wire.varint(size_bytes) + time)
        after.append(rest)
    return _Template(_joined(before, after), "Q")


def _stages(kinds: Iterable[Kind]) -> _Template:
    heads = []
    for kind in kinds:
        entries = (_ENTRY["name"][kind.name], _ENTRY["layer"][kind.layer], _ENTRY["offset"].of(0.0))
        heads.append(_without_number(wire_values.map_element(b"".join(entries))))
    whole = _STAGES.of(b"".join(head + _EIGHT_BYTES for head in heads))
    start = whole[: len(whole) - sum(len(head) + len(_EIGHT_BYTES) for head in heads)]
    heads[0] = start + heads[0]
    return _Template([*heads, b""], "d")


def _without_number(element: bytes) -> bytes:
    """An element without its last eight bytes, which are its number."""
    return element[: -len(_EIGHT_BYTES)]


def _joined(before: list[bytes], after: list[bytes]) -> list[bytes]:
    """What stands between the numbers: the end of one event and the start of the next."""
    return list(map(operator.add, [b"", *after], [*before, b""]))
