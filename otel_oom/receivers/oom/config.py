"""The options of the receiver `oom`."""

from __future__ import annotations

import dataclasses
import mmap

from otel_oom.config.types import ByteSize, Duration, Violations

_MODES = ("core", "kmsg", "counter")
_LEAST_RING_BYTES = mmap.PAGESIZE
_MOST_RING_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of the receiver `oom`."""

    capture_modes: list[str] = dataclasses.field(
        default_factory=lambda: ["core", "kmsg", "counter"]
    )
    """Ways of seeing kills, best first; the first that works is used, and the next one when it
    fails. `core`: programs in the kernel. `kmsg`: the kernel's log, with less on each record.
    `counter`: the kernel's counters, which tell how many were killed in which cgroup, not who.
    With `core` alone the agent does not start where it cannot load its programs."""

    ring_size: ByteSize = ByteSize(1024 * 1024)
    """Bytes of the kernel's ring, a power of two of at least 4 KiB. A kill takes 1 to 2 KiB in
    it until the agent reads it, and the length of its command line; kills that find no room are
    reported from the counters."""

    settle: Duration = Duration(0.25)
    """How long a record waits for its victim's exit. Shorter: more records without exit."""

    settle_exit: Duration = Duration(10.0)
    """How long a span waits for the exit; then it ends with status ERROR."""

    reconcile_interval: Duration = Duration(1.0)
    """How often the books are held against the kernel's counters. A missed kill is reported
    within this and 0.3 s."""

    collection_interval: Duration = Duration(60.0)
    """How often the metric `oom.kills` is sent."""

    siblings: int = 16
    """Most processes under the limit that `oom.processes` lists beside victim, trigger and
    their ancestors. Each costs one read in /proc at a kill."""

    command_args: bool = True
    """Whether to record the victim's command line, which may hold secrets."""

    service_variables: bool = True
    """Whether to record `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` of the victim's
    environment; nothing else of it leaves the kernel. They are looked for among its first 256
    variables, and are told of if they are shorter than 2 KiB."""

    state_directory: str = "/var/lib/otel-oom"
    """Where the counters are kept between runs, so that kills while the agent is down are
    reported at its next start. It is made if it is missing."""

    root_path: str = "/"
    """Where the host's /proc and /sys are; in a container, where they are mounted."""

    def _mode_violations(self) -> Violations:
        places = [_MODES.index(mode) for mode in self.capture_modes if mode in _MODES]
        known = ", ".join(f"`{mode}`" for mode in _MODES)
        if not places or len(places) < len(self.capture_modes):
            yield ("capture_modes",), f"`capture_modes` must have one or more of {known}"
        elif places != sorted(set(places)):
            yield ("capture_modes",), f"`capture_modes` must be each once, in the order {known}"

    def validate(self) -> Violations:
        """Relations that types cannot say."""
        is_power = self.ring_size & (self.ring_size - 1) == 0
        if not is_power or not _LEAST_RING_BYTES <= self.ring_size <= _MOST_RING_BYTES:
            least = f"{_LEAST_RING_BYTES // 1024}KiB"
            yield ("ring_size",), f"`ring_size` must be a power of two from {least} to 1GiB"
        yield from self._mode_violations()
        if self.settle_exit < self.settle:
            yield ("settle_exit",), "`settle_exit` must not be shorter than `settle`"
        if self.reconcile_interval <= 0:
            yield ("reconcile_interval",), "`reconcile_interval` must be longer than 0"
        if self.collection_interval <= 0:
            yield ("collection_interval",), "`collection_interval` must be longer than 0"
        if self.siblings < 0:
            yield ("siblings",), "`siblings` must not be negative"
