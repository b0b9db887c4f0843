"""The block tier as the receiver sees it: readings, and reports of slow requests."""

from __future__ import annotations

import collections
import pathlib
import time
from collections.abc import Iterable, Mapping

from otel_oom import semconv
from otel_oom.pipeline.clock import Clock
from otel_oom.receivers.storage import block, devices, encode, requests, tiers, workloads
from otel_oom.receivers.storage.config import Config
from otel_oom.receivers.storage.histogram import Key
from otel_oom.receivers.storage.slow import Slow

_DRAINED_A_TURN = 256
_NS_PER_S = 10**9


class BlockTier:
    """Every block request counted, and the slow ones reported. Implements `tiers.Tier`."""

    name = "block"

    def __init__(
        self,
        root: pathlib.Path,
        config: Config,
        cgroups: workloads.Workloads,
        disks: devices.Devices,
        encoder: encode.Encoder,
    ) -> None:
        """Load and attach; `errors.BpfError` says why not."""
        self._reporter = requests.Reporter(root, config, cgroups, disks)
        self._block = block.Block(
            stage_ns=round(config.thresholds.stage * _NS_PER_S),
            total_ns=round(config.thresholds.total * _NS_PER_S),
            max_series=config.max_series,
            ring_bytes=config.ring_size,
            root=root,
        )
        self._encoder = encoder
        self._clock = Clock()
        self._told = collections.Counter({"reported": 0, "left out": 0})
        self._errors: collections.Counter[tuple[Key, str]] = collections.Counter()
        self._errors_forgotten: dict[tuple[Key, str], int] = {}
        self.left_out: Mapping[str, str] = {}

    @property
    def fd(self) -> int:
        """Readable when there are slow requests."""
        return self._block.fd

    def operation(self, number: int) -> str:
        """The block layer's operation."""
        return requests.OPERATIONS.get(number, "other")

    def drain(self) -> tiers.Drained | None:
        """Up to a fixed number of slow requests; those that the options leave out are counted."""
        slow = self._block.drain(_DRAINED_A_TURN)
        if not slow:
            return None
        boot_to_unix_ns = self._clock.to_unix_ns()
        told = [
            (request, one)
            for request in slow
            if (one := self._reporter.report(request)) is not None
        ]
        self._told.update({"reported": len(told), "left out": len(slow) - len(told)})
        if not told:
            return tiers.Drained(())
        found = [one for _, one in told]
        batches = self._encoder.batches(found, boot_to_unix_ns, time.time_ns())
        exemplars = [
            example for pair in told for example in self._exemplars(*pair, boot_to_unix_ns)
        ]
        return tiers.Drained(batches, exemplars, found)

    def read(self) -> tiers.Reading:
        """Both histograms of every series, and the errors."""
        self._reporter.refresh()
        series = self._block.read_series()
        self._errors.clear()
        for (key, status), count in self._block.errors().items():
            self._errors[key, block.error_type(status)] += count
        errors = {
            which: count - self._errors_forgotten.get(which, 0)
            for which, count in self._errors.items()
        }
        histograms = {
            semconv.METRIC_QUEUE_DURATION: {key: one.queue for key, one in series.items()},
            semconv.METRIC_DEVICE_DURATION: {key: one.device for key, one in series.items()},
        }
        return tiers.Reading(histograms, errors, series)

    def forget(self, keys: Iterable[Key]) -> None:
        """Give their slots to others; the kernel's errors stay, and are not counted again."""
        keys = set(keys)
        self._block.forget(keys)
        self._errors_forgotten |= {
            which: count for which, count in self._errors.items() if which[0] in keys
        }

    def lost(self) -> int:
        """All that found no room."""
        return sum(self._block.lost().values())

    def describe(self) -> str:
        """What is attached."""
        return self._block.describe()

    def summary(self) -> list[str]:
        """The identities: slow requests, and what has no time."""
        told, lost, slow = self._told, self._block.lost(), self._block.counters().slow
        waiting = slow - sum(told.values()) - lost["ring"]
        sums = (
            f"block: slow requests {slow} = reported {told['reported']} + left out by options "
            f"{told['left out']} + lost in the ring {lost['ring']} + in the ring {waiting}"
        )
        others = {"lost": lost, "without a time": self._block.unmeasured()}
        others["no operation of a device"] = self._block.left_out()
        return [sums, *(f"block: {what}: {_counts(counts)}" for what, counts in others.items())]

    def detach(self) -> None:
        """Stop counting."""
        self._block.detach()

    def close(self) -> None:
        """Let go of everything."""
        self._block.close()

    def _exemplars(
        self, request: block.SlowRequest, slow: Slow, boot_to_unix_ns: int
    ) -> list[tiers.Exemplar]:
        """A slow request is an example in both histograms, as far as its times are known."""
        key = Key(request.cgroup_id, request.device, request.operation)
        start_ns, issue_ns, end_ns = request[:3]
        gaps = (
            (semconv.METRIC_QUEUE_DURATION, start_ns, issue_ns),
            (semconv.METRIC_DEVICE_DURATION, issue_ns, end_ns),
        )
        ids, unix_ns = self._encoder.ids(slow.identity), end_ns + boot_to_unix_ns
        return [
            tiers.Exemplar(metric, key, *ids, (after_ns - before_ns) / _NS_PER_S, unix_ns)
            for metric, before_ns, after_ns in gaps
            if before_ns and after_ns
        ]


def _counts(counts: Mapping[str, int]) -> str:
    """Those that are not 0."""
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "none"
