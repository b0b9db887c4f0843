"""Starts the components of a config in order, and stops them.

Started: extensions, exporters, processors from last to first, receivers. Stopped: the exact
reverse, so that nothing is ever handed to a component that has gone.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Collection, Iterable, Sequence

from otel_oom import errors
from otel_oom.pipeline import component
from otel_oom.pipeline.component import State, Status
from otel_oom.service import board as boards

_LOG = logging.getLogger(__name__)
_GRACE_S = 1.0
"""Time that a component gets in any case: to stop when the others used the time up, and to
count what it loses once it is cancelled."""


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A component and the key of its status, `kind/id`; a processor's ends in `@pipeline`."""

    key: str
    component: component.Component


class Graph:
    """The components of one config. `stop` may be called at any time, also after a failed start."""

    def __init__(
        self,
        stages: Sequence[Sequence[Node]],
        board: boards.StatusBoard,
        stop_timeout_s: float,
        running: Collection[str] = (),
    ) -> None:
        """`stages`: in the order of the start; `running`: those that another graph has started."""
        self._stages = stages
        self._running = running
        self._board = board
        self._stop_timeout_s = stop_timeout_s
        self._stopping: set[asyncio.Task[None]] = set()
        self._deadline_s = 0.0
        self._hurried = False
        self._stopped = False

    @property
    def nodes(self) -> list[Node]:
        """Every component, in the order of the start."""
        return [node for stage in self._stages for node in stage]

    async def start(self) -> None:
        """Start all, or stop what had started and raise one `errors.ComponentError`."""
        try:
            for node in self.nodes:
                if node.key not in self._running:
                    await self._start(node)
        except errors.ComponentError:
            await self.stop(but=self._running)
            raise
        self._board.set_running(running=True)

    async def stop(self, but: Collection[str] = ()) -> None:
        """Stop all within the configured time; what a component then holds, it counts.

        Those whose keys are in `but` go on: another graph has them, or they are stopped later.
        """
        if self._stopped:
            return
        self._stopped = not but
        self._board.set_running(running=False)
        self._deadline_s = asyncio.get_running_loop().time() + self._stop_timeout_s
        for stage in reversed(self._stages):
            await self._stop_stage([node for node in stage if node.key not in but])

    def hurry(self) -> None:
        """Wait no longer: break off what is being stopped, and all that follows."""
        self._hurried = True
        for task in self._stopping:
            task.cancel()

    async def _start(self, node: Node) -> None:
        self._board.report(node.key, Status(State.STARTING))
        try:
            await node.component.start()
        except errors.OtelOomError as error:
            self._fail(node, str(error), error)
        except Exception as error:  # noqa: BLE001  # a bug of one component: say whose
            _LOG.debug("%s", node.key, exc_info=error)
            self._fail(node, f"cannot start: {error!r}", error)
        self._board.started(node.key)

    def _fail(self, node: Node, text: str, error: Exception) -> None:
        self._board.report(node.key, Status(State.PERMANENT_ERROR, text))
        raise errors.ComponentError(f"{node.key}: {text}") from error

    async def _stop_stage(self, stage: Sequence[Node]) -> None:
        tasks = {asyncio.create_task(self._stop_node(node)): node for node in stage}
        if not tasks:
            return
        self._stopping = set(tasks)
        _, late = await asyncio.wait(tasks, timeout=self._stage_time_s())
        for task in late:
            _LOG.warning(
                "%s: did not stop in time; what it holds in memory is dropped", tasks[task].key
            )
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=_GRACE_S)
        self._stopping = set()

    def _stage_time_s(self) -> float:
        left_s = self._deadline_s - asyncio.get_running_loop().time()
        return 0.0 if self._hurried else max(left_s, _GRACE_S)

    async def _stop_node(self, node: Node) -> None:
        failed = node.key in self._board.failed()
        if not failed:
            self._board.report(node.key, Status(State.STOPPING))
        try:
            await node.component.shutdown()
        except Exception as error:  # noqa: BLE001  # the others must still be stopped
            _LOG.error("%s: failed to stop: %r", node.key, error, exc_info=error)
        if not failed:
            self._board.report(node.key, Status(State.STOPPED))


def summaries(nodes: Iterable[Node]) -> list[str]:
    """Collect what the components have to say at the stop, each line with its component."""
    return [
        f"{node.key}: {line}"
        for node in nodes
        if isinstance(node.component, component.Summarising)
        for line in node.component.summary()
    ]
