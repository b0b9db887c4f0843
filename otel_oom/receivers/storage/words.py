"""A slow operation in one line that a person can read, whatever bytes its names hold."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence

from otel_oom import semconv
from otel_oom.pipeline import text
from otel_oom.receivers.storage.slow import ASYNCHRONOUS, Slow, Subject
from otel_oom.receivers.storage.stages import Kind
from otel_oom.receivers.storage.timeline import Timeline

_NS_PER_US, _NS_PER_MS, _NS_PER_S = 10**3, 10**6, 10**9
_MOST_LAYERS, _FEW_STAGES = 3, 3

_PLACES = {
    semconv.Layer.SYSCALL.value: "in the system call",
    semconv.Layer.PAGE_CACHE.value: "in the page cache",
    semconv.Layer.FILESYSTEM.value: "in the filesystem",
    semconv.Layer.JOURNAL.value: "in the journal",
    semconv.Layer.BLOCK_QUEUE.value: "in the block queue",
    semconv.Layer.SCHEDULER.value: "in the I/O scheduler",
    semconv.Layer.DEVICE.value: "in the device",
    semconv.Layer.WAKEUP.value: "waiting for a CPU",
    semconv.Layer.MEMORY.value: "reclaiming memory",
}


def body(slow: Slow) -> str:
    """What was slow, for whom, the longest gap, and how long it was in which layers."""
    verdict, line = slow.verdict, slow.line
    what, who = _subject(slow.subject, slow.pid)
    if slow.inode and not slow.subject.path:
        what = f"{what} of inode {slow.inode}"
    took = f"{what}{who} took {duration(line.times_ns[-1] - line.times_ns[0])}"
    if not verdict.layer:
        return f"{took}; in which layer is not known"
    return (
        f"{took}; longest "
        f"{duration(verdict.gap_ns)} ({verdict.share:.0%}) {_PLACES[verdict.layer]}, "
        f"{verdict.start} to {verdict.end}{_layers(line)}{_left_out(line)}"
    )


def duration(time_ns: int) -> str:
    """Nanoseconds for a person: `850 us`, `48.2 ms`, `1.25 s`."""
    if time_ns < _NS_PER_MS:
        return f"{time_ns / _NS_PER_US:.0f} us"
    if time_ns < _NS_PER_S:
        return f"{time_ns / _NS_PER_MS:.1f} ms"
    return f"{time_ns / _NS_PER_S:.2f} s"


def _left_out(line: Timeline) -> str:
    if not line.left_out_ns:
        return ""
    return f"; {duration(line.left_out_ns)} of it in waits too short to tell apart"


def _layers(line: Timeline) -> str:
    """The layers that took longest, with their gaps together; of two gaps the longest says all."""
    if len(line.kinds) <= _FEW_STAGES:
        return ""
    gaps_ns = line.gaps_ns()
    sums = [(sum(pick(gaps_ns)), layer) for layer, pick in _places(tuple(line.kinds))]
    longest = sorted(sums, key=_time, reverse=True)[:_MOST_LAYERS]
    told = ", ".join(f"{layer} {duration(time_ns)}" for time_ns, layer in longest if time_ns)
    return f"; in all {told}"


_time = operator.itemgetter(0)


@functools.lru_cache(1024)
def _places(kinds: tuple[Kind, ...]) -> list[tuple[str, Callable[[list[int]], Sequence[int]]]]:
    """What picks the gaps of each layer: orders of stages come again."""
    places: dict[str, list[int]] = {}
    for place, kind in enumerate(kinds[1:]):
        places.setdefault(kind.layer, []).append(place)
    return [(layer, _picker(found)) for layer, found in places.items()]


def _picker(places: Sequence[int]) -> Callable[[list[int]], Sequence[int]]:
    if len(places) == 1:
        return operator.itemgetter(slice(places[0], places[0] + 1))
    return operator.itemgetter(*places)


@functools.lru_cache(1024)
def _subject(subject: Subject, pid: int) -> tuple[str, str]:
    """What was done, and where and by whom; between the two is the file that has no path."""
    what = subject.operation if pid else f"{subject.operation} request"
    if ASYNCHRONOUS in subject.flags:
        what = f"{ASYNCHRONOUS} {what}"
    if subject.path:
        what += f" of {text.safe(subject.path)}"
    parts = []
    if subject.device:
        parts.append(f" on {text.safe(subject.device)}")
    if pid:
        parts.append(f" by {text.safe(subject.executable)} (pid {pid})")
    if subject.error:
        parts.append(f" failed with {subject.error} and")
    return what, "".join(parts)
