"""The OpenTelemetry SDK exporters that are installed, by the names that users know.

The names are those of OTEL_LOGS_EXPORTER, OTEL_TRACES_EXPORTER and OTEL_METRICS_EXPORTER: entry
points, a group for each signal. Nothing is imported until one is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

from otel_oom import errors
from otel_oom.pipeline.data import Signal

GROUPS = {signal: f"opentelemetry_{signal}_exporter" for signal in Signal}


def by_name() -> dict[str, list[Signal]]:
    """Every name, with the signals that it has an exporter for."""
    found: dict[str, list[Signal]] = {}
    for signal, group in GROUPS.items():
        for entry in metadata.entry_points(group=group):
            signals = found.setdefault(entry.name, [])
            signals += [signal] if signal not in signals else []
    return found


def listed(found: dict[str, list[Signal]]) -> str:
    """The names in words: `console (logs, traces, metrics), zipkin (traces)`."""
    texts = [f"{name} ({', '.join(signals)})" for name, signals in sorted(found.items())]
    return ", ".join(texts) or "none"


def signals(name: str, wanted: Iterable[Signal]) -> list[Signal]:
    """Those that the name has an exporter for, of `wanted` if that names any."""
    has = by_name().get(name, [])
    chosen = list(wanted)
    return [signal for signal in has if signal in chosen or not chosen]


def load(name: str, signal: Signal) -> Callable[..., Any]:
    """The class, or function, that makes the exporter; else `errors.ComponentError`."""
    entries = {entry.value: entry for entry in _entries(name, signal)}
    if len(entries) != 1:
        what = " and ".join(entries) if entries else "nothing"
        raise errors.ComponentError(f"`{name}` stands for {what} in {GROUPS[signal]}")
    (entry,) = entries.values()
    try:
        made: Callable[..., Any] = entry.load()
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise errors.ComponentError(
            f"`{name}` ({entry.value}) cannot be imported: {cause}"
        ) from error
    return made


def _entries(name: str, signal: Signal) -> Iterable[metadata.EntryPoint]:
    return metadata.entry_points(group=GROUPS[signal], name=name)
