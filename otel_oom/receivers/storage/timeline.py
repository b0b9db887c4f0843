"""A storage operation as a line of stages, and the layer of each gap between two of them.

A gap belongs to the layer of the stage that ends it. On the CPU that is where the call is: the
system call, the page cache, the filesystem. Off the CPU it is whatever the task waited for: of
a wait for a request, the request's own times split it; of a wait for a journal's commit, the
commit's thread does, with its own waits. The rules are a table in docs/storage.md.

Whatever the times say, a line begins with the operation, ends with it and never runs backwards:
so the gaps sum to the whole, exactly, and no nanosecond is in two layers.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, Iterator
from typing import NamedTuple

from otel_oom import semconv
from otel_oom.bpf.storage_operations_events import (
    StorageCause,
    StorageEvent,
    StorageRequest,
    StorageRequestFlag,
    StorageWaitFlag,
)
from otel_oom.receivers.storage.records import Operation, Wait

# Plain strings and ints: an enum's comparison and hash take ten times as long.
_SYSCALL = semconv.Layer.SYSCALL.value
_PAGE_CACHE = semconv.Layer.PAGE_CACHE.value
_FILESYSTEM = semconv.Layer.FILESYSTEM.value
_JOURNAL = semconv.Layer.JOURNAL.value
_BLOCK_QUEUE = semconv.Layer.BLOCK_QUEUE.value
_SCHEDULER = semconv.Layer.SCHEDULER.value
_DEVICE = semconv.Layer.DEVICE.value
_WAKEUP = semconv.Layer.WAKEUP.value
_MEMORY = semconv.Layer.MEMORY.value

_PREEMPTED = StorageCause.PREEMPTED.value
_WORKER = StorageCause.WORKER.value
_COMMIT = StorageCause.COMMIT.value
_THROTTLED = StorageCause.THROTTLED.value
_RECLAIM = StorageCause.RECLAIM.value

_LOG, _QUEUED = StorageWaitFlag.LOG.value, StorageWaitFlag.QUEUED.value
_FLUSH = StorageRequestFlag.FLUSH.value

HasScheduler = Callable[[int], bool]
"""Whether the device of this number (major << 20 | minor) has an I/O scheduler."""


class Stage(NamedTuple):
    """An event of an operation. `layer` has the gap that ends here; `is_running`: on the CPU."""

    name: str
    time_ns: int
    layer: str
    is_running: bool


class Timeline(NamedTuple):
    """The stages, from the system call to its return; `requests` are those it waited for.

    `left_out_ns` is in waits too short to be kept, which lie somewhere in the gaps on the CPU.
    """

    stages: list[Stage]
    requests: list[StorageRequest]
    left_out_ns: int
    missing: tuple[tuple[str, str], ...]


class _Event(NamedTuple):
    """`layer` None: the gap before it belongs to where the call was. `then` is where it is now."""

    number: int
    name: str
    layer: str | None
    then: str | None


class _Point(NamedTuple):
    """An event of the task, or one of a request (`then` None) while the task was on the CPU."""

    time_ns: int
    name: str
    layer: str | None
    then: str | None


_time = operator.itemgetter(0)


class _Terms(NamedTuple):
    """How a task's stages are called, and in which layer it is when nothing tells more."""

    first: str
    home: str
    events: tuple[_Event, ...]
    sleeps: tuple[str, ...]  # by cause
    woken: str
    run: str


_CALL = _Terms(
    first=_SYSCALL,
    home=_FILESYSTEM,
    events=(
        _Event(StorageEvent.CACHE_MISS.value, semconv.STAGE_CACHE_MISS, _PAGE_CACHE, _PAGE_CACHE),
        _Event(StorageEvent.FS_ENTER.value, semconv.STAGE_FS_ENTER, None, _FILESYSTEM),
        _Event(StorageEvent.WRITEBACK.value, semconv.STAGE_WRITEBACK, None, _FILESYSTEM),
        _Event(StorageEvent.WRITEBACK_END.value, semconv.STAGE_WRITEBACK_END, None, _FILESYSTEM),
        _Event(StorageEvent.LOG_FORCE.value, semconv.STAGE_LOG_FORCE, None, _JOURNAL),
        _Event(StorageEvent.FS_EXIT.value, semconv.STAGE_FS_EXIT, None, _SYSCALL),
    ),
    sleeps=(
        semconv.STAGE_SLEEP,
        semconv.STAGE_PREEMPTED,
        semconv.STAGE_SLEEP,
        semconv.STAGE_SLEEP,
        semconv.STAGE_SLEEP_COMMIT,
        semconv.STAGE_SLEEP_THROTTLED,
        semconv.STAGE_SLEEP_RECLAIM,
    ),
    woken=semconv.STAGE_WOKEN,
    run=semconv.STAGE_RUN,
)
_THREAD = _Terms(
    first=_JOURNAL,
    home=_JOURNAL,
    events=(
        _Event(StorageEvent.ENTER.value, semconv.STAGE_COMMIT, None, _JOURNAL),
        _Event(StorageEvent.COMMIT_LOCKING.value, semconv.STAGE_COMMIT_LOCKING, None, _JOURNAL),
        _Event(StorageEvent.COMMIT_FLUSHING.value, semconv.STAGE_COMMIT_FLUSHING, None, _JOURNAL),
        _Event(StorageEvent.COMMIT_LOGGING.value, semconv.STAGE_COMMIT_LOGGING, None, _JOURNAL),
        _Event(StorageEvent.EXIT.value, semconv.STAGE_COMMIT_END, None, _JOURNAL),
    ),
    sleeps=(semconv.STAGE_COMMIT_SLEEP,) * (_RECLAIM + 1),
    woken=semconv.STAGE_COMMIT_WOKEN,
    run=semconv.STAGE_COMMIT_RUN,
)


