"""The operation tier as the receiver sees it: durations of calls, and reports of slow ones."""

from __future__ import annotations

import collections
import fnmatch
import logging
import pathlib
import time
from collections.abc import Iterable, Mapping, Sequence

from otel_oom import errors, semconv
from otel_oom.pipeline.clock import Clock
from otel_oom.receivers.storage import (
    asynchronous,
    calls,
    devices,
    encode,
    files,
    histogram,
    operations,
    records,
    slow,
    tiers,
    timeline,
    verdict,
    workloads,
)
from otel_oom.receivers.storage.config import Config
from otel_oom.receivers.storage.histogram import Key
from otel_oom.receivers.storage.slow import Slow
from otel_oom.receivers.storage.tiers import Exemplar

logger = logging.getLogger(__name__)

_NS_PER_S = 10**9
_NAMES = {call.value: name for name, call in calls.NAMES.items()}


class OperationTier:
    """Storage calls timed, and the slow ones with all their stages. Implements `tiers.Tier`."""

    name = "operations"

    def __init__(
        self,
        root: pathlib.Path,
        config: Config,
        cgroups: workloads.Workloads,
        disks: devices.Devices,
        encoder: encode.Encoder,
    ) -> None:
        """Load and attach; `errors.BpfError` says why not."""
        self._filter, self._disks, self._cgroups = config.filter, disks, cgroups
        self._judge = verdict.Judge(
            stage_ns=round(config.thresholds.stage * _NS_PER_S),
            total_ns=round(config.thresholds.total * _NS_PER_S),
        )
        self._known = slow.Known(self._device_name, files.Files(root).path)
        self._encoder = encoder
        self._has_all_devices = "*" in config.devices
        self._clock = Clock(time.CLOCK_MONOTONIC)
        self._told: collections.Counter[str] = collections.Counter()
        self._operations = operations.Operations(settings(config))

    @property
    def fd(self) -> int:
        """Readable when an operation was slow."""
        return self._operations.fd

    @property
    def left_out(self) -> Mapping[str, str]:
        """Filesystems' tracepoints that this kernel does not have, each with the reason."""
        return self._operations.left_out

    def operation(self, number: int) -> str:
        """The name of a call."""
        return _NAMES.get(number, "other")

    def drain(self) -> tiers.Drained | None:
        """What was slow, but for what the options leave out, which is counted."""
        raw = self._operations.drain()
        if not raw:
            return None
        found = [one for one in map(self._decoded, raw) if one is not None]
        told = [
            (operation, one) for operation in found if (one := self._slow(operation)) is not None
        ]
        self._told["reported"] += len(told)
        if not told:
            return tiers.Drained(())
        to_unix_ns = self._clock.to_unix_ns()
        slows = [one for _, one in told]
        batches = self._encoder.batches(slows, to_unix_ns, time.time_ns())
        exemplars = [self._exemplar(*pair, to_unix_ns) for pair in told]
        return tiers.Drained(batches, exemplars, slows)

    def read(self) -> tiers.Reading:
        """Durations of all calls, and the errors."""
        self._disks.refresh()
        failed = {
            (key, slow.error_name(-number)): count
            for (key, number), count in self._operations.errors().items()
        }
        return tiers.Reading({semconv.METRIC_OPERATION_DURATION: self._operations.read()}, failed)

    def forget(self, keys: Iterable[Key]) -> None:
        """Give their room to others."""
        self._operations.forget(keys)

    def lost(self) -> int:
        """Slow operations and errors that found no room, and calls that could not be followed."""
        counts = self._operations.counters()
        unread = self._told["bad record"] + self._operations.skipped()
        not_followed = counts.collided + counts.lost_asynchronous
        return counts.lost + counts.lost_errors + not_followed + unread

    def describe(self) -> str:
        """What is attached."""
        return "storage calls by sys_enter, sched_switch and block_rq_complete"

    def summary(self) -> list[str]:
        """The identities: calls that were followed, and what became of the slow ones."""
        counts, told = self._operations.counters(), self._told
        going_on = counts.tracked - counts.finished - counts.abandoned
        waiting = counts.reported - sum(told.values())
        followed = (
            f"operations: calls {counts.tracked} = finished {counts.finished} + died "
            f"{counts.abandoned} + going on {going_on}; not followed: "
            f"{counts.collided + counts.lost_asynchronous}"
        )
        slow_ones = (
            f"operations: slow {counts.reported + counts.lost} = reported {told['reported']} + "
            f"below thresholds in each stage {told['below']} + left out by options "
            f"{told['left out']} + bad records {told['bad record']} + lost in the ring "
            f"{counts.lost} + in the ring {waiting}"
        )
        return [followed, slow_ones]

    def detach(self) -> None:
        """Stop following."""
        self._operations.detach()

    def close(self) -> None:
        """Let go of everything."""
        self._operations.close()

    def _decoded(self, raw: bytes) -> records.Operation | None:
        try:
            return records.decode(raw)
        except errors.BadRecord as error:
            self._told["bad record"] += 1
            logger.warning("a slow operation cannot be read: %s", error)
            return None

    def _slow(self, operation: records.Operation) -> Slow | None:
        stages = asynchronous if asynchronous.is_asynchronous(operation) else timeline
        line = stages.of(operation, self._disks.has_scheduler)
        found = self._judge.judge(line)
        if found is None:
            self._told["below"] += 1
            return None
        made = slow.of_call(operation, line, found, self._known)
        if not self._is_asked_for(operation, made):
            self._told["left out"] += 1
            return None
        return made

    def _exemplar(self, operation: records.Operation, made: Slow, to_unix_ns: int) -> Exemplar:
        """A slow call is an example of what its histogram has counted."""
        raw = operation.raw
        return Exemplar(
            semconv.METRIC_OPERATION_DURATION,
            Key(raw.cgroup_id, operation.counted_device, raw.call),
            *self._encoder.ids(made.identity),
            operation.duration_ns / _NS_PER_S,
            operation.end_ns + to_unix_ns,
        )

    def _is_asked_for(self, operation: records.Operation, made: Slow) -> bool:
        """What is not known of an operation, as the device of a call without a file, fits none."""
        disk = self._disks.get(operation.counted_device)
        if not (disk.is_told_of if disk else self._has_all_devices):
            return False
        only = self._filter
        cgroup = self._cgroups.path(made.cgroup_id) if only.cgroup else None
        return (
            _fits(made.subject.executable, only.process)
            and _fits(cgroup, only.cgroup)
            and _fits(made.subject.path, only.path)
        )

    def _device_name(self, device: int) -> str | None:
        disk = self._disks.get(device)
        if disk is not None:
            return disk.name
        return "{}:{}".format(*histogram.major_minor(device)) if device else None


def settings(config: Config) -> operations.Settings:
    """What the kernel side has to know of the options."""
    return operations.Settings(
        stage_s=config.thresholds.stage,
        total_s=config.thresholds.total,
        sample={name: config.sampled(name) for name in calls.NAMES if name in config.operations},
        ring_bytes=config.ring_size,
        max_series=config.max_series,
    )


def _fits(value: str | None, patterns: Sequence[str]) -> bool:
    """Whether one of the patterns has it; none at all have everything."""
    return not patterns or any(fnmatch.fnmatchcase(value or "", each) for each in patterns)
