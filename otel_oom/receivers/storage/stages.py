"""The stages of an operation: what each is called, and in which layer the call is after it.

A gap belongs to the layer of the stage that ends it, so a stage has a kind for every layer that it
may end. There are few, and comparing two is comparing two objects.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from otel_oom import semconv
from otel_oom.bpf.storage_operations_events import StorageCause, StorageEvent

# Plain strings: an enum's comparison and hash take ten times as long.
SYSCALL = semconv.Layer.SYSCALL.value
PAGE_CACHE = semconv.Layer.PAGE_CACHE.value
FILESYSTEM = semconv.Layer.FILESYSTEM.value
JOURNAL = semconv.Layer.JOURNAL.value
BLOCK_QUEUE = semconv.Layer.BLOCK_QUEUE.value
SCHEDULER = semconv.Layer.SCHEDULER.value
DEVICE = semconv.Layer.DEVICE.value
WAKEUP = semconv.Layer.WAKEUP.value
MEMORY = semconv.Layer.MEMORY.value


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


class Stage(dict[str, Kind]):
    """The stage of one name, by layer."""

    def __init__(self, name: str, *, is_running: bool = False) -> None:
        self.name = name
        self._is_running = is_running

    def __missing__(self, layer: str) -> Kind:
        made = self[layer] = kind(self.name, layer, self._is_running)
        return made


def running(name: str) -> Stage:
    """A stage that ends a gap on the CPU."""
    return Stage(name, is_running=True)


class Event(NamedTuple):
    """`then` is where the call is after it; the gap before it belongs to where the call was.

    With a `layer` it moves only a call that was in no layer below the system call, and has the
    gap before it, too.
    """

    number: int
    stage: Stage
    layer: str | None
    then: str | None


class Terms(NamedTuple):
    """How a task's stages are called, and in which layer it is when nothing tells more."""

    first: str
    home: str
    events: tuple[Event, ...]
    sleeps: tuple[Stage, ...]  # by cause
    woken: Stage
    run: Stage


_SLEEP = running(semconv.STAGE_SLEEP)


def _event(event: StorageEvent, name: str, then: str, layer: str | None = None) -> Event:
    return Event(event.value, running(name), layer, then)


CALL = Terms(
    first=SYSCALL,
    home=FILESYSTEM,
    events=(
        _event(StorageEvent.CACHE_MISS, semconv.STAGE_CACHE_MISS, PAGE_CACHE, PAGE_CACHE),
        _event(StorageEvent.FS_ENTER, semconv.STAGE_FS_ENTER, FILESYSTEM),
        _event(StorageEvent.WRITEBACK, semconv.STAGE_WRITEBACK, FILESYSTEM),
        _event(StorageEvent.WRITEBACK_END, semconv.STAGE_WRITEBACK_END, FILESYSTEM),
        _event(StorageEvent.LOG_FORCE, semconv.STAGE_LOG_FORCE, JOURNAL),
        _event(StorageEvent.FS_EXIT, semconv.STAGE_FS_EXIT, SYSCALL),
    ),
    sleeps=(
        _SLEEP,
        running(semconv.STAGE_PREEMPTED),
        _SLEEP,
        _SLEEP,
        running(semconv.STAGE_SLEEP_COMMIT),
        running(semconv.STAGE_SLEEP_THROTTLED),
        running(semconv.STAGE_SLEEP_RECLAIM),
    ),
    woken=Stage(semconv.STAGE_WOKEN),
    run=Stage(semconv.STAGE_RUN),
)
THREAD = Terms(
    first=JOURNAL,
    home=JOURNAL,
    events=(
        _event(StorageEvent.ENTER, semconv.STAGE_COMMIT, JOURNAL),
        _event(StorageEvent.COMMIT_LOCKING, semconv.STAGE_COMMIT_LOCKING, JOURNAL),
        _event(StorageEvent.COMMIT_FLUSHING, semconv.STAGE_COMMIT_FLUSHING, JOURNAL),
        _event(StorageEvent.COMMIT_LOGGING, semconv.STAGE_COMMIT_LOGGING, JOURNAL),
        _event(StorageEvent.EXIT, semconv.STAGE_COMMIT_END, JOURNAL),
    ),
    sleeps=(running(semconv.STAGE_COMMIT_SLEEP),) * (StorageCause.RECLAIM.value + 1),
    woken=Stage(semconv.STAGE_COMMIT_WOKEN),
    run=Stage(semconv.STAGE_COMMIT_RUN),
)