def of(operation: Operation, has_scheduler: HasScheduler) -> Timeline:
    """The timeline of a system call."""
    start_ns, end_ns = operation.start_ns, operation.end_ns
    line = _Line(start_ns, has_scheduler)
    line.put(semconv.STAGE_ENTER, start_ns, _SYSCALL, is_running=True)
    where = line.walk(operation, _CALL, end_ns)
    line.put(semconv.STAGE_EXIT, end_ns, where, is_running=True)
    line.tell_left_out(operation)
    stages = line.stages
    if operation.raw.reclaim_ns:
        stages = _with_reclaim(stages, operation)
    return Timeline(stages, line.requests, line.left_out_ns, tuple(line.missing.items()))


def gaps(stages: list[Stage]) -> Iterator[tuple[int, Stage, Stage]]:
    """Each gap: its nanoseconds, the stage that it comes after, the stage that ends it."""
    for before, after in itertools.pairwise(stages):
        yield after.time_ns - before.time_ns, before, after


class _Line:
    """Puts stages one after the other, none before the last."""

    def __init__(self, start_ns: int, has_scheduler: HasScheduler) -> None:
        self.stages: list[Stage] = []
        self.requests: list[StorageRequest] = []
        self.missing: dict[str, str] = {}
        self.left_out_ns = 0
        self._now_ns = start_ns
        self._has_scheduler = has_scheduler

    def put(self, name: str, time_ns: int, layer: str, *, is_running: bool = False) -> None:
        """A stage; one that would lie before the last is at the same time."""
        self._now_ns = max(self._now_ns, time_ns)
        self.stages.append(Stage(name, self._now_ns, layer, is_running))

    def walk(self, operation: Operation, terms: _Terms, end_ns: int) -> str:
        """All stages of a task between now and the end; the layer that it is in then."""
        where = terms.first
        points = _points(operation, terms, self._now_ns, end_ns)
        for wait in operation.waits:
            if wait.run_ns <= self._now_ns or wait.sleep_ns >= end_ns:
                continue
            while points and points[-1].time_ns <= wait.sleep_ns:
                where = self._pass(points.pop(), where)
            if wait.sleep_ns >= self._now_ns:
                self.put(terms.sleeps[wait.cause], wait.sleep_ns, where, is_running=True)
            self._wait(operation, wait, terms, min(wait.run_ns, end_ns))
        while points:
            where = self._pass(points.pop(), where)
        return where

    def tell_left_out(self, operation: Operation) -> None:
        """Count the waits that the kernel side had no room for, and name them."""
        call_count, call_ns = operation.left_out
        commit_count, commit_ns = operation.commit.left_out if operation.commit else (0, 0)
        self.left_out_ns = call_ns + commit_ns
        if call_count + commit_count:
            self.missing[semconv.STAGES] = (
                f"{call_count + commit_count} shorter waits, together "
                f"{self.left_out_ns / 1e6:.3f} ms, are within the gaps on the CPU"
            )

    def _pass(self, point: _Point, where: str) -> str:
        """A point on the CPU; where the call is after it."""
        if point.then is None and point.time_ns < self._now_ns:
            return where  # of a request that another task made while this one waited
        self.put(point.name, point.time_ns, point.layer or where, is_running=True)
        return point.then or where

    def _wait(self, operation: Operation, wait: Wait, terms: _Terms, end_ns: int) -> None:
        """What is within a wait, up to the moment when the task runs again."""
        if wait.cause == _PREEMPTED:
            self.put(terms.run, end_ns, _WAKEUP)
            return
        woken_ns = min(wait.waking_ns, end_ns)
        layer = self._waited_for(operation, wait, terms, woken_ns or end_ns)
        if woken_ns:
            self.put(terms.woken, woken_ns, layer)
            layer = _WAKEUP
        else:
            self.missing[terms.woken] = "a wake-up was not seen; its delay counts as the wait's"
        self.put(terms.run, end_ns, layer)

    def _waited_for(self, operation: Operation, wait: Wait, terms: _Terms, end_ns: int) -> str:
        """Put what is known of the wait's inside; the layer of the rest of it."""
        if wait.request is not None:
            return self._request(wait, wait.request, terms, end_ns)
        if wait.cause == _COMMIT:
            self._commit(operation, wait, end_ns)
            return _JOURNAL
        if wait.cause == _THROTTLED:
            return _PAGE_CACHE
        if wait.cause == _RECLAIM:
            return _MEMORY
        if wait.flags & _QUEUED:
            return _BLOCK_QUEUE
        return _JOURNAL if wait.flags & _LOG else terms.home

    def _request(self, wait: Wait, request: StorageRequest, terms: _Terms, end_ns: int) -> str:
        if _is_of_another(wait, request):
            return _BLOCK_QUEUE  # it made room for the bio of this task
        self.requests.append(request)
        for_log = wait.flags & _LOG
        self._within(
            semconv.STAGE_STARTED, request.start_ns, end_ns, _JOURNAL if for_log else _BLOCK_QUEUE
        )
        if request.issue_ns:
            layer = self._before_issue(request)
            self._within(semconv.STAGE_ISSUED, request.issue_ns, end_ns, layer)
        else:
            self.missing[semconv.STAGE_ISSUED] = (
                "a queue keeps no time of issue; the time before it counts as the device's"
            )
        self._within(semconv.STAGE_COMPLETED, min(request.complete_ns, end_ns), end_ns, _DEVICE)
        if wait.cause == _WORKER:
            return _JOURNAL if for_log else terms.home
        return _DEVICE

    def _before_issue(self, request: StorageRequest) -> str:
        """What a request waits for that was not given to the driver yet."""
        if request.flags & _FLUSH:
            return _DEVICE  # to write back its cache, which comes before the data
        return _SCHEDULER if self._has_scheduler(request.device) else _BLOCK_QUEUE

    def _commit(self, operation: Operation, wait: Wait, end_ns: int) -> None:
        """The stages of the commit that the task waited for, as far as they are in the wait."""
        commit = operation.commit
        if commit is not None and commit.raw.transaction == wait.transaction:
            self.walk(commit, _THREAD, end_ns)
        elif wait.transaction == operation.raw.transaction:
            self.missing[semconv.STAGE_COMMIT] = "the record of the journal's commit was not kept"

    def _within(self, name: str, time_ns: int, end_ns: int, layer: str) -> None:
        """A stage, if it lies between the last one and the end."""
        if self._now_ns <= time_ns <= end_ns:
            self._now_ns = time_ns
            self.stages.append(Stage(name, time_ns, layer, False))


