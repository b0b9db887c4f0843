"""What the kernel's own tracing says, recorded in an instance of tracefs of our own.

    with kernel_trace.recording({"sched/sched_waking": f"pid == {tid}", "block/block_rq_issue": ""}) as trace:
        ...
    for event in trace.events:
        print(event.time_ns, event.name, event.comm, event.context, event.text)

It is the second source that the agent's timelines are held against. Needs root.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pathlib
import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_BUFFER_KIB = 16384
_USUAL = pathlib.Path("/sys/kernel/tracing")
_LINE = re.compile(r"\s*(.*)-(\d+)\s+\[(\d+)\]\s+(\S+)\s+(\d+)\.(\d+): (\w+): ?(.*)")
_FIELD = re.compile(r"(\w+)=(\S+)")
_CONTEXTS = {"h": "hardirq", "H": "hardirq", "s": "softirq", "z": "nmi", "Z": "nmi"}
_numbers = itertools.count()


class Event(NamedTuple):
    """One line of the trace. The clock is CLOCK_MONOTONIC, to the microsecond."""

    time_ns: int
    name: str
    tid: int
    comm: str
    cpu: int
    context: str
    """`task`, `softirq`, `hardirq` or `nmi`: whether the task was interrupted to run it."""
    text: str

    @property
    def fields(self) -> dict[str, str]:
        """The words `name=value` of its text."""
        return dict(_FIELD.findall(self.text))


class Trace:
    """Filled when the recording ends. `lost` counts events that did not fit."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.lost = 0
        self.left_out: list[str] = []
        """Events that this kernel does not have."""


@contextlib.contextmanager
def recording(events: Mapping[str, str]) -> Iterator[Trace]:
    """Record these events, `system/name`, each with a filter of the kernel's syntax or none."""
    trace = Trace()
    with _tracefs() as root:
        instance = root / "instances" / f"otel-oom-{os.getpid()}-{next(_numbers)}"
        instance.mkdir()
        try:
            _begin(instance, events, trace)
            yield trace
            (instance / "tracing_on").write_text("0")
            lines = (instance / "trace").read_text(errors="replace").splitlines()
            trace.events = [event for event in map(_parse, lines) if event]
            trace.lost = _lost(instance)
        finally:
            instance.rmdir()


def _begin(instance: pathlib.Path, events: Mapping[str, str], trace: Trace) -> None:
    (instance / "trace_clock").write_text("mono")
    (instance / "buffer_size_kb").write_text(str(_BUFFER_KIB))
    for name, condition in events.items():
        folder = instance / "events" / name
        if not folder.is_dir():
            trace.left_out.append(name)
            continue
        if condition:
            (folder / "filter").write_text(condition)
        (folder / "enable").write_text("1")


def _parse(line: str) -> Event | None:
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    comm, tid, cpu, flags, seconds, micros, name, text = found.groups()
    # Flags are irqs-off, need-resched, context, preempt depth, ...
    context = _CONTEXTS.get(flags[2], "task")
    time_ns = int(seconds) * 1_000_000_000 + int(micros) * 1000
    return Event(time_ns, name, int(tid), comm.strip(), int(cpu), context, text.strip())


def _lost(instance: pathlib.Path) -> int:
    texts = [path.read_text() for path in instance.glob("per_cpu/cpu*/stats")]
    return sum(int(lost) for text in texts for lost in re.findall(r"overrun: (\d+)", text))


@contextlib.contextmanager
def _tracefs() -> Iterator[pathlib.Path]:
    """Where tracefs is mounted, or a mount of our own for the time."""
    if (_USUAL / "instances").is_dir():
        yield _USUAL
        return
    with tempfile.TemporaryDirectory(prefix="tracefs-") as folder:
        subprocess.run(["mount", "-t", "tracefs", "tracefs", folder], check=True)
        try:
            yield pathlib.Path(folder)
        finally:
            subprocess.run(["umount", folder], check=True)
