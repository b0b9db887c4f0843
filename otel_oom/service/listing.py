"""What is installed, as `otel-oom components` shows it: types, stability by signal, origin."""

from __future__ import annotations

from typing import Any

import otel_oom
from otel_oom.pipeline.component import Kind
from otel_oom.service.registry import Listed, Registry


def components(registry: Registry) -> dict[str, Any]:
    """Give the installed components as plain data for YAML, in the collector's order of kinds."""
    listed = registry.components()
    return {
        "buildinfo": {"command": "otel-oom", "version": otel_oom.__version__},
        **{kind.value: [_entry(one) for one in listed if one.kind is kind] for kind in Kind},
    }


def _entry(listed: Listed) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": listed.name, "distribution": listed.distribution}
    if listed.factory is None:
        return entry | {"error": listed.error}
    if listed.factory.aliases:
        entry["aliases"] = list(listed.factory.aliases)
    signals = listed.factory.signals.items()
    return entry | {"stability": {signal.value: level.value for signal, level in signals}}
