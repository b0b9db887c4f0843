"""Keeps the agent's memory below a limit: refuses data while there is too much of it.

Options are those of the collector's `memory_limiter`; put it first in a pipeline. One thing
differs: a kernel event cannot be asked for again, so what is refused here is lost (and counted
as dropped). Records that matter most, those of `exempt_severity` or above such as a kill,
therefore pass also above the soft limit, and are only refused above the hard one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import gc
import logging
from typing import Literal

from opentelemetry.proto.logs.v1.logs_pb2 import LogsData, SeverityNumber

from otel_oom import errors, telemetry
from otel_oom.config.types import Duration, Violations
from otel_oom.pipeline import component
from otel_oom.pipeline.consumer import Consumer
from otel_oom.pipeline.data import Batch, Signal
from otel_oom.processors.memory_limiter import memory

_LOG = logging.getLogger(__name__)
_MIB = 1024 * 1024
_MAX_COLLECT_PAUSE_S = 30.0

Severity = Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "NONE"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of the `memory_limiter` processor."""

    check_interval: Duration = Duration(1.0)
    """Time between two readings of the resident memory. Default 1s; must be positive."""

    limit_mib: int = 0
    """Hard limit in MiB. Default 0, which means that `limit_percentage` decides; one of the
    two is required."""

    spike_limit_mib: int = 0
    """How far below the hard limit the soft one is, in MiB. Default 0: 20 % of `limit_mib`."""

    limit_percentage: int = 0
    """Hard limit as a percentage (1 to 100) of the memory that the agent may have: its cgroup's
    limit, or the host's memory. Default 0; `limit_mib` takes precedence."""

    spike_limit_percentage: int = 0
    """As `spike_limit_mib`, in percent of the same memory. Default 0: 20 % of the limit."""

    exempt_severity: Severity = "ERROR"
    """Batches with a log record of this severity or above pass between the soft and the hard
    limit. Default `ERROR`; `NONE` exempts nothing."""

    def validate(self) -> Violations:
        """Yield what cannot work."""
        if self.check_interval <= 0:
            yield ("check_interval",), "`check_interval` must be greater than zero"
        if not self.limit_mib and not self.limit_percentage:
            yield (), "`limit_mib` or `limit_percentage` must be greater than zero"
        yield from _relation("limit_mib", self.limit_mib, self.spike_limit_mib)
        yield from _relation(
            "limit_percentage", self.limit_percentage, self.spike_limit_percentage, most=100
        )


def _relation(key: str, limit: int, spike: int, most: int | None = None) -> Violations:
    """Check a limit and its `spike_` twin against their range and each other."""
    spike_key = f"spike_{key}"
    for name, value in ((key, limit), (spike_key, spike)):
        if value < 0 or (most is not None and value > most):
            within = "not be negative" if most is None else f"be between 0 and {most}"
            yield (name,), f"`{name}` ({value}) must {within}"
    if limit > 0 and spike >= limit:
        yield (spike_key,), f"`{spike_key}` ({spike}) must be smaller than `{key}` ({limit})"


class Level(enum.Enum):
    """Where the resident memory is."""

    BELOW = "below the soft limit"
    SOFT = "above the soft limit"
    HARD = "above the hard limit"


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """The two limits in bytes."""

    soft_bytes: int
    hard_bytes: int

    @classmethod
    def of(cls, config: Config, available_bytes: int) -> Limits:
        """Work them out; `available_bytes` is what percentages are of."""
        if config.limit_mib:
            hard, spike = config.limit_mib * _MIB, config.spike_limit_mib * _MIB
        else:
            hard = available_bytes * config.limit_percentage // 100
            spike = available_bytes * config.spike_limit_percentage // 100
        return cls(soft_bytes=hard - (spike or hard // 5), hard_bytes=hard)

    def level(self, resident_bytes: int) -> Level:
        """Compare a reading with the limits."""
        if resident_bytes >= self.hard_bytes:
            return Level.HARD
        return Level.SOFT if resident_bytes >= self.soft_bytes else Level.BELOW


class MemoryLimiter:
    """Reads the memory on a timer, and refuses or passes batches by the last reading."""

    def __init__(
        self, settings: component.Settings, config: Config, next_consumer: Consumer
    ) -> None:
        self._settings = settings
        self._config = config
        self._next = next_consumer
        self._limits = Limits.of(config, memory.available_bytes())
        self._level = Level.BELOW
        self._exempt = _severity(config.exempt_severity)
        self._collect_pause_s: float = config.check_interval
        self._collect_after_s = 0.0
        self._checker: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read once, then on a timer."""
        self._check()
        self._checker = asyncio.create_task(self._check_always(), name=self._settings.name)

    async def consume(self, batch: Batch) -> None:
        """Pass the batch on, or raise `errors.Refused`."""
        if self._level is Level.BELOW or (self._level is Level.SOFT and self._is_exempt(batch)):
            await self._next.consume(batch)
            return
        settings = self._settings
        settings.ledger.count(
            "processor_memory_limiter_refused", settings.name, batch.signal, batch.items
        )
        raise errors.Refused(f"memory is {self._level.value}", reason="memory_limiter")

    async def shutdown(self) -> None:
        """Stop reading; nothing is held."""
        if self._checker:
            self._checker.cancel()
            self._checker = None

    async def _check_always(self) -> None:
        while True:
            await asyncio.sleep(self._config.check_interval)
            self._check()

    def _check(self) -> None:
        level = self._limits.level(telemetry.resident_bytes())
        if level is Level.HARD:
            level = self._collect()
        if level is not self._level:
            self._report(level)
        self._level = level

    def _collect(self) -> Level:
        """Collect garbage, ever more rarely while that does not help."""
        now_s = asyncio.get_running_loop().time()
        if now_s < self._collect_after_s:
            return Level.HARD
        gc.collect()
        level = self._limits.level(telemetry.resident_bytes())
        helped = level is not Level.HARD
        pause_s = self._config.check_interval if helped else self._collect_pause_s * 2
        self._collect_pause_s = min(pause_s, _MAX_COLLECT_PAUSE_S)
        self._collect_after_s = now_s + self._collect_pause_s
        return level

    def _report(self, level: Level) -> None:
        soft_mib, hard_mib = (self._limits.soft_bytes // _MIB, self._limits.hard_bytes // _MIB)
        text = f"resident memory is {level.value} (soft {soft_mib} MiB, hard {hard_mib} MiB)"
        _LOG.log(logging.INFO if level is Level.BELOW else logging.WARNING, text)
        state = component.State.OK if level is Level.BELOW else component.State.RECOVERABLE_ERROR
        self._settings.report(component.Status(state, text))

    def _is_exempt(self, batch: Batch) -> bool:
        return isinstance(batch.data, LogsData) and any(
            record.severity_number >= self._exempt
            for resource in batch.data.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        )


def _severity(name: Severity) -> int:
    """The severity number (opentelemetry-proto, logs/v1); `NONE` is above all of them."""
    if name == "NONE":
        return max(SeverityNumber.values()) + 1
    return SeverityNumber.Value(f"SEVERITY_NUMBER_{name}")


FACTORY = component.Factory(
    type_name="memory_limiter",
    kind=component.Kind.PROCESSOR,
    config=Config,
    create=MemoryLimiter,
    signals=dict.fromkeys(Signal, component.Stability.BETA),
)
