"""Shows what the kernel does under an injection, and the table of docs/storage-injections.md.

    PYTHONPATH=tests python tests/doubles/show_injections.py device_read     # a timeline
    PYTHONPATH=tests python tests/doubles/show_injections.py                 # the table, of all
    PYTHONPATH=tests python tests/doubles/show_injections.py dirty reclaim   # ... of these

Needs root.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence

from doubles import kernel_trace, storage_injections, storage_truth
from doubles.operations import Operation

COUNT = 20
KINDS = (
    "throttle", "tag", "queue", "device", "commit", "dirty", "reclaim", "wakeup", "running",
)  # fmt: skip


def watched(
    injection: storage_injections.Injection, count: int
) -> tuple[storage_truth.Truth, list[Operation]]:
    """Do it, and what the kernel's trace said."""
    with injection.inject() as scene, scene.start(count) as task:
        beside = storage_truth.journal_threads(scene.device)
        with kernel_trace.recording(storage_truth.events(scene.device, task.tid, *beside)) as trace:
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
    if len(sys.argv) == 2:
        show(sys.argv[1])
    else:
        table(sys.argv[1:] or list(storage_injections.ALL))
