"""What the capture modes of one run have in common: the host, its counters, what was told."""

from __future__ import annotations

import collections
import pathlib
import time
from typing import NamedTuple

from otel_oom import errors
from otel_oom.pipeline.clock import Clock
from otel_oom.pipeline.data import Batch
from otel_oom.pipeline.incidents import Incidents
from otel_oom.receivers.oom import (
    cgroups,
    context,
    encode,
    limit,
    reconcile,
    standby,
    state,
    view,
)
from otel_oom.receivers.oom.config import Config


class Base(NamedTuple):
    """The kernel's counters, up to which every kill has been told: the host's, and by inode."""

    kills: int
    cgroups: dict[int, cgroups.Count]


class Run:
    """From the receiver's start to its stop, whatever modes take turns in it."""

    def __init__(
        self, root: pathlib.Path, config: Config, version: str, incidents: Incidents
    ) -> None:
        self.root, self.config, self.version, self.incidents = root, config, version, incidents
        self.hierarchy = cgroups.find(root)
        self.vmstat = reconcile.Vmstat(root)
        self.start_ns = time.time_ns()
        self.clock = Clock()
        self.boot_id = (root / "proc/sys/kernel/random/boot_id").read_text().strip()
        self.store = state.Store(pathlib.Path(config.state_directory))
        self.nodes = limit.memory_nodes(root)
        self.reader = context.Reader(root, self.hierarchy, config.siblings)
        self.recent = view.Recent()
        self.kills = collections.Counter({"memcg": 0, "none": 0})
        self.lost = 0.0
        self.standby: standby.Standby | None = None
        self._metric = self.encoder("counter")

    def encoder(self, mode: str) -> encode.Encoder:
        """One whose records say this mode."""
        return encode.Encoder(
            boot_id=self.boot_id,
            version=self.version,
            mode=mode,
            command_args=self.config.command_args,
            service_variables=self.config.service_variables,
        )

    def counters(self) -> Base:
        """What the kernel counted so far."""
        return Base(self.vmstat.kills(), self.hierarchy.counts())

    def missed_while_down(self, base: Base) -> Batch | None:
        """Kills since the last run of this boot, from the counters; None if there was none."""
        saved = self.store.load(self.boot_id)
        if saved is None:
            return None
        missed = reconcile.since_last_run(saved, *base)
        return self._metric.missed(missed, time.time_ns())

    def metric(self) -> Batch:
        """The metric `oom.kills`."""
        return self._metric.kills_metric(self.kills, self.start_ns, time.time_ns())

    def open_log(self) -> standby.Standby:
        """The kernel's log, opened when there is need; `ProbeUnsupported` says why not."""
        held = self.held_log()
        if held is None:
            held = self.standby = standby.Standby(self.root)
        return held

    def held_log(self) -> standby.Standby | None:
        """The kernel's log, if it is open."""
        return self.standby if self.standby and self.standby.is_open() else None

    def prepare_log(self) -> None:
        """Open the log while the rights are there, as the next way; it may be refused."""
        try:
            self.open_log()
        except errors.ProbeUnsupported:
            self.standby = None

    def close(self) -> None:
        """Let go of everything."""
        self.vmstat.close()
        if held := self.held_log():
            held.close()
