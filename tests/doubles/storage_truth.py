"""Where an operation's time really went, by the kernel's own trace: what verdicts are held against.

    with kernel_trace.recording(storage_truth.events(device, task.tid)) as trace:
        done = task.finish()
    truth = storage_truth.Truth(trace.events, task.tid)
    truth.shares(done[0])["device"]      # 0.97
    truth.timeline(done[0])              # a line an event

A span is something that kept the operation waiting, or could have. Spans overlap (a commit holds
device time), so shares do not add up to one.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from doubles.block_device import Device
from doubles.kernel_trace import Event
from doubles.operations import Operation

_BLOCK = (
    "bio_queue", "getrq", "io_start", "rq_insert", "rq_issue", "rq_requeue", "rq_complete",
    "rq_error", "io_done", "bio_backmerge", "bio_frontmerge", "split",
)  # fmt: skip
_JOURNAL = (
    "jbd2_start_commit", "jbd2_commit_locking", "jbd2_commit_flushing", "jbd2_commit_logging",
    "jbd2_end_commit", "jbd2_run_stats", "jbd2_handle_stats", "jbd2_lock_buffer_stall",
)  # fmt: skip
_OWN = (
    "raw_syscalls/sys_enter", "raw_syscalls/sys_exit",
    "ext4/ext4_sync_file_enter", "ext4/ext4_sync_file_exit",
    "ext4/ext4_writepages", "ext4/ext4_writepages_result",
    "writeback/balance_dirty_pages", "writeback/folio_wait_writeback",
    "writeback/wait_on_page_writeback",
    "vmscan/mm_vmscan_memcg_reclaim_begin", "vmscan/mm_vmscan_memcg_reclaim_end",
    "vmscan/mm_vmscan_direct_reclaim_begin", "vmscan/mm_vmscan_direct_reclaim_end",
    "vmscan/mm_vmscan_throttled",
)  # fmt: skip


_NOWHERE = str(2**64 - 1)


class Span(NamedTuple):
    """From one event to another."""

    start_ns: int
    end_ns: int


class Sleep(NamedTuple):
    """The task off its processor."""

    out_ns: int
    waking_ns: int | None
    """None where it was preempted: nobody had to wake it."""
    in_ns: int
    state: str
    waker: str
    """Name, tid and context (`task`, `softirq`, `hardirq`) of who woke it."""


def events(device: Device, tid: int, *beside: int) -> dict[str, str]:
    """What to record for the task, for `beside` (a journal's thread), and for the device."""
    tids = (tid, *beside)
    switches = " || ".join(f"prev_pid == {x} || next_pid == {x}" for x in tids)
    wakings = " || ".join(f"pid == {x}" for x in tids)
    own = " || ".join(f"common_pid == {x}" for x in tids)
    return {
        "sched/sched_switch": switches,
        "sched/sched_waking": wakings,
        **{f"block/block_{name}": f"dev == {device.number}" for name in _BLOCK},
        **{f"jbd2/{name}": f"dev == {device.number}" for name in _JOURNAL},
        **dict.fromkeys(_OWN, own),
    }


def journal_threads(device: Device) -> list[int]:
    """The tid of the journal's thread of the ext4 on this device; none where there is none."""
    found = []
    for comm in pathlib.Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            if comm.read_text().startswith(f"jbd2/{device.name}-"):
                found.append(int(comm.parent.name))
    return found


class Truth:
    """The recorded events, read as what happened to one task."""

    def __init__(self, recorded: Sequence[Event], tid: int, *beside: int) -> None:
        self.events = recorded
        self.sleeps = list(_sleeps(recorded, tid))
        mine = list(_requests_of(recorded, {tid, *beside}))
        self.spans: dict[str, list[Span]] = {
            "throttle": list(_throttled(recorded, self.sleeps)),
            "tag": list(_steps(mine, "block_bio_queue", "block_getrq")),
            "queue": list(_steps(mine, "block_rq_insert", "block_rq_issue")),
            "device": list(_steps(mine, "block_rq_issue", "block_rq_complete")),
            "commit": list(_commits(recorded)),
            "dirty": list(_dirty(recorded, self.sleeps, tid)),
            "reclaim": list(_reclaims(recorded, tid)),
            "wakeup": [Span(x.waking_ns or x.out_ns, x.in_ns) for x in self.sleeps],
            "asleep": [Span(x.out_ns, x.waking_ns or x.out_ns) for x in self.sleeps],
        }

    def shares(self, operation: Operation) -> dict[str, float]:
        """Of the operation's time, what part each kind of span covers."""
        covered = {kind: _covered(spans, operation) for kind, spans in self.spans.items()}
        off = _covered([Span(x.out_ns, x.in_ns) for x in self.sleeps], operation)
        covered["running"] = operation.duration_ns - off
        return {kind: ns / operation.duration_ns for kind, ns in covered.items()}

    def in_call_ns(self, operation: Operation) -> int:
        """How long the system call itself took, without the way back to the program."""
        enter_ns = None
        for event in self.events:
            if event.tid != operation.tid or event.time_ns < operation.start_ns - 1000:
                continue
            if event.name == "sys_enter" and enter_ns is None:
                enter_ns = event.time_ns
            elif event.name == "sys_exit" and enter_ns is not None:
                return event.time_ns - enter_ns
        return 0

    def timeline(self, operation: Operation) -> list[str]:
        """Its events, a line each: since the start, since the line before, what and who."""
        lines, before = [], operation.start_ns
        for event in self.events:
            if operation.start_ns - 1000 <= event.time_ns <= operation.end_ns + 1000:
                since = (event.time_ns - operation.start_ns) / 1e6
                gap = (event.time_ns - before) / 1e6
                who = f"{event.comm}-{event.tid} {event.context} cpu{event.cpu}"
                lines.append(f"{since:9.3f} {gap:+9.3f} {event.name:24} {who:34} {event.text}")
                before = event.time_ns
        return lines


def _covered(spans: Iterable[Span], operation: Operation) -> int:
    """Nanoseconds of the operation in at least one of the spans."""
    total, reached = 0, operation.start_ns
    for span in sorted(spans):
        start, end = max(span.start_ns, reached), min(span.end_ns, operation.end_ns)
        if end > start:
            total, reached = total + end - start, end
    return total


def _sleeps(recorded: Iterable[Event], tid: int) -> Iterator[Sleep]:
    """From each switch away to the switch back, or to the first event of the task itself.

    The trace of some kernels lacks switches from the idle task, though BPF programs see them.
    """
    out: Event | None = None
    waking: Event | None = None
    for event in recorded:
        back = event.name == "sched_switch" and event.fields["next_pid"] == str(tid)
        if out and (back or event.tid == tid):
            waker = f"{waking.comm}-{waking.tid} {waking.context}" if waking else ""
            woken_ns = waking.time_ns if waking else None
            yield Sleep(out.time_ns, woken_ns, event.time_ns, out.fields["prev_state"], waker)
            out = None
        if event.name == "sched_switch" and event.fields["prev_pid"] == str(tid):
            out, waking = event, None
        elif event.name == "sched_waking" and event.fields["pid"] == str(tid) and not waking:
            waking = event


def _throttled(recorded: Iterable[Event], sleeps: Sequence[Sleep]) -> Iterator[Span]:
    """Sleeps up to the event that says a bio came out of the cgroup's throttle: by a kworker."""
    released = [
        event.time_ns
        for event in recorded
        if event.name == "block_bio_queue" and event.comm.startswith("kworker/")
    ]
    for sleep in sleeps:
        for time_ns in released:
            if sleep.out_ns < time_ns < sleep.in_ns:
                yield Span(sleep.out_ns, time_ns)


def _requests_of(recorded: Iterable[Event], tids: set[int]) -> Iterator[Event]:
    """The block events of what these tasks queued, and of all flushes: a flush has no owner."""
    sectors: set[str] = set()
    for event in recorded:
        if event.name.startswith("block_"):
            if event.name == "block_bio_queue" and event.tid in tids:
                sectors.add(_sector(event))
            if _sector(event) in sectors or " FF " in event.text:
                yield event


def _sector(event: Event) -> str:
    """Where it is on the device; a flush, which is nowhere, is at -1 when it completes."""
    sector = event.text.split(" + ")[0].rsplit(" ", 1)[-1]
    return "0" if sector == _NOWHERE else sector


def _steps(requests: Iterable[Event], first: str, last: str) -> Iterator[Span]:
    """Of each request from one event to the other."""
    starts: dict[str, int] = {}
    for event in requests:
        sector = _sector(event)
        if event.name == first:
            starts.setdefault(sector, event.time_ns)
        elif event.name == last and sector in starts:
            yield Span(starts.pop(sector), event.time_ns)


def _commits(recorded: Iterable[Event]) -> Iterator[Span]:
    start_ns = 0
    for event in recorded:
        if event.name == "jbd2_start_commit":
            start_ns = event.time_ns
        elif event.name == "jbd2_end_commit" and start_ns:
            yield Span(start_ns, event.time_ns)


def _dirty(recorded: Iterable[Event], sleeps: Sequence[Sleep], tid: int) -> Iterator[Span]:
    """Sleeps that begin right at the task's balance_dirty_pages."""
    asked = [e.time_ns for e in recorded if e.name == "balance_dirty_pages" and e.tid == tid]
    for sleep in sleeps:
        if any(0 <= sleep.out_ns - at < 1_000_000 for at in asked):
            yield Span(sleep.out_ns, sleep.in_ns)


def _reclaims(recorded: Iterable[Event], tid: int) -> Iterator[Span]:
    start_ns = 0
    for event in recorded:
        if event.tid != tid or not event.name.startswith("mm_vmscan_"):
            continue
        if event.name.endswith("_begin"):
            start_ns = event.time_ns
        elif event.name.endswith("_end") and start_ns:
            yield Span(start_ns, event.time_ns)
