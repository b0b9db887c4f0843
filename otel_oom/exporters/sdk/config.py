"""Options of the exporter `sdk`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from otel_oom.config.types import Duration, Secret, Violations
from otel_oom.exporters.sdk import installed
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.sending.queue import QueueConfig
from otel_oom.pipeline.sending.retry import RetryConfig


def _several() -> QueueConfig:
    return QueueConfig(num_consumers=10)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of the exporter `sdk`; what the exporter itself wants is in `options`."""

    exporter: str
    """Name of the installed exporter, as `OTEL_TRACES_EXPORTER` takes it: `otlp_proto_http`,
    `console`, a vendor's. Required."""

    signals: tuple[Signal, ...] = ()
    """Signals that are loaded: `logs`, `traces`, `metrics`. Default: all that the name has."""

    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Arguments of the exporter's constructor, e.g. `endpoint`, for every signal. Default none:
    most exporters read the environment then. Texts are never printed."""

    logs_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Arguments beside `options`, or in their place, for logs."""

    traces_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Arguments beside `options`, or in their place, for traces."""

    metrics_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Arguments beside `options`, or in their place, for metrics."""

    timeout: Duration = Duration(30.0)
    """Time for one try, default 30s; 0 for no limit. A call that takes longer goes on, and the
    next try of the same request waits on for it."""

    sending_queue: QueueConfig = dataclasses.field(default_factory=_several)
    """What waits to be sent; `num_consumers` is 10 by default, so that one request that fails does
    not hold up those behind it: only if others get through is it known whose fault it is."""

    retry_on_failure: RetryConfig = dataclasses.field(default_factory=RetryConfig)
    """What is tried again, and for how long."""

    def __post_init__(self) -> None:
        """Hide what may be a token: nobody knows which of a vendor's arguments are."""
        for key in ("options", "logs_options", "traces_options", "metrics_options"):
            object.__setattr__(self, key, _hidden(getattr(self, key)))

    def validate(self) -> Violations:
        """Yield what is not installed."""
        if self.timeout < 0:
            yield ("timeout",), "`timeout` must not be negative"
        found = installed.by_name()
        if self.exporter not in found:
            text = f"`{self.exporter}` is not installed; there are: {installed.listed(found)}"
            yield ("exporter",), text
            return
        for index, signal in enumerate(self.signals):
            if signal not in found[self.exporter]:
                yield ("signals", index), f"`{self.exporter}` has no exporter for {signal}"

    def loaded(self) -> list[Signal]:
        """The signals that this exporter takes."""
        return installed.signals(self.exporter, self.signals)

    def arguments(self, signal: Signal) -> dict[str, Any]:
        """What the constructor for a signal is called with."""
        own = getattr(self, f"{signal}_options")
        merged: dict[str, Any] = _shown({**self.options, **own})
        return merged


def _hidden(value: Any) -> Any:
    """The same with every text as a secret."""
    if isinstance(value, Mapping):
        return {key: _hidden(below) for key, below in value.items()}
    if isinstance(value, list | tuple):
        return [_hidden(below) for below in value]
    return Secret(value) if isinstance(value, str) else value


def _shown(value: Any) -> Any:
    """The same with plain texts, as constructors expect them."""
    if isinstance(value, Mapping):
        return {str(key): _shown(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_shown(below) for below in value]
    return str.__str__(value) if isinstance(value, str) else value
