"""The graph: who is made how often, in which order all start and stop, and what failures cost.

No failure of a component may lose the count of an item.
"""

import asyncio
import dataclasses

import pytest
from doubles import sink, virtual_loop

from otel_oom import errors
from otel_oom.config.types import ComponentId
from otel_oom.pipeline import accounting
from otel_oom.pipeline.component import Factory, Kind, State, Status
from otel_oom.pipeline.data import Signal
from otel_oom.service import builder
from otel_oom.service.board import StatusBoard
from otel_oom.service.config import AgentConfig, Configured
from otel_oom.service.registry import Registry
from otel_oom.service.settings import Pipeline, PipelineId, Service

KINDS = {"r": Kind.RECEIVER, "p": Kind.PROCESSOR, "e": Kind.EXPORTER, "x": Kind.EXTENSION}


@dataclasses.dataclass
class World:
    """What the components of a test do, and what they did."""

    events: list[str] = dataclasses.field(default_factory=list)
    made: list["Part"] = dataclasses.field(default_factory=list)
    fails_to_start: dict[str, Exception] = dataclasses.field(default_factory=dict)
    fails_to_stop: set[str] = dataclasses.field(default_factory=set)
    hangs: set[str] = dataclasses.field(default_factory=set)
    breaks: dict[str, Exception] = dataclasses.field(default_factory=dict)
    weights: dict[str, int] = dataclasses.field(default_factory=dict)

    def named(self, name):
        return [part for part in self.made if part.settings.name == name]


class Part:
    """A component of any kind: a processor passes on, an exporter counts as delivered."""

    def __init__(self, world, settings, links):
        self.world, self.settings = world, settings
        (self.link,) = links or (None,)
        self.held = 0
        world.made.append(self)

    async def start(self):
        if error := self.world.fails_to_start.get(self.settings.name):
            raise error
        self.world.events.append(f"start {self.settings.name}")

    async def shutdown(self):
        self.world.events.append(f"stop {self.settings.name}")
        if self.settings.name in self.world.fails_to_stop:
            raise RuntimeError("stuck")
        if self.settings.name in self.world.hangs:
            try:
                await asyncio.Event().wait()
            finally:
                self.settings.ledger.dropped(self.settings.name, Signal.LOGS, self.held, "shutdown")

    async def consume(self, batch):
        name, ledger = self.settings.name, self.settings.ledger
        if error := self.world.breaks.get(name):
            raise error
        if name in self.world.hangs:
            self.held += batch.items
        elif self.link:
            await self.link.consume(batch)
        else:
            ledger.delivered(name, batch.signal, batch.items)

    async def make(self, *bodies, signal=Signal.LOGS):
        """As a receiver: produce records."""
        batch = sink.log_batch(*bodies)
        self.settings.ledger.produced(self.settings.name, signal, batch.items)
        await accounting.deliver_or_drop(self.link[signal], batch, self.settings.ledger)


def config(world, pipelines, extensions=(), *, mutating=(), weights=(), timeout_s=10.0):
    """`pipelines`: id -> "r1 p1 p2 e1", each named after its kind."""
    sections = {kind: {} for kind in Kind}
    made = {}
    for id_, text in pipelines.items():
        parts = {kind: [] for kind in Kind}
        for name in text.split():
            kind, component_id = KINDS[name[0]], ComponentId.parse(name)
            parts[kind].append(component_id)
            sections[kind][component_id] = _configured(world, kind, component_id, mutating)
        made[PipelineId.parse(id_)] = Pipeline(
            receivers=tuple(parts[Kind.RECEIVER]),
            processors=tuple(parts[Kind.PROCESSOR]),
            exporters=tuple(parts[Kind.EXPORTER]),
            weight=dict(weights).get(id_),
        )
    for name in extensions:
        component_id = ComponentId.parse(name)
        sections[Kind.EXTENSION][component_id] = _configured(
            world, Kind.EXTENSION, component_id, mutating
        )
    service = Service(
        extensions=tuple(sections[Kind.EXTENSION]), pipelines=made, shutdown_timeout=timeout_s
    )
    return AgentConfig(**{kind.value: parts for kind, parts in sections.items()}, service=service)


def _configured(world, kind, component_id, mutating):
    factory = Factory(
        type_name=component_id.type,
        kind=kind,
        config=dict,
        create=lambda settings, _, *links: Part(world, settings, links),
        mutates=str(component_id) in mutating,
        weight=world.weights.get(str(component_id), 5),
    )
    return Configured(factory, {})


