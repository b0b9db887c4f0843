"""Makes the components that a config names, and links them; nothing starts."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import otel_oom
from otel_oom import errors
from otel_oom.config.types import ComponentId
from otel_oom.pipeline import accounting, component, weights
from otel_oom.pipeline.consumer import Consumer, FanOut
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.incidents import Incidents
from otel_oom.pipeline.resources.monitor import Monitor
from otel_oom.pipeline.storages import Storages
from otel_oom.pipeline.views import Views
from otel_oom.service import board as boards
from otel_oom.service.graph import Graph, Node
from otel_oom.service.links import Guard, Weighing
from otel_oom.service.settings import AgentConfig, Pipeline

Branch = tuple[Consumer, bool]
"""A consumer, and whether it may change what it is given."""


def build(config: AgentConfig, ledger: accounting.Ledger, board: boards.StatusBoard) -> Graph:
    """Make and link the components of a config."""
    builder = _Builder(config, ledger, board)
    return Graph(builder.stages(), board, config.service.shutdown_timeout)


def build_senders(
    config: AgentConfig, ledger: accounting.Ledger, board: boards.StatusBoard
) -> Graph:
    """Make the storages of a config and the exporters that keep a queue in one, and no more."""
    builder = _Builder(config, ledger, board)
    return Graph(builder.sending_stages(), board, config.service.shutdown_timeout)


class _Builder:
    """Walks the pipelines from their ends to their beginnings."""

    def __init__(
        self, config: AgentConfig, ledger: accounting.Ledger, board: boards.StatusBoard
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._board = board
        self._incidents = Incidents()
        self._views = Views()
        self._storages = Storages()
        self._resources = Monitor()
        self._exporters: dict[ComponentId, Node] = {}
        self._processors: dict[int, list[Node]] = collections.defaultdict(list)
        """By their position from the end of their pipeline."""
        self._entries: dict[ComponentId, dict[Signal, list[Branch]]] = {}

    def stages(self) -> list[list[Node]]:
        """Make everything; the stages are in the order of the start."""
        for name, pipeline in self._config.service.pipelines.items():
            consumer, mutates = self._pipeline(str(name), pipeline)
            for receiver in pipeline.receivers:
                weighing = Weighing(self._weight(receiver, name.signal, pipeline), consumer)
                branches = self._entries.setdefault(receiver, {})
                branches.setdefault(name.signal, []).append((weighing, mutates))
        receivers = [self._receiver(id_, wanted) for id_, wanted in self._entries.items()]
        processors = [self._processors[position] for position in sorted(self._processors)]
        extensions = [self._extension(id_) for id_ in self._config.service.extensions]
        return [extensions, list(self._exporters.values()), *processors, receivers]

    def sending_stages(self) -> list[list[Node]]:
        """Make what is needed to send what is kept; the stages are in the order of the start."""
        wanted = {
            id_: queue.storage
            for id_, (_, options) in self._config.exporters.items()
            if (queue := getattr(options, "sending_queue", None)) and queue.storage
        }
        storages = {id_ for id_ in self._config.service.extensions if str(id_) in wanted.values()}
        for id_, storage in wanted.items():
            if storage in map(str, storages):
                self._exporter(id_)
        return [[self._extension(id_) for id_ in storages], list(self._exporters.values())]

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

    def _weight(self, receiver: ComponentId, signal: Signal, pipeline: Pipeline) -> int:
        """How urgent is what a receiver hands to a pipeline: by the config, or by what it is."""
        if pipeline.weight is not None:
            return pipeline.weight
        factory, _ = self._config.receivers[receiver]
        return weights.METRICS if signal is Signal.METRICS else factory.weight

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
            incidents=self._incidents,
            views=self._views,
            storages=self._storages,
            resources=self._resources,
        )
        try:
            return factory.create(settings, config, *links)
        except (errors.OtelOomError, ValueError, OSError) as error:
            raise errors.ComponentError(f"{key}: {error}") from error