def _points(operation: Operation, terms: _Terms, start_ns: int, end_ns: int) -> list[_Point]:
    """What happened on the CPU from start to end, the last first."""
    at = operation.at
    points = [
        _Point(at[number], name, layer, then)
        for number, name, layer, then in terms.events
        if start_ns <= at[number] <= end_ns
    ]
    for wait in operation.waits:
        request = wait.request
        if request is None or _is_of_another(wait, request):
            continue
        for name, time_ns in (
            (semconv.STAGE_QUEUED, wait.queue_ns),
            (semconv.STAGE_STARTED, request.start_ns),
            (semconv.STAGE_ISSUED, request.issue_ns),
        ):
            if start_ns <= time_ns < wait.sleep_ns and time_ns <= end_ns:
                points.append(_Point(time_ns, name, None, None))
    ordered = sorted(dict.fromkeys(points), key=_time)  # waits may be for one request
    ordered.reverse()
    return ordered


def _is_of_another(wait: Wait, request: StorageRequest) -> bool:
    """Whether a bio of the task had no request, and this older one ended the wait: a tag's."""
    return bool(wait.flags & _QUEUED) and request.start_ns <= wait.sleep_ns


def _with_reclaim(stages: list[Stage], operation: Operation) -> list[Stage]:
    """Gaps on the CPU of which more than half is reclaim, wherever else it was, are memory's."""
    reclaim_ns = operation.raw.reclaim_ns - operation.waited_ns[_RECLAIM]
    running_ns = sum(gap_ns for gap_ns, _, after in gaps(stages) if after.is_running)
    told = stages[:1]
    for gap_ns, _, after in gaps(stages):
        surely_ns = reclaim_ns - (running_ns - gap_ns)
        is_memory = after.is_running and 2 * surely_ns > gap_ns
        told.append(after._replace(layer=_MEMORY) if is_memory else after)
    return told