def build(world, pipelines, **options):
    ledger, board = accounting.Ledger(), StatusBoard()
    return builder.build(config(world, pipelines, **options), ledger, board), ledger, board


async def test_the_start_goes_from_the_end_to_the_sources_and_the_stop_back():
    world = World()
    graph, _, board = build(world, {"logs": "r1 p1 p2 e1"}, extensions=["x1"])
    assert not board.ready()
    await graph.start()
    assert board.ready()
    started, world.events[:] = list(world.events), []
    await graph.stop()

    assert started == ["start x1", "start e1", "start p2", "start p1", "start r1"]
    assert world.events == ["stop r1", "stop p1", "stop p2", "stop e1", "stop x1"]
    assert not board.ready()
    assert {status.state for status in board.statuses().values()} == {State.STOPPED}


async def test_receivers_and_exporters_are_made_once_processors_once_per_pipeline():
    world = World()
    graph, _, board = build(world, {"logs": "r1 p1 e1", "logs/2": "r1 p1 e1", "traces": "r1 p1 e1"})
    await graph.start()
    await graph.stop()

    assert {name: len(world.named(name)) for name in ("r1", "p1", "e1")} == {
        "r1": 1,
        "p1": 3,
        "e1": 1,
    }
    assert set(board.statuses()) == {
        "receivers/r1",
        "processors/p1@logs",
        "processors/p1@logs/2",
        "processors/p1@traces",
        "exporters/e1",
    }
    (receiver,) = world.named("r1")
    assert set(receiver.link) == {Signal.LOGS, Signal.TRACES}


async def test_a_stop_waits_for_all_pipelines_before_the_exporters_that_they_share():
    world = World()
    graph, _, _ = build(world, {"logs": "r1 p1 p2 e1", "logs/2": "r1 p3 e1"})
    await graph.start()
    world.events.clear()
    await graph.stop()

    order = [event.removeprefix("stop ") for event in world.events]
    assert order.index("p1") < order.index("p2") < order.index("e1")
    assert order.index("p3") < order.index("e1")


async def test_each_pipeline_gets_everything_and_the_sum_closes():
    world = World()
    graph, ledger, _ = build(world, {"logs": "r1 p1 e1 e2", "logs/2": "r1 e1"})
    await graph.start()
    await world.named("r1")[0].make("a", "b")
    await graph.stop()

    balance = ledger.balance(Signal.LOGS)
    assert (balance.produced, balance.copied, balance.delivered) == (2, 4, 6)
    assert balance.difference == 0


async def test_a_batch_has_the_weight_of_its_receiver_or_of_its_pipeline():
    world, seen = World(), []
    world.weights = {"r1": 10, "r2": 4}
    pipelines = {"logs": "r1 r2 e1", "logs/2": "r1 e1", "metrics": "r1 e1"}
    graph, _, _ = build(world, pipelines, weights={"logs/2": 7})
    (exporter,) = world.named("e1")

    async def consume(batch):
        seen.append(batch.weight)

    exporter.consume = consume
    await graph.start()
    for receiver, signal in (("r1", Signal.LOGS), ("r2", Signal.LOGS), ("r1", Signal.METRICS)):
        await world.named(receiver)[0].make("a", signal=signal)
    await graph.stop()

    assert seen == [10, 7, 4, 3]


def test_an_oom_kill_is_critical_and_nothing_else_is():
    registry = Registry()
    types = registry.types(Kind.RECEIVER)
    weights = {name: registry.factory(Kind.RECEIVER, name).weight for name in types}
    assert weights == {"oom": 10, "storage": 5}


async def test_a_pipeline_that_changes_batches_gets_its_own_copy():
    world = World()
    graph, _, _ = build(world, {"logs": "r1 p1 e1", "logs/2": "r1 e2"}, mutating=["p1"])
    seen = {}
    for part in world.named("e1") + world.named("e2"):

        async def consume(batch, name=part.settings.name):
            seen[name] = batch.data

        part.consume = consume
    await graph.start()
    await world.named("r1")[0].make("a")
    await graph.stop()

    assert seen["e1"] == seen["e2"]
    assert seen["e1"] is not seen["e2"]


@pytest.mark.parametrize("broken", ["p1", "e1"])
async def test_a_bug_in_a_component_drops_the_batch_with_a_count_and_one_log_line(broken, caplog):
    world = World(breaks={broken: ZeroDivisionError("oh")})
    graph, ledger, _ = build(world, {"logs": "r1 p1 e1 e2"})
    await graph.start()
    for _ in range(3):
        await world.named("r1")[0].make("a")
    await graph.stop()

    balance = ledger.balance(Signal.LOGS)
    assert balance.dropped == {"internal_error": 3}
    assert balance.difference == 0
    assert sum("ZeroDivisionError" in record.message for record in caplog.records) == 1


