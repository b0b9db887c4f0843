"""Makes the components that a config names, links them, and starts and stops them in order.

Started: extensions, exporters, processors from last to first, receivers. Stopped: the exact
reverse, so that nothing is ever handed to a component that has gone.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import otel_oom
from otel_oom import errors
from otel_oom.config.types import ComponentId
from otel_oom.pipeline import accounting, component
from otel_oom.pipeline.component import State, Status
from otel_oom.pipeline.consumer import Consumer, FanOut
from otel_oom.pipeline.data import Batch, Signal
from otel_oom.service import board as boards
from otel_oom.service.settings import AgentConfig, Pipeline

_LOG = logging.getLogger(__name__)
_GRACE_S = 1.0
"""Time that a component gets in any case: to stop when the others used the time up, and to
count what it loses once it is cancelled."""

Branch = tuple[Consumer, bool]
"""A consumer, and whether it may change what it is given."""


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A component and the key of its status, `kind/id`; a processor's ends in `@pipeline`."""

    key: str
    component: component.Component


class Guard:
    """Stands before a consumer: what an unexpected error breaks off is counted, never lost."""

    def __init__(self, key: str, consumer: Consumer, ledger: accounting.Ledger) -> None:
        self._key = key
        self._consumer = consumer
        self._ledger = ledger
        self._last = ""

    async def consume(self, batch: Batch) -> None:
        """Hand the batch on; only `errors.Refused` comes back."""
        try:
            await self._consumer.consume(batch)
        except errors.Refused:
            raise
        except Exception as error:  # noqa: BLE001  # whatever it is, the sum must close
            name = self._key.partition("/")[2]
            self._ledger.dropped(name, batch.signal, batch.items, "internal_error")
            self._log_change(error)

    def _log_change(self, error: Exception) -> None:
        """Log a traceback when the error is another than the last time, not for every batch."""
        if repr(error) != self._last:
            self._last = repr(error)
            _LOG.error("%s: a bug dropped a batch: %r", self._key, error, exc_info=error)


class Graph:
    """The components of one config. `stop` may be called at any time, also after a failed start."""

    def __init__(
        self, stages: Sequence[Sequence[Node]], board: boards.StatusBoard, stop_timeout_s: float
    ) -> None:
        """`stages`: in the order of the start."""
        self._stages = stages
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
                await self._start(node)
        except errors.ComponentError:
            await self.stop()
            raise
        self._board.set_running(running=True)

    async def stop(self) -> None:
        """Stop all within the configured time; what a component then holds, it counts."""
        if self._stopped:
            return
        self._stopped = True
        self._board.set_running(running=False)
        self._deadline_s = asyncio.get_running_loop().time() + self._stop_timeout_s
        for stage in reversed(self._stages):
            await self._stop_stage(stage)

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
            _LOG.warning("%s: did not stop in time; what it holds is dropped", tasks[task].key)
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


def build(config: AgentConfig, ledger: accounting.Ledger, board: boards.StatusBoard) -> Graph:
    """Make and link the components; nothing starts."""
    builder = _Builder(config, ledger, board)
    return Graph(builder.stages(), board, config.service.shutdown_timeout)


class _Builder:
    """Walks the pipelines from their ends to their beginnings."""

    def __init__(
        self, config: AgentConfig, ledger: accounting.Ledger, board: boards.StatusBoard
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._board = board
        self._exporters: dict[ComponentId, Node] = {}
        self._processors: dict[int, list[Node]] = collections.defaultdict(list)
        """By their position from the end of their pipeline."""
        self._entries: dict[ComponentId, dict[Signal, list[Branch]]] = {}

    def stages(self) -> list[list[Node]]:
        """Make everything; the stages are in the order of the start."""
        for name, pipeline in self._config.service.pipelines.items():
            entry = self._pipeline(str(name), pipeline)
            for receiver in pipeline.receivers:
                branches = self._entries.setdefault(receiver, {})
                branches.setdefault(name.signal, []).append(entry)
        receivers = [self._receiver(id_, wanted) for id_, wanted in self._entries.items()]
        processors = [self._processors[position] for position in sorted(self._processors)]
        extensions = [self._extension(id_) for id_ in self._config.service.extensions]
        return [extensions, list(self._exporters.values()), *processors, receivers]

    def _pipeline(self, name: str, pipeline: Pipeline) -> Branch:
        """Make a pipeline's exporters and processors; return where it begins."""
        branches = [self._exporter(id_) for id_ in pipeline.exporters]
        mutates = any(changes for _, changes in branches)
        consumer = self._fan_out(branches)
        for position, id_ in enumerate(reversed(pipeline.processors)):
            factory, config = self._config.processors[id_]
            key = f"processors/{id_}@{name}"
            made = self._create(key, factory, id_, config, consumer)
            self._processors[position].append(Node(key, made))
            consumer = Guard(key, made, self._ledger)
            mutates = mutates or factory.mutates
        return consumer, mutates

    def _exporter(self, id_: ComponentId) -> Branch:
        factory, config = self._config.exporters[id_]
        key = f"exporters/{id_}"
        if id_ not in self._exporters:
            self._exporters[id_] = Node(key, self._create(key, factory, id_, config))
        exporter: Any = self._exporters[id_].component
        return Guard(key, exporter, self._ledger), factory.mutates

    def _receiver(self, id_: ComponentId, wanted: Mapping[Signal, list[Branch]]) -> Node:
        factory, config = self._config.receivers[id_]
        key = f"receivers/{id_}"
        consumers = {signal: self._fan_out(branches) for signal, branches in wanted.items()}
        return Node(key, self._create(key, factory, id_, config, consumers))

    def _extension(self, id_: ComponentId) -> Node:
        factory, config = self._config.extensions[id_]
        key = f"extensions/{id_}"
        return Node(key, self._create(key, factory, id_, config))

    def _fan_out(self, branches: Sequence[Branch]) -> Consumer:
        return branches[0][0] if len(branches) == 1 else FanOut(branches, self._ledger)

    def _create(
        self, key: str, factory: component.Factory, id_: ComponentId, config: Any, *links: Any
    ) -> Any:
        settings = component.Settings(
            id=id_,
            ledger=self._ledger,
            report=self._board.reporter(key),
            board=self._board,
            version=otel_oom.__version__,
        )
        try:
            return factory.create(settings, config, *links)
        except (errors.OtelOomError, ValueError, OSError) as error:
            raise errors.ComponentError(f"{key}: {error}") from error


def summaries(nodes: Iterable[Node]) -> list[str]:
    """Collect what the components have to say at the stop, each line with its component."""
    return [
        f"{node.key}: {line}"
        for node in nodes
        if isinstance(node.component, component.Summarising)
        for line in node.component.summary()
    ]
