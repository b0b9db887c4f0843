"""From the kernel's series to OTLP's streams: who, where, since when.

The kernel counts by cgroup id, device number and operation; a stream is named by paths and names.
Several series can be one stream, as when a service is started again and its cgroup has the same
path but another id. So that a stream only ever grows, what a series had when it was given up stays
in its stream while the stream lives; it ends with its last series, after it was told once more.
A stream that begins later, or again, starts at the collection before, when it was still empty.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from otel_oom import semconv
from otel_oom.receivers.storage import devices, histogram, tiers, workloads
from otel_oom.receivers.storage.config import Config
from otel_oom.receivers.storage.histogram import Histogram, Key

_CHECKED_A_COLLECTION = 1024

Value = Histogram | int


class Stream(NamedTuple):
    """The identity of what is told.

    `cgroup` is its path, its id where that is not known, None where it is nobody's; `device` is
    empty for calls without a file, and for the stream of all that found no series of its own.
    """

    metric: semconv.Metric
    cgroup: str | int | None
    device: str
    operation: str
    error: str = ""
    is_overflow: bool = False


class Point(NamedTuple):
    """What a stream has counted since its start."""

    stream: Stream
    start_ns: int
    total: Value


class _Series(NamedTuple):
    """One of the kernel's, under one metric; `error` where it counts errors."""

    tier: str
    metric: semconv.Metric
    key: Key
    error: str = ""


class Streams:
    """The streams of one run."""

    def __init__(
        self,
        config: Config,
        cgroups: workloads.Workloads,
        disks: devices.Devices,
        start_ns: int,
    ) -> None:
        self._config = config
        self._cgroups = cgroups
        self._disks = disks
        self._before_ns = start_ns
        self._has_all_devices = "*" in config.devices
        self._streams: dict[_Series, Stream | None] = {}
        self._starts: dict[Stream, int] = {}
        self._kept: dict[Stream, Value] = {}
        self._unchecked: list[int] = []

    def collect(self, sources: Iterable[tiers.Tier], now_ns: int) -> list[Point]:
        """Read every tier: one point for each stream that has anything."""
        self._cgroups.refresh()
        gone = self._gone()  # before the reading, so that it has all there will be of them
        readings = [(tier, dict(_values(tier))) for tier in sources]
        totals = dict(self._kept)
        for tier, values in readings:
            self._add(tier, values, totals)
        points = [
            Point(stream, self._starts.setdefault(stream, self._before_ns), total)
            for stream, total in totals.items()
        ]
        self._before_ns = now_ns
        for tier, values in readings:
            self._forget(tier, values, gone)
        return points

    def find(self, tier: tiers.Tier, metric: semconv.Metric, key: Key) -> Stream | None:
        """The stream that counts this, None if it is not told of."""
        return self._stream(tier, _Series(tier.name, metric, key))

    def _add(
        self, tier: tiers.Tier, values: Mapping[_Series, Value], totals: dict[Stream, Value]
    ) -> None:
        for series, value in values.items():
            stream = self._stream(tier, series)
            if stream is not None:
                totals[stream] = _sum(totals.get(stream), value)

    def _stream(self, tier: tiers.Tier, series: _Series) -> Stream | None:
        try:
            return self._streams[series]
        except KeyError:
            made = self._streams[series] = self._make(tier, series)
            return made

    def _make(self, tier: tiers.Tier, series: _Series) -> Stream | None:
        key, operation = series.key, tier.operation(series.key.operation)
        if operation not in self._config.operations:
            return None
        if key.is_overflow:
            return Stream(series.metric, None, "", operation, series.error, is_overflow=True)
        disk = self._disks.get(key.device)
        if not (self._is_told_of(disk, series.metric) if disk else self._has_all_devices):
            return None
        name = disk.name if disk else _number(key.device)
        cgroup = self._cgroups.path(key.cgroup_id) or key.cgroup_id or None
        return Stream(series.metric, cgroup, name, operation, series.error)

    def _is_told_of(self, disk: devices.Device, metric: semconv.Metric) -> bool:
        is_twice = disk.is_stacked and metric is semconv.METRIC_DEVICE_DURATION
        return disk.is_told_of and (self._config.include_stacked or not is_twice)

    def _gone(self) -> set[Key]:
        """Keys whose cgroup or device is no more; of the cgroups a part is checked each time."""
        keys = {series.key for series in self._streams if not series.key.is_overflow}
        self._unchecked = self._unchecked or list({key.cgroup_id for key in keys})
        checked = self._unchecked[-_CHECKED_A_COLLECTION:]
        del self._unchecked[-_CHECKED_A_COLLECTION:]
        cgroups = self._cgroups.gone(checked)
        disks = self._disks.gone({key.device for key in keys if histogram.is_disk(key.device)})
        return {key for key in keys if key.cgroup_id in cgroups or key.device in disks}

    def _forget(self, tier: tiers.Tier, values: Mapping[_Series, Value], gone: set[Key]) -> None:
        """Give up series; a stream without any other ends."""
        ended = [s for s in self._streams if s.tier == tier.name and s.key in gone]
        tier.forget({series.key for series in ended})
        streams = {series: self._streams.pop(series) for series in ended}
        alive = set(self._streams.values())
        for series, stream in streams.items():
            if stream is None:
                continue
            if stream in alive and series in values:
                self._kept[stream] = _sum(self._kept.get(stream), values[series])
            elif stream not in alive:
                self._starts.pop(stream, None)
                self._kept.pop(stream, None)


def _values(tier: tiers.Tier) -> Iterator[tuple[_Series, Value]]:
    """All that a tier has counted and that is not zero."""
    reading = tier.read()
    for metric, histograms in reading.histograms.items():
        for key, found in histograms.items():
            if found.sum_ns or found.zeros:
                yield _Series(tier.name, metric, key), found
    for (key, error), count in reading.errors.items():
        if count:
            yield _Series(tier.name, semconv.METRIC_OPERATION_ERRORS, key, error), count


def _number(device: int) -> str:
    """A device that has no name, as a filesystem over several disks; empty if there is none."""
    return "{}:{}".format(*histogram.major_minor(device)) if device else ""


def _sum(one: Value | None, other: Value) -> Value:
    if one is None:
        return other
    if isinstance(one, Histogram) and isinstance(other, Histogram):
        buckets = list(map(operator.add, one.buckets, other.buckets))
        return Histogram(one.sum_ns + other.sum_ns, one.zeros + other.zeros, buckets)
    if isinstance(one, int) and isinstance(other, int):
        return one + other
    raise TypeError("a stream counts either histograms or numbers")
