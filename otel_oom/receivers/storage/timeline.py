"""A storage operation as a line of stages, and the layer of each gap between two of them.

A gap belongs to the layer of the stage that ends it. On the CPU that is where the call is: the
system call, the page cache, the filesystem. Off the CPU it is whatever the task waited for: of
a wait for a request, the request's own times split it; of a wait for a journal's commit, the
commit's thread does, with its own waits. The rules are a table in docs/storage.md.

Whatever the times say, a line begins with the operation, ends with it and never runs backwards:
so the gaps sum to the whole, exactly, and no nanosecond is in two layers.

A line is two lists, of what each stage is and of when it was. There are few kinds of stages and
few orders in which they come, so whatever is made of the first list can be kept.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import NamedTuple

from otel_oom import semconv
from otel_oom.bpf.storage_operations_events import (
    StorageCause,
    StorageRequest,
    StorageRequestFlag,
    StorageWaitFlag,
)
from otel_oom.receivers.storage.records import Operation, Wait
from otel_oom.receivers.storage.stages import (
    BLOCK_QUEUE,
    CALL,
    DEVICE,
    JOURNAL,
    MEMORY,
    PAGE_CACHE,
    SCHEDULER,
    SYSCALL,
    THREAD,
    WAKEUP,
    Kind,
    Stage,
    Terms,
    kind,
    running,
)

_PREEMPTED = StorageCause.PREEMPTED.value
_WORKER = StorageCause.WORKER.value
_COMMIT = StorageCause.COMMIT.value
_THROTTLED = StorageCause.THROTTLED.value
_RECLAIM = StorageCause.RECLAIM.value

_LOG, _QUEUED = StorageWaitFlag.LOG.value, StorageWaitFlag.QUEUED.value
_FLUSH = StorageRequestFlag.FLUSH.value

HasScheduler = Callable[[int], bool]
"""Whether the device of this number (major << 20 | minor) has an I/O scheduler."""


class Timeline(NamedTuple):
    """Stages from the system call to its return: the kind of each, and its nanoseconds.

    `requests` are those that the operation waited for. `left_out_ns` is in waits too short to
    be kept, which lie somewhere in the gaps on the CPU. `missing` has (name, reason).
    """

    kinds: list[Kind]
    times_ns: list[int]
    requests: list[StorageRequest]
    left_out_ns: int
    missing: tuple[tuple[str, str], ...]

    def gaps_ns(self) -> list[int]:
        """The time before each stage but the first."""
        return list(map(operator.sub, self.times_ns[1:], self.times_ns))


_Point = tuple[int, Stage, str | None, str | None]
"""When, and the last three of an event; `then` is None for what is of a request."""

_time = operator.itemgetter(0)


_ENTER, _EXIT = running(semconv.STAGE_ENTER), running(semconv.STAGE_EXIT)
_STARTED, _STARTED_RUNNING = Stage(semconv.STAGE_STARTED), running(semconv.STAGE_STARTED)
_ISSUED, _ISSUED_RUNNING = Stage(semconv.STAGE_ISSUED), running(semconv.STAGE_ISSUED)
_COMPLETED = Stage(semconv.STAGE_COMPLETED)
_QUEUED_RUNNING = running(semconv.STAGE_QUEUED)


_PHASES = (
    (semconv.STAGE_COMMIT_FLUSHING, semconv.STAGE_COMMIT_LOGGING),
    (semconv.STAGE_COMMIT_LOGGING, semconv.STAGE_COMMIT_END),
)
"""Of a commit: where it waits for requests."""

_MANY = 4
"""Gaps of a phase are many if none of them is a so-manieth of it."""


def of(operation: Operation, has_scheduler: HasScheduler) -> Timeline:
    """The timeline of a system call."""
    line = _Line(operation.start_ns, has_scheduler)
    end_ns = operation.end_ns
    where = line.walk(operation, CALL, end_ns)
    line.put(_EXIT[where], end_ns)
    if operation.raw.waits > len(operation.waits) or operation.commit is not None:
        line.tell_left_out(operation)
    if operation.raw.reclaim_ns:
        line.tell_reclaim(operation)
    missing = tuple(line.missing.items()) if line.missing else ()
    return Timeline(line.kinds, line.times_ns, line.requests, line.left_out_ns, missing)


class _Line:
    """Puts stages one after the other, none before the last."""

    def __init__(self, start_ns: int, has_scheduler: HasScheduler) -> None:
        self.kinds = [_ENTER[SYSCALL]]
        self.times_ns = [start_ns]
        self.requests: list[StorageRequest] = []
        self.missing: dict[str, str] = {}
        self.left_out_ns = 0
        self._has_scheduler = has_scheduler

    def put(self, what: Kind, time_ns: int) -> None:
        """A stage; one that would lie before the last is at the same time."""
        last_ns = self.times_ns[-1]
        self.kinds.append(what)
        self.times_ns.append(max(last_ns, time_ns))

    def walk(self, operation: Operation, terms: Terms, end_ns: int) -> str:
        """All stages of a task between now and the end; the layer that it is in then."""
        where, times_ns = terms.first, self.times_ns
        points = _points(operation, terms, times_ns[-1], end_ns)
        for wait in operation.waits:
            sleep_ns = wait.sleep_ns
            if wait.run_ns <= times_ns[-1] or sleep_ns >= end_ns:
                continue
            while points and points[-1][0] <= sleep_ns:
                where = self._pass(points.pop(), where)
            if sleep_ns >= times_ns[-1]:
                self.put(terms.sleeps[wait.cause][where], sleep_ns)
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

    def tell_reclaim(self, operation: Operation) -> None:
        """Give memory the gaps on the CPU of which surely more than half was reclaim."""
        kinds, times_ns = self.kinds, self.times_ns
        running = [i for i in range(1, len(kinds)) if kinds[i].is_running]
        gaps_ns = {i: times_ns[i] - times_ns[i - 1] for i in running}
        reclaim_ns = operation.raw.reclaim_ns - operation.waited_ns[_RECLAIM]
        elsewhere_ns = sum(gaps_ns.values())
        for i, gap_ns in gaps_ns.items():
            if 2 * (reclaim_ns - (elsewhere_ns - gap_ns)) > gap_ns:
                kinds[i] = kind(kinds[i].name, MEMORY, is_running=True)

    def _pass(self, point: _Point, where: str) -> str:
        """A point on the CPU; where the call is after it."""
        time_ns, stage, layer, then = point
        if then is None:
            if time_ns >= self.times_ns[-1]:  # else another task made it while this one waited
                self.put(stage[where], time_ns)
            return where
        if layer is not None and where != SYSCALL:
            then = layer = where  # a filesystem reads its own blocks through the cache too
        self.put(stage[layer or where], time_ns)
        return then

    def _wait(self, operation: Operation, wait: Wait, terms: Terms, end_ns: int) -> None:
        """What is within a wait, up to the moment when the task runs again."""
        if wait.cause == _PREEMPTED:
            self.put(terms.run[WAKEUP], end_ns)
            return
        woken_ns = min(wait.waking_ns, end_ns)
        layer = self._waited_for(operation, wait, terms, woken_ns or end_ns)
        if woken_ns:
            self.put(terms.woken[layer], woken_ns)
            layer = WAKEUP
        else:
            self.missing[terms.woken.name] = "a wake-up was not seen; its delay is in the wait's"
        self.put(terms.run[layer], end_ns)

    def _waited_for(self, operation: Operation, wait: Wait, terms: Terms, end_ns: int) -> str:
        """Put what is known of the wait's inside; the layer of the rest of it."""
        if wait.request is not None:
            return self._request(wait, wait.request, terms, end_ns)
        if wait.cause == _COMMIT:
            self._commit(operation, wait, end_ns)
            return JOURNAL
        if wait.cause == _THROTTLED:
            return PAGE_CACHE
        if wait.cause == _RECLAIM:
            return MEMORY
        if wait.flags & _QUEUED:
            return BLOCK_QUEUE
        return JOURNAL if wait.flags & _LOG else terms.home

    def _request(self, wait: Wait, request: StorageRequest, terms: Terms, end_ns: int) -> str:
        if _is_of_another(wait, request):
            return BLOCK_QUEUE  # it made room for the bio of this task
        self.requests.append(request)
        for_log = wait.flags & _LOG
        self._within(_STARTED[JOURNAL if for_log else BLOCK_QUEUE], request.start_ns, end_ns)
        if request.issue_ns:
            self._within(_ISSUED[self._before_issue(request)], request.issue_ns, end_ns)
        else:
            self.missing[semconv.STAGE_ISSUED] = (
                "a queue keeps no time of issue; the time before it is in the device's"
            )
        self._within(_COMPLETED[DEVICE], min(request.complete_ns, end_ns), end_ns)
        if wait.cause == _WORKER:
            return JOURNAL if for_log else terms.home
        return DEVICE

    def _before_issue(self, request: StorageRequest) -> str:
        """What a request waits for that was not given to the driver yet."""
        if request.flags & _FLUSH:
            return DEVICE  # to write back its cache, which comes before the data
        return SCHEDULER if self._has_scheduler(request.device) else BLOCK_QUEUE

    def _commit(self, operation: Operation, wait: Wait, end_ns: int) -> None:
        """The stages of the commit that the task waited for, as far as they are in the wait."""
        commit = operation.commit
        if commit is not None and commit.raw.transaction == wait.transaction:
            first = len(self.kinds)
            self.walk(commit, THREAD, end_ns)
            self._fold(first)
        elif wait.transaction == operation.raw.transaction:
            self.missing[semconv.STAGE_COMMIT] = "the record of the journal's commit was not kept"

    def _fold(self, first: int) -> None:
        """Take the inside out of a commit's phase that was long by many short gaps.

        Then no request of it was slow, but the journal had so much to write.
        """
        names = [kind.name for kind in self.kinds]
        for begin, end in reversed(_PHASES):
            try:
                start = names.index(begin, first)
                stop = names.index(end, start)
            except ValueError:
                continue  # it is not all within the wait
            inside = slice(start + 1, stop + 1)
            begin_ns, end_ns = self.times_ns[start], self.times_ns[stop]
            if self._longest_wait_ns(inside) * _MANY < end_ns - begin_ns:
                self.kinds[inside] = [kind(end, JOURNAL, is_running=False)]
                self.times_ns[inside] = [end_ns]

    def _longest_wait_ns(self, inside: slice) -> int:
        """The longest of these gaps off the CPU; those on it hold the waits that were not kept."""
        befores_ns = self.times_ns[inside.start - 1 :]
        gaps = zip(self.kinds[inside], self.times_ns[inside], befores_ns, strict=False)
        return max((at - before for kind, at, before in gaps if not kind.is_running), default=0)

    def _within(self, what: Kind, time_ns: int, end_ns: int) -> None:
        """A stage, if it lies between the last one and the end."""
        if self.times_ns[-1] <= time_ns <= end_ns:
            self.kinds.append(what)
            self.times_ns.append(time_ns)


