"""Shows what the kernel does under an injection, and the table of docs/storage-injections.md.

    PYTHONPATH=tests python tests/doubles/show_injections.py device_read     # a timeline
    PYTHONPATH=tests python tests/doubles/show_injections.py                 # the table, of all
    PYTHONPATH=tests python tests/doubles/show_injections.py dirty reclaim   # ... of these
    PYTHONPATH=tests python tests/doubles/show_injections.py wakers          # who wakes the task

Needs root.
"""

from __future__ import annotations

import collections
import statistics
import sys
from collections.abc import Iterator, Sequence

from doubles import kernel_trace, storage_injections, storage_truth
from doubles.kernel_trace import Event
from doubles.operations import Operation

COUNT = 20
WORK = ("workqueue/workqueue_execute_start", "irq/softirq_entry")
_COMPLETION = ("block_rq_complete", "block_io_done")
KINDS = (
    "throttle", "tag", "queue", "device", "commit", "dirty", "reclaim", "wakeup", "running",
)  # fmt: skip


def watched(
    injection: storage_injections.Injection, count: int, more: Sequence[str] = ()
) -> tuple[storage_truth.Truth, list[Operation]]:
    """Do it, and what the kernel's trace said."""
    with injection.inject() as scene, scene.start(count) as task:
        beside = storage_truth.journal_threads(scene.device)
        wanted = storage_truth.events(scene.device, task.tid, *beside)
        with kernel_trace.recording(wanted | dict.fromkeys(more, "")) as trace:
            done = task.finish()
    if trace.lost:
        raise OverflowError(f"{trace.lost} events did not fit into the trace")
    return storage_truth.Truth(trace.events, task.tid, *beside), done


def show(name: str) -> None:
    """The sleeps and the timeline of the operation of median length."""
    truth, done = watched(storage_injections.ALL[name], COUNT)
    operation = sorted(done, key=lambda one: one.duration_ns)[len(done) // 2]
    print(f"{name}: {operation.duration_ns / 1e6:.3f} ms")
    for sleep in truth.sleeps:
        if operation.start_ns < sleep.out_ns < operation.end_ns:
            times = [t and (t - operation.start_ns) / 1e6 for t in sleep[:3]]
            print("sleep from {}, waking {}, to {} ms".format(*times), sleep.state, sleep.waker)
    print("\n".join(truth.timeline(operation)))


def wakers(names: Sequence[str]) -> None:
    """A line each: out of what the task is woken, and how often in so many operations."""
    print("| injection | woken by |")
    print("|---|---|")
    for name in names:
        truth, done = watched(storage_injections.ALL[name], COUNT, WORK)
        cells = [f"{waker} {count}" for waker, count in wakings(truth, done).most_common()]
        print(f"| {name} | {', '.join(cells)} |")


def wakings(truth: storage_truth.Truth, done: Sequence[Operation]) -> collections.Counter[str]:
    """How often the task was woken by each work, softirq or kind of task within operations."""
    return collections.Counter(_each_waking(truth, done))


def _each_waking(truth: storage_truth.Truth, done: Sequence[Operation]) -> Iterator[str]:
    work: dict[int, str] = {}  # by kworker
    softirq: dict[int, str] = {}  # by processor
    before: dict[int, str] = {}  # the event before, by processor
    for event in truth.events:
        last, before[event.cpu] = before.get(event.cpu, ""), event.name
        if event.name == "workqueue_execute_start":
            work[event.tid] = event.text.rsplit(" ", 1)[-1]
        elif event.name == "softirq_entry":
            softirq[event.cpu] = event.fields["action"].rstrip("]")
        elif (
            event.name == "sched_waking"
            and event.fields["pid"] == str(done[0].tid)
            and any(one.start_ns < event.time_ns < one.end_ns for one in done)
        ):
            after = f" after {last}" if last in _COMPLETION else ""
            yield _waker(event, work, softirq) + after


def _waker(event: Event, work: dict[int, str], softirq: dict[int, str]) -> str:
    kind = event.comm.split("/")[0]
    if event.context == "softirq":
        return f"softirq {softirq.get(event.cpu, '')}"
    if event.context != "task":
        return event.context
    return f"{kind} {work.get(event.tid, '')}" if kind == "kworker" else kind


def table(names: Sequence[str]) -> None:
    """A line each: how long, and the median share of each kind of span."""
    print("| injection | median ms | p90 ms |", " | ".join(KINDS), "|")
    print("|---|---|---|" + "---|" * len(KINDS))
    for name in names:
        truth, done = watched(storage_injections.ALL[name], COUNT)
        lengths = sorted(one.duration_ns / 1e6 for one in done)
        shares = [truth.shares(one) for one in done]
        medians = [statistics.median(one[kind] for one in shares) for kind in KINDS]
        cells = [f"{x:.2f}" if x >= 0.005 else "" for x in medians]
        p90 = lengths[len(lengths) * 9 // 10]
        print(f"| {name} | {statistics.median(lengths):.1f} | {p90:.1f} |", " | ".join(cells), "|")


if __name__ == "__main__":
    if sys.argv[1:2] == ["wakers"]:
        wakers(sys.argv[2:] or list(storage_injections.ALL))
    elif len(sys.argv) == 2:
        show(sys.argv[1])
    else:
        table(sys.argv[1:] or list(storage_injections.ALL))
