"""The `service` section: what runs, how it is joined, and what the agent tells of itself."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from otel_oom.config import problems
from otel_oom.config.types import ComponentId, Duration, Secret, Violations
from otel_oom.pipeline import weights
from otel_oom.pipeline.component import Factory, Kind
from otel_oom.pipeline.data import Signal

PIPELINE_KINDS = (Kind.RECEIVER, Kind.PROCESSOR, Kind.EXPORTER)
"""The kinds that a pipeline names, in the order in which a batch meets them."""


class Configured(NamedTuple):
    """A component of the configuration: how it is made, and what the user says of it."""

    factory: Factory
    config: Any


Components = Mapping[ComponentId, Configured]


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class PipelineId:
    """`signal[/name]`, as the collector writes it."""

    signal: Signal
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> PipelineId:
        """Read an id; `ValueError` says what is wrong with it."""
        parsed = ComponentId.parse(text)
        if parsed.type not in list(Signal):
            raise ValueError(f"the signal must be one of {', '.join(Signal)}")
        return cls(Signal(parsed.type), parsed.name)

    def __str__(self) -> str:
        return f"{self.signal}/{self.name}" if self.name else str(self.signal)


class LogLevel(enum.StrEnum):
    """The least severe of the agent's own log lines that is written."""

    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


class Protocol(enum.StrEnum):
    """OTLP's transports, spelled as `OTEL_EXPORTER_OTLP_PROTOCOL` spells them."""

    GRPC = "grpc"
    HTTP = "http/protobuf"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Logs:
    """The agent's own log."""

    level: LogLevel = LogLevel.INFO
    """Least severe line that is written: `debug`, `info`, `warn` or `error`. Default `info`."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """Where the agent's own metrics go; without an endpoint the health answer has them."""

    endpoint: str | None = None
    """OTLP endpoint as a URL. Default none: nothing is sent, and no SDK is loaded."""

    protocol: Protocol = Protocol.GRPC
    """`grpc` or `http/protobuf`. Default `grpc`, which costs 10 MiB more than HTTP."""

    interval: Duration = Duration(60.0)
    """Time between two exports. Default `60s`; shorter shows more and sends more."""

    headers: Mapping[str, Secret] = dataclasses.field(default_factory=dict)
    """Headers of each request, mostly for authorization. Default none; never printed."""

    insecure: bool = False
    """Send without TLS. Default false; true is for a collector on the same host."""

    def validate(self) -> Violations:
        """The interval must let time pass."""
        if self.interval <= 0:
            yield ("interval",), "`interval` must be greater than 0"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What the agent tells about itself."""

    logs: Logs = dataclasses.field(default_factory=Logs)
    """The agent's own log."""

    metrics: Metrics = dataclasses.field(default_factory=Metrics)
    """The agent's own metrics."""

    resource: Mapping[str, str | int | float | bool] = dataclasses.field(default_factory=dict)
    """Attributes of the agent itself beside `service.name`. Default none."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Pipeline:
    """One path of one signal: its ids in the order in which a batch meets them."""

    receivers: tuple[ComponentId, ...] = ()
    """Where the data comes from; at least one."""

    processors: tuple[ComponentId, ...] = ()
    """What changes it, in this order. Default none."""

    exporters: tuple[ComponentId, ...] = ()
    """Where it goes; at least one, and each gets everything."""

    weight: int | None = None
    """How urgent it is, 1 to 10: a queue serves by weight, and what finds no room goes lowest
    weight first; 10 is on the disk before it counts as accepted. Default by what comes in: OOM
    kills 10, other logs and spans 5, metrics 3."""

    def ids(self) -> Iterator[tuple[Kind, int, ComponentId]]:
        """Every reference, with its kind and its index in that kind's list."""
        for kind in PIPELINE_KINDS:
            for index, id_ in enumerate(getattr(self, kind)):
                yield kind, index, id_

    def validate(self) -> Violations:
        """A source, a destination, and no component twice."""
        for kind in (Kind.RECEIVER, Kind.EXPORTER):
            if not getattr(self, kind):
                yield (), f"needs at least one of `{kind}`"
        seen = set()
        for kind, index, id_ in self.ids():
            if (kind, id_) in seen:
                yield (str(kind), index), f"`{id_}` is in `{kind}` twice"
            seen.add((kind, id_))
        if self.weight is not None and not weights.LEAST <= self.weight <= weights.MOST:
            text = f"`weight` ({self.weight}) must be within {weights.LEAST} and {weights.MOST}"
            yield ("weight",), text


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """What runs."""

    extensions: tuple[ComponentId, ...] = ()
    """Extensions to start, in this order. Default none."""

    pipelines: Mapping[PipelineId, Pipeline] = dataclasses.field(default_factory=dict)
    """The pipelines by `signal[/name]`; at least one."""

    telemetry: Telemetry = dataclasses.field(default_factory=Telemetry)
    """What the agent tells about itself."""

    shutdown_timeout: Duration = Duration(10.0)
    """Time for a stop to send what is held. Default `10s`; what is left then is counted as dropped
    if it is in memory, and stays where it is in a storage."""

    def validate(self) -> Violations:
        """Nothing runs twice."""
        for index, id_ in enumerate(self.extensions):
            if id_ in self.extensions[:index]:
                yield ("extensions", index), f"`{id_}` is in `extensions` twice"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """What the agent runs; every reference in `service` has its component."""

    receivers: Components
    processors: Components
    exporters: Components
    extensions: Components
    service: Service
    warnings: tuple[problems.Problem, ...] = dataclasses.field(default=(), compare=False)

    def components(self, kind: Kind) -> Components:
        """The section of a kind."""
        section: Components = getattr(self, kind)
        return section