def _points(operation: Operation, terms: Terms, start_ns: int, end_ns: int) -> list[_Point]:
    """What happened on the CPU from start to end, the last first."""
    at = operation.at
    points: list[_Point] = [
        (at[number], stage, layer, then)
        for number, stage, layer, then in terms.events
        if start_ns <= at[number] <= end_ns
    ]
    told: set[tuple[int, str]] = set()  # waits may be for one request, or after one bio
    for wait in operation.waits:
        request = wait.request
        if request is None or _is_of_another(wait, request):
            continue
        before_ns = min(wait.sleep_ns, end_ns + 1)
        for time_ns, stage in (
            (wait.queue_ns, _QUEUED_RUNNING),
            (request.start_ns, _STARTED_RUNNING),
            (request.issue_ns, _ISSUED_RUNNING),
        ):
            if start_ns <= time_ns < before_ns and (time_ns, stage.name) not in told:
                told.add((time_ns, stage.name))
                points.append((time_ns, stage, None, None))
    points.sort(key=_time)
    points.reverse()
    return points


def _is_of_another(wait: Wait, request: StorageRequest) -> bool:
    """Whether a bio of the task had no request, and this older one ended the wait: a tag's."""
    return bool(wait.flags & _QUEUED) and request.start_ns <= wait.sleep_ns
