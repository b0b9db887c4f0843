"""Says where the data comes from: adds what is known of the host, and edits fixed attributes.

It does the work of two collector processors, with their option names: `resource`
(`attributes`: actions on keys) and, before it, `resourcedetection` (`detectors`, `override`).
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from opentelemetry.proto.common.v1.common_pb2 import KeyValue

from otel_oom.config.types import Violations
from otel_oom.pipeline import component, environment, otlp
from otel_oom.pipeline.consumer import Consumer
from otel_oom.pipeline.data import Batch, Signal
from otel_oom.processors.resource import detect

_LOG = logging.getLogger(__name__)

Detector = Literal["env", "host", "os"]
ActionName = Literal["insert", "update", "upsert", "delete"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One edit of every resource, as the collector's `resource` processor writes it."""

    key: str
    """The attribute. Required."""

    action: ActionName
    """`insert` if it is absent, `update` if it is there, `upsert` in both cases, or `delete`.
    Required."""

    value: str | bool | int | float | None = None
    """The new value; needed by all but `delete`."""

    def validate(self) -> Violations:
        """Yield what cannot work."""
        if not self.key:
            yield ("key",), "`key` must not be empty"
        if self.action == "delete" and self.value is not None:
            yield ("value",), f"`value` has no meaning for `action: delete` (key `{self.key}`)"
        if self.action != "delete" and self.value is None:
            yield (), f"`value` is missing: `action: {self.action}` of `{self.key}` needs one"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of the `resource` processor."""

    detectors: list[Detector] = dataclasses.field(default_factory=lambda: ["env", "host", "os"])
    """What is found out once, at the start; of two that know a key the first one counts. `env`:
    `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_SERVICE_NAME`; `host`: `host.name`, `host.id`,
    `host.arch`; `os`: `os.type`, `os.name`, `os.version`, `os.description`. Default: all three."""

    override: bool = True
    """Whether what was detected replaces what a resource already says. Default true."""

    root_path: str = "/"
    """Where the host's file system is mounted, e.g. `/hostfs` in a container; without it a
    container's own os and machine id are reported. Default `/`."""

    attributes: list[Action] = dataclasses.field(default_factory=list)
    """Edits made after the detection, in order. Default: none."""

    def validate(self) -> Violations:
        """Yield what cannot work."""
        if not Path(self.root_path).is_absolute():
            yield ("root_path",), f"`root_path` ({self.root_path}) must be an absolute path"


Attributes = dict[str, KeyValue]
Edit = Callable[[Attributes], object]


class ResourceProcessor:
    """Applies the same prepared edits to every resource."""

    def __init__(
        self, settings: component.Settings, config: Config, next_consumer: Consumer
    ) -> None:
        self._settings = settings
        self._config = config
        self._next = next_consumer
        self._edits: list[Edit] = []

    async def start(self) -> None:
        """Run the detectors and prepare the edits."""
        found = _detect(self._config)
        detected: ActionName = "upsert" if self._config.override else "insert"
        self._edits = [
            *(_edit(detected, key, value) for key, value in found.items()),
            *(_edit(item.action, item.key, item.value) for item in self._config.attributes),
        ]

    async def consume(self, batch: Batch) -> None:
        """Edit the batch's resources in place and pass it on."""
        for holder in _resource_holders(batch):
            self._apply(holder.resource)
        await self._next.consume(batch)

    async def shutdown(self) -> None:
        """Do nothing: nothing is held."""

    def _apply(self, resource: Any) -> None:
        attributes = {pair.key: pair for pair in resource.attributes}
        for edit in self._edits:
            edit(attributes)
        kept = list(attributes.values())
        del resource.attributes[:]
        resource.attributes.extend(kept)


def _detect(config: Config) -> dict[str, otlp.Value]:
    root = Path(config.root_path)
    run: Mapping[Detector, Callable[[], Mapping[str, otlp.Value]]] = {
        "env": lambda: environment.resource(os.environ, _LOG.warning),
        "host": lambda: detect.host(root),
        "os": lambda: detect.operating_system(root),
    }
    found: dict[str, otlp.Value] = {}
    for name in reversed(config.detectors):
        found.update(run[name]())
    return found


def _edit(action: ActionName, key: str, value: otlp.Value) -> Edit:
    """Prepare one edit of a resource's attributes, its `KeyValue` encoded once."""
    pair = otlp.key_value(key, value)
    match action:
        case "insert":
            return lambda attributes: attributes.setdefault(key, pair)
        case "update":
            return lambda attributes: attributes.update({key: pair} if key in attributes else {})
        case "upsert":
            return lambda attributes: attributes.update({key: pair})
        case "delete":
            return lambda attributes: attributes.pop(key, None)


def _resource_holders(batch: Batch) -> Any:
    """List the `ResourceLogs`, `ResourceSpans` or `ResourceMetrics` of a batch."""
    return getattr(batch.data, _RESOURCES[batch.signal])


_RESOURCES = {
    Signal.LOGS: "resource_logs",
    Signal.TRACES: "resource_spans",
    Signal.METRICS: "resource_metrics",
}

FACTORY = component.Factory(
    type_name="resource",
    kind=component.Kind.PROCESSOR,
    config=Config,
    create=ResourceProcessor,
    signals=dict.fromkeys(Signal, component.Stability.BETA),
    mutates=True,
)
