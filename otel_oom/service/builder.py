"""Makes the components that a config names, and links them; nothing starts."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
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
from otel_oom.pipeline.sending.leftovers import Leftovers
from otel_oom.pipeline.storages import Storages
from otel_oom.pipeline.views import Views
from otel_oom.service import board as boards
from otel_oom.service.graph import Graph, Node
from otel_oom.service.links import Guard, Switch, Weighing
from otel_oom.service.settings import AgentConfig, Pipeline, PipelineId
from otel_oom.service.unchanged import Unchanged

Branch = tuple[Consumer, bool]
"""A consumer, and whether it may change what it is given."""

_PATIENCE_S = 1.0
"""For what a receiver is handing on at a reload. What waits in a full queue longer than that is
handed on anew, if the queue goes."""


def build(config: AgentConfig, ledger: accounting.Ledger, board: boards.StatusBoard) -> Graph:
    """Make and link the components of a config."""
    return Builder(config, ledger, board).graph()


def build_senders(
    config: AgentConfig, ledger: accounting.Ledger, board: boards.StatusBoard
) -> Graph:
    """Make the storages of a config and the exporters that keep a queue in one, and no more."""
    builder = Builder(config, ledger, board)
    return Graph(builder.sending_stages(), board, config.service.shutdown_timeout)


@dataclasses.dataclass(frozen=True, slots=True)
class Made:
    """What a builder has made, for the next one to take what is unchanged."""

    nodes: dict[str, Node] = dataclasses.field(default_factory=dict)
    pipelines: dict[PipelineId, Branch] = dataclasses.field(default_factory=dict)
    switches: dict[tuple[ComponentId, Signal], Switch] = dataclasses.field(default_factory=dict)
    incidents: Incidents = dataclasses.field(default_factory=Incidents)
    views: Views = dataclasses.field(default_factory=Views)
    storages: Storages = dataclasses.field(default_factory=Storages)
    resources: Monitor = dataclasses.field(default_factory=Monitor)
    leftovers: Leftovers = dataclasses.field(default_factory=Leftovers)

    def of(self, unchanged: Unchanged) -> Made:
        """Only that, and what belongs to the whole agent."""
        return dataclasses.replace(
            self,
            nodes={key: node for key, node in self.nodes.items() if key in unchanged.keys},
            pipelines={n: one for n, one in self.pipelines.items() if n in unchanged.pipelines},
            switches={
                key: one
                for key, one in self.switches.items()
                if f"receivers/{key[0]}" in unchanged.keys
            },
        )

    async def hold_back(self) -> None:
        """Let its receivers hand on nothing more, once what they are handing on is through."""
        switches = self.switches.values()
        await asyncio.gather(*(switch.close(_PATIENCE_S) for switch in switches))


class Builder:
    """Walks the pipelines from their ends to their beginnings. `made` begins as what is kept."""

    def __init__(
        self,
        config: AgentConfig,
        ledger: accounting.Ledger,
        board: boards.StatusBoard,
        kept: Made | None = None,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._board = board
        self.made = kept or Made()
        self._kept = frozenset(self.made.nodes)
        self._targets: dict[Switch, Consumer] = {}
        self._exporters: dict[ComponentId, Node] = {}
        self._processors: dict[int, list[Node]] = collections.defaultdict(list)
        """By their position from the end of their pipeline."""
        self._entries: dict[ComponentId, dict[Signal, list[Branch]]] = {}

    def graph(self) -> Graph:
        """Make what is not kept; receivers that are kept reach it after `open`."""
        stages = self._stages()
        return Graph(stages, self._board, self._config.service.shutdown_timeout, self._kept)

    def open(self) -> None:
        """Let the receivers that are kept hand on to what has been started meanwhile."""
        for switch, target in self._targets.items():
            switch.open(target)

    def _stages(self) -> list[list[Node]]:
        """Make everything; the stages are in the order of the start."""
        for name, pipeline in self._config.service.pipelines.items():
            consumer, mutates = self._pipeline(name, pipeline)
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

    def _pipeline(self, name: PipelineId, pipeline: Pipeline) -> Branch:
        """A pipeline's exporters and processors, made or kept; returns where it begins."""
        if name in self.made.pipelines:
            for id_ in pipeline.exporters:
                self._exporter(id_)
            for position, id_ in enumerate(reversed(pipeline.processors)):
                self._processors[position].append(self.made.nodes[f"processors/{id_}@{name}"])
        else:
            self.made.pipelines[name] = self._new_pipeline(name, pipeline)
        return self.made.pipelines[name]

    def _new_pipeline(self, name: PipelineId, pipeline: Pipeline) -> Branch:
        branches = [self._exporter(id_) for id_ in pipeline.exporters]
        mutates = any(changes for _, changes in branches)
        consumer = self._fan_out(branches)
        for position, id_ in enumerate(reversed(pipeline.processors)):
            factory, config = self._config.processors[id_]
            key = f"processors/{id_}@{name}"
            node = self._node(key, factory, id_, config, consumer)
            self._processors[position].append(node)
            processor: Any = node.component
            consumer = Guard(key, processor, self._ledger)
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
        self._exporters[id_] = self._node(key, factory, id_, config)
        exporter: Any = self._exporters[id_].component
        return Guard(key, exporter, self._ledger), factory.mutates

    def _receiver(self, id_: ComponentId, wanted: Mapping[Signal, list[Branch]]) -> Node:
        factory, config = self._config.receivers[id_]
        key = f"receivers/{id_}"
        consumers = {}
        for signal, branches in wanted.items():
            switch = self.made.switches.setdefault((id_, signal), Switch())
            consumers[signal] = switch
            if key in self._kept:
                self._targets[switch] = self._fan_out(branches)
            else:
                switch.open(self._fan_out(branches))
        return self._node(key, factory, id_, config, consumers)

    def _extension(self, id_: ComponentId) -> Node:
        factory, config = self._config.extensions[id_]
        return self._node(f"extensions/{id_}", factory, id_, config)

    def _fan_out(self, branches: Sequence[Branch]) -> Consumer:
        return branches[0][0] if len(branches) == 1 else FanOut(branches, self._ledger)

    def _node(
        self, key: str, factory: component.Factory, id_: ComponentId, config: Any, *links: Any
    ) -> Node:
        """The one that is kept, or was made for another pipeline, or a new one."""
        if key not in self.made.nodes:
            self.made.nodes[key] = Node(key, self._create(key, factory, id_, config, *links))
        return self.made.nodes[key]

    def _create(
        self, key: str, factory: component.Factory, id_: ComponentId, config: Any, *links: Any
    ) -> Any:
        settings = component.Settings(
            id=id_,
            ledger=self._ledger.owned(key),
            report=self._board.reporter(key),
            board=self._board,
            version=otel_oom.__version__,
            incidents=self.made.incidents,
            views=self.made.views,
            storages=self.made.storages,
            resources=self.made.resources,
            leftovers=self.made.leftovers,
        )
        try:
            return factory.create(settings, config, *links)
        except (errors.OtelOomError, ValueError, OSError) as error:
            raise errors.ComponentError(f"{key}: {error}") from error
