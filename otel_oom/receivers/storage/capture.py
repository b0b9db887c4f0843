"""The attached tiers and the streams of one run.

Nothing here sends: what is ready is handed to whom the receiver names.
"""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable

from otel_oom import errors
from otel_oom.pipeline.data import Batch
from otel_oom.pipeline.incidents import Incidents
from otel_oom.receivers.storage import (
    block_tier,
    calls,
    devices,
    encode,
    metrics,
    operation_tier,
    slowest,
    streams,
    tiers,
    view,
    workloads,
)
from otel_oom.receivers.storage.config import Config

Attach = Callable[
    [pathlib.Path, Config, workloads.Workloads, devices.Devices, encode.Encoder], tiers.Tier
]

TIERS: dict[str, Attach] = {
    "block": block_tier.BlockTier,
    "operations": operation_tier.OperationTier,
}
"""How each is attached, by name."""


class Capture:
    """The attached tiers and the streams of one run, from start to shutdown."""

    def __init__(self, config: Config, version: str, incidents: Incidents) -> None:
        """Attach what this kernel allows; what it does not is in `left_out`, with the reason.

        Slow operations link to the incidents that they overlap.
        """
        root = pathlib.Path(config.root_path)
        boot_id = _boot_id(root)
        self.cgroups = workloads.Workloads(root)
        encoder = encode.Encoder(
            boot_id=boot_id,
            version=version,
            cgroup_path=self.cgroups.path,
            overlapping=incidents.overlapping,
        )
        disks = devices.Devices(root, config.devices)
        self.tiers: list[tiers.Tier] = []
        self.left_out: dict[str, str] = {}
        for name, attach in TIERS.items():
            try:
                self.tiers.append(attach(root, config, self.cgroups, disks, encoder))
            except (errors.BpfError, OSError) as error:
                self.left_out[name] = str(error)
        self._streams = streams.Streams(config, self.cgroups, disks, time.time_ns())
        self._encoder = metrics.Encoder(version)
        self._slowest = slowest.Slowest()
        sampled = {name: config.sampled(name) for name in calls.NAMES}
        self.viewer = view.Viewer(
            self.tiers, self._streams, self._slowest, self.cgroups.path, sampled
        )

    def describe(self) -> str:
        """The tiers, and what was left out, on one line."""
        left_out = dict(self.left_out)
        for tier in self.tiers:
            left_out |= tier.left_out
        reasons = (f"without {what}: {why.splitlines()[0]}" for what, why in left_out.items())
        return "; ".join([*(tier.describe() for tier in self.tiers), *reasons])

    def take(self, tier: tiers.Tier, put: Callable[[Batch], None]) -> bool:
        """Hand on what a tier has drained, once; False if it had nothing."""
        drained = tier.drain()
        if drained is None:
            return False
        for batch in drained.batches:
            put(batch)
        if drained.slow:
            self._slowest.note(drained.slow, time.monotonic())
        for example in drained.exemplars:
            stream = self._streams.find(tier, example.metric, example.key)
            if stream is not None:
                self._encoder.exemplar(stream, example)
        return True

    def collect(self, put: Callable[[Batch], None]) -> None:
        """Hand on all that was counted."""
        now_ns = time.time_ns()
        for batch in self._encoder.batches(self._streams.collect(self.tiers, now_ns), now_ns):
            put(batch)

    def finish(self, put: Callable[[Batch], None]) -> None:
        """Detach, then hand on all that is left."""
        for tier in self.tiers:
            tier.detach()
            while self.take(tier, put):
                pass
        self.collect(put)

    def lost(self) -> float:
        """What the tiers had no room for."""
        return float(sum(tier.lost() for tier in self.tiers))

    def summary(self) -> list[str]:
        """How the sums of every tier stand."""
        return [line for tier in self.tiers for line in tier.summary()]

    def close(self) -> None:
        """Let go of everything."""
        for tier in self.tiers:
            tier.close()
        self.cgroups.close()


def _boot_id(root: pathlib.Path) -> str:
    try:
        return (root / "proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError as error:
        raise errors.ComponentError(
            f"storage operations cannot be seen: {error.filename}: {error.strerror}; set "
            "`root_path` to where the host's /proc is"
        ) from error
