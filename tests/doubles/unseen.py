"""Requests that this machine's kernel may have kept from every BPF program, by its own tracing.

    with unseen.completions(loop.device) as hidden:
        loop.read(4096, 1000)
    assert 1000 - hidden.count <= counted <= 1000

Where the machine is a guest, its kernel may refuse to run a BPF program while a task of the first
process, the host's agent, is current. An interrupt borrows whatever task is there, so a completion
in ten thousand then is not seen; neither is it a miss that the kernel counts. Elsewhere such
completions are seen as all others are, so `count` is a bound.
"""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Iterator

from doubles import kernel_trace

_COMPLETE = "block/block_rq_complete"


class Unseen:
    """`count` is known once the recording has ended."""

    count = 0


@contextlib.contextmanager
def completions(device: int) -> Iterator[Unseen]:
    """Those of a disk (`major << 20 | minor`) in the context of the first process."""
    tids = (task.name for task in pathlib.Path("/proc/1/task").iterdir())
    tasks = " || ".join(f"common_pid == {tid}" for tid in tids)
    found = Unseen()
    with kernel_trace.recording({_COMPLETE: f"dev == {device} && ({tasks})"}) as trace:
        yield found
    assert not trace.lost
    assert not trace.left_out
    found.count = len(trace.events)
