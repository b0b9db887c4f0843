"""The last status of every component, and whether the agent as a whole is ready."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping

from otel_oom.pipeline.component import State, Status

_LOG = logging.getLogger(__name__)

_FAILED = (State.PERMANENT_ERROR, State.FATAL_ERROR)
_LEVELS = {
    State.RECOVERABLE_ERROR: logging.WARNING,
    State.PERMANENT_ERROR: logging.ERROR,
    State.FATAL_ERROR: logging.ERROR,
    State.OK: logging.INFO,
}


class StatusBoard:
    """`component.Board`, written by the service; logs a line whenever a state changes."""

    def __init__(self) -> None:
        self.fatal = asyncio.Event()
        """Set once a component says that the agent cannot go on."""
        self._statuses: dict[str, Status] = {}
        self._running = False
        self._started_at_s = time.time()

    def reporter(self, key: str) -> Callable[[Status], None]:
        """Return the `Settings.report` of the component `key`."""
        return lambda status: self.report(key, status)

    def report(self, key: str, status: Status) -> None:
        """Note a component's status."""
        before = self._statuses.get(key)
        self._statuses[key] = status
        if before is None or before.state is not status.state:
            text = f"{key}: {status.state}" + (f": {status.detail}" if status.detail else "")
            _LOG.log(_LEVELS.get(status.state, logging.DEBUG), "%s", text)
        if status.state is State.FATAL_ERROR:
            self.fatal.set()

    def started(self, key: str) -> None:
        """Note that a component's `start` returned, unless it has reported something since."""
        if self._statuses[key].state is State.STARTING:
            self.report(key, Status(State.OK))

    def set_running(self, *, running: bool) -> None:
        """Note that the whole graph has started, or begins to stop."""
        if running:
            self._started_at_s = time.time()
        self._running = running

    def clear(self, but: Collection[str] = ()) -> None:
        """Forget the components of a graph that is gone, but not those that are kept."""
        self._statuses = {key: one for key, one in self._statuses.items() if key in but}

    def statuses(self) -> Mapping[str, Status]:
        """The last status of every component, by `kind/id` (a processor's with its pipeline)."""
        return dict(self._statuses)

    def ready(self) -> bool:
        """Whether all is started and nothing has failed for good."""
        return self._running and not self.failed()

    def failed(self) -> list[str]:
        """Return the components that have failed for good."""
        return [key for key, status in self._statuses.items() if status.state in _FAILED]

    def started_at_s(self) -> float:
        """Wall-clock time at which the graph was started, Unix seconds."""
        return self._started_at_s
