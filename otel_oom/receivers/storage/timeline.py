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

import functools
import operator
from collections.abc import Callable
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


class Kind:
    """What a stage is: one object for each name and layer, so that comparing is cheap.

    `layer` has the gap that ends with the stage; `is_running`: the task was on the CPU in it.
    """

    __slots__ = ("is_running", "layer", "name")

    def __init__(self, name: str, layer: str, is_running: bool) -> None:
        self.name = name
        self.layer = layer
        self.is_running = is_running


kind = functools.cache(Kind)


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


class _Stage(dict[str, Kind]):
    """The stage of one name, by layer."""

    def __init__(self, name: str, *, is_running: bool = False) -> None:
        self.name = name
        self._is_running = is_running

    def __missing__(self, layer: str) -> Kind:
        made = self[layer] = kind(self.name, layer, self._is_running)
        return made


def _running(name: str) -> _Stage:
    return _Stage(name, is_running=True)


class _Event(NamedTuple):
    """`then` is where the call is after it; the gap before it belongs to where the call was.

    With a `layer` it moves only a call that was in no layer below the system call, and has the
    gap before it, too.
    """

    number: int
    stage: _Stage
    layer: str | None
    then: str | None


_Point = tuple[int, _Stage, str | None, str | None]
"""When, and the last three of an event; `then` is None for what is of a request."""

_time = operator.itemgetter(0)


class _Terms(NamedTuple):
    """How a task's stages are called, and in which layer it is when nothing tells more."""

    first: str
    home: str
    events: tuple[_Event, ...]
    sleeps: tuple[_Stage, ...]  # by cause
    woken: _Stage
    run: _Stage


_ENTER, _EXIT = _running(semconv.STAGE_ENTER), _running(semconv.STAGE_EXIT)
_STARTED, _STARTED_RUNNING = _Stage(semconv.STAGE_STARTED), _running(semconv.STAGE_STARTED)
_ISSUED, _ISSUED_RUNNING = _Stage(semconv.STAGE_ISSUED), _running(semconv.STAGE_ISSUED)
_COMPLETED = _Stage(semconv.STAGE_COMPLETED)
_QUEUED_RUNNING = _running(semconv.STAGE_QUEUED)
_SLEEP = _running(semconv.STAGE_SLEEP)


def _event(event: StorageEvent, name: str, then: str, layer: str | None = None) -> _Event:
    return _Event(event.value, _running(name), layer, then)


_CALL = _Terms(
    first=_SYSCALL,
    home=_FILESYSTEM,
    events=(
        _event(StorageEvent.CACHE_MISS, semconv.STAGE_CACHE_MISS, _PAGE_CACHE, _PAGE_CACHE),
        _event(StorageEvent.FS_ENTER, semconv.STAGE_FS_ENTER, _FILESYSTEM),
        _event(StorageEvent.WRITEBACK, semconv.STAGE_WRITEBACK, _FILESYSTEM),
        _event(StorageEvent.WRITEBACK_END, semconv.STAGE_WRITEBACK_END, _FILESYSTEM),
        _event(StorageEvent.LOG_FORCE, semconv.STAGE_LOG_FORCE, _JOURNAL),
        _event(StorageEvent.FS_EXIT, semconv.STAGE_FS_EXIT, _SYSCALL),
    ),
    sleeps=(
        _SLEEP,
        _running(semconv.STAGE_PREEMPTED),
        _SLEEP,
        _SLEEP,
        _running(semconv.STAGE_SLEEP_COMMIT),
        _running(semconv.STAGE_SLEEP_THROTTLED),
        _running(semconv.STAGE_SLEEP_RECLAIM),
    ),
    woken=_Stage(semconv.STAGE_WOKEN),
    run=_Stage(semconv.STAGE_RUN),
)
_THREAD = _Terms(
    first=_JOURNAL,
    home=_JOURNAL,
    events=(
        _event(StorageEvent.ENTER, semconv.STAGE_COMMIT, _JOURNAL),
        _event(StorageEvent.COMMIT_LOCKING, semconv.STAGE_COMMIT_LOCKING, _JOURNAL),
        _event(StorageEvent.COMMIT_FLUSHING, semconv.STAGE_COMMIT_FLUSHING, _JOURNAL),
        _event(StorageEvent.COMMIT_LOGGING, semconv.STAGE_COMMIT_LOGGING, _JOURNAL),
        _event(StorageEvent.EXIT, semconv.STAGE_COMMIT_END, _JOURNAL),
    ),
    sleeps=(_running(semconv.STAGE_COMMIT_SLEEP),) * (_RECLAIM + 1),
    woken=_Stage(semconv.STAGE_COMMIT_WOKEN),
    run=_Stage(semconv.STAGE_COMMIT_RUN),
)


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
    where = line.walk(operation, _CALL, end_ns)
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
        self.kinds = [_ENTER[_SYSCALL]]
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

    def walk(self, operation: Operation, terms: _Terms, end_ns: int) -> str:
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
                kinds[i] = kind(kinds[i].name, _MEMORY, is_running=True)

    def _pass(self, point: _Point, where: str) -> str:
        """A point on the CPU; where the call is after it."""
        time_ns, stage, layer, then = point
        if then is None:
            if time_ns >= self.times_ns[-1]:  # else another task made it while this one waited
                self.put(stage[where], time_ns)
            return where
        if layer is not None and where != _SYSCALL:
            then = layer = where  # a filesystem reads its own blocks through the cache too
        self.put(stage[layer or where], time_ns)
        return then

    def _wait(self, operation: Operation, wait: Wait, terms: _Terms, end_ns: int) -> None:
        """What is within a wait, up to the moment when the task runs again."""
        if wait.cause == _PREEMPTED:
            self.put(terms.run[_WAKEUP], end_ns)
            return
        woken_ns = min(wait.waking_ns, end_ns)
        layer = self._waited_for(operation, wait, terms, woken_ns or end_ns)
        if woken_ns:
            self.put(terms.woken[layer], woken_ns)
            layer = _WAKEUP
        else:
            self.missing[terms.woken.name] = "a wake-up was not seen; its delay is in the wait's"
        self.put(terms.run[layer], end_ns)

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
        self._within(_STARTED[_JOURNAL if for_log else _BLOCK_QUEUE], request.start_ns, end_ns)
        if request.issue_ns:
            self._within(_ISSUED[self._before_issue(request)], request.issue_ns, end_ns)
        else:
            self.missing[semconv.STAGE_ISSUED] = (
                "a queue keeps no time of issue; the time before it is in the device's"
            )
        self._within(_COMPLETED[_DEVICE], min(request.complete_ns, end_ns), end_ns)
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
            first = len(self.kinds)
            self.walk(commit, _THREAD, end_ns)
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
                self.kinds[inside] = [kind(end, _JOURNAL, is_running=False)]
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


def _points(operation: Operation, terms: _Terms, start_ns: int, end_ns: int) -> list[_Point]:
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
