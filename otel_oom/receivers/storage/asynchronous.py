"""An asynchronous operation as a line of stages: submitted, and nobody in particular waits.

io_submit and io_uring_enter hand a request over and return, so there is no system call to walk:
the operation is the request's own life, from the moment it was queued to its end. It links to the
call that submitted it. Whoever collects the result later may do so as late as it likes; that is
not the operation's time.
"""

from __future__ import annotations

from otel_oom import semconv
from otel_oom.bpf.storage_operations_events import (
    StorageOperationFlag,
    StorageRequest,
    StorageRequestFlag,
)
from otel_oom.receivers.storage.records import Operation
from otel_oom.receivers.storage.stages import kind
from otel_oom.receivers.storage.timeline import HasScheduler, Timeline

_ASYNCHRONOUS = StorageOperationFlag.ASYNCHRONOUS.value
_FLUSH = StorageRequestFlag.FLUSH.value
_QUEUE = semconv.Layer.BLOCK_QUEUE.value
_SCHEDULER = semconv.Layer.SCHEDULER.value
_DEVICE = semconv.Layer.DEVICE.value

_NO_START = (semconv.STAGE_STARTED, "the queue keeps no statistics (iostats)")
_NO_ISSUE = (
    semconv.STAGE_ISSUED,
    "a queue keeps no time of issue; the time before it is in the device's",
)


def is_asynchronous(operation: Operation) -> bool:
    """Whether it is a request that a call submitted, and not a call."""
    return bool(operation.raw.flags & _ASYNCHRONOUS)


def of(operation: Operation, has_scheduler: HasScheduler) -> Timeline:
    """From its queue to its completion; what the times of others contradict is clipped."""
    request = operation.waits[0].request if operation.waits else None
    start_ns, end_ns = operation.start_ns, operation.end_ns
    names, times_ns = [(semconv.STAGE_QUEUED, _QUEUE)], [start_ns]
    missing = [_NO_START] if request is None or not request.start_ns else []
    if request is not None and request.start_ns:
        names.append((semconv.STAGE_STARTED, _QUEUE))
        times_ns.append(request.start_ns)
    if request is not None and request.issue_ns:
        names.append((semconv.STAGE_ISSUED, _before_issue(request, has_scheduler)))
        times_ns.append(request.issue_ns)
    else:
        missing.append(_NO_ISSUE)
    names.append((semconv.STAGE_COMPLETED, _DEVICE))
    times_ns.append(end_ns)
    return Timeline(
        [kind(name, layer, is_running=False) for name, layer in names],
        _in_order(times_ns, end_ns),
        [request] if request is not None else [],
        0,
        tuple(missing),
    )


def _before_issue(request: StorageRequest, has_scheduler: HasScheduler) -> str:
    """What it waited for between its start and the driver."""
    if request.flags & _FLUSH:
        return _DEVICE  # to write back its cache, or for the flush that ends it
    return _SCHEDULER if has_scheduler(request.device) else _QUEUE


def _in_order(times_ns: list[int], end_ns: int) -> list[int]:
    """None before the one before it, none after the end.

    A request may be older than the bio that joined it, and what submits many at once stamps them
    all with one reading of the clock.
    """
    found, latest_ns = [], 0
    for time_ns in times_ns:
        latest_ns = min(max(latest_ns, time_ns), end_ns)
        found.append(latest_ns)
    return found