async def test_a_refusal_reaches_the_receiver_which_counts_it():
    world = World(breaks={"p2": errors.Refused("no", reason="memory_limiter")})
    graph, ledger, _ = build(world, {"logs": "r1 p1 p2 e1"})
    await graph.start()
    await world.named("r1")[0].make("a")
    await graph.stop()

    assert ledger.balance(Signal.LOGS).dropped == {"memory_limiter": 1}


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (errors.ComponentError("port in use; change `endpoint`"), "port in use; change `endpoint`"),
        (ZeroDivisionError("oh"), "cannot start: ZeroDivisionError('oh')"),
    ],
)
async def test_a_failed_start_stops_what_had_started_and_names_the_component(error, text):
    world = World(fails_to_start={"p1": error})
    graph, _, board = build(world, {"logs": "r1 p1 p2 e1"}, extensions=["x1"])

    with pytest.raises(errors.ComponentError) as caught:
        await graph.start()

    assert str(caught.value) == f"processors/p1@logs: {text}"
    assert [event for event in world.events if event.startswith("start")] == [
        "start x1",
        "start e1",
        "start p2",
    ]
    assert {"stop p2", "stop e1", "stop x1"} <= set(world.events)
    assert board.statuses()["processors/p1@logs"] == Status(State.PERMANENT_ERROR, text)


async def test_a_component_that_cannot_be_made_is_named():
    world = World()
    configured = config(world, {"logs": "r1 e1"})

    def refuse(*_):
        raise ValueError("the key file is empty")

    id_ = ComponentId("e1")
    broken = dataclasses.replace(configured.exporters[id_].factory, create=refuse)
    configured = dataclasses.replace(configured, exporters={id_: Configured(broken, {})})

    with pytest.raises(errors.ComponentError, match=r"^exporters/e1: the key file is empty$"):
        builder.build(configured, accounting.Ledger(), StatusBoard())


def test_a_component_that_hangs_at_the_stop_is_cut_off_and_counts_what_it_loses():
    async def scenario():
        world = World(hangs={"e1"})
        graph, ledger, _ = build(world, {"logs": "r1 e1 e2"}, extensions=["x1"], timeout_s=7.0)
        await graph.start()
        await world.named("r1")[0].make("a", "b")
        before_s = virtual_loop.now_s()
        await graph.stop()
        return world, ledger.balance(Signal.LOGS), virtual_loop.now_s() - before_s

    world, balance, took_s = virtual_loop.run(scenario())

    assert took_s == pytest.approx(7.0)
    assert (balance.delivered, balance.dropped) == (2, {"shutdown": 2})
    assert balance.difference == 0
    assert world.events[-1] == "stop x1"


def test_after_a_hang_the_others_still_get_their_second():
    async def scenario():
        world = World(hangs={"r1", "e1"})
        graph, _, _ = build(world, {"logs": "r1 e1"}, timeout_s=5.0)
        await graph.start()
        before_s = virtual_loop.now_s()
        await graph.stop()
        return virtual_loop.now_s() - before_s

    assert virtual_loop.run(scenario()) == pytest.approx(6.0)


def test_to_hurry_ends_all_waiting():
    async def scenario():
        world = World(hangs={"r1", "e1"})
        graph, _, _ = build(world, {"logs": "r1 e1"}, timeout_s=3600.0)
        await graph.start()
        stop = asyncio.create_task(graph.stop())
        await asyncio.sleep(1)
        graph.hurry()
        await stop
        return world.events, virtual_loop.now_s()

    events, took_s = virtual_loop.run(scenario())

    assert took_s == pytest.approx(1.0)
    assert events[-2:] == ["stop r1", "stop e1"]


async def test_a_component_that_fails_to_stop_does_not_keep_the_others(caplog):
    world = World(fails_to_stop={"r1"})
    graph, _, _ = build(world, {"logs": "r1 e1"})
    await graph.start()
    await graph.stop()
    await graph.stop()

    assert world.events[-1] == "stop e1"
    assert world.events.count("stop e1") == 1
    assert any("receivers/r1: failed to stop" in record.message for record in caplog.records)


def test_what_one_receiver_notes_the_others_can_ask_for():
    world = World()
    build(world, {"logs": "r1 e1", "traces": "r2 e1"})
    (first,), (second,) = world.named("r1"), world.named("r2")

    assert first.settings.incidents is second.settings.incidents
