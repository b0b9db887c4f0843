"""The contract of a component, and of the factory that makes it from its config.

A component's module reads in one order: why it exists, `Config`, the class, `FACTORY`.
The factory is found by entry point (`otel_oom.receivers`, `.processors`, `.exporters`,
`.extensions`), so another package adds a component the way ours do.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from otel_oom.config.types import ComponentId
from otel_oom.pipeline import accounting, weights
from otel_oom.pipeline.consumer import Consumer
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.incidents import Incidents
from otel_oom.pipeline.resources.monitor import Monitor
from otel_oom.pipeline.sending.leftovers import Leftovers
from otel_oom.pipeline.storages import Storages
from otel_oom.pipeline.views import Views


class Kind(enum.StrEnum):
    """The kinds of component, spelled as the config's sections and the entry points are."""

    RECEIVER = "receivers"
    PROCESSOR = "processors"
    EXPORTER = "exporters"
    EXTENSION = "extensions"


class Stability(enum.StrEnum):
    """The collector's ladder (collector docs/component-stability.md)."""

    DEVELOPMENT = "development"
    ALPHA = "alpha"
    BETA = "beta"
    STABLE = "stable"


class State(enum.StrEnum):
    """The collector's component states (collector docs/component-status.md)."""

    STARTING = "StatusStarting"
    OK = "StatusOK"
    RECOVERABLE_ERROR = "StatusRecoverableError"
    PERMANENT_ERROR = "StatusPermanentError"
    FATAL_ERROR = "StatusFatalError"
    STOPPING = "StatusStopping"
    STOPPED = "StatusStopped"


@dataclasses.dataclass(frozen=True, slots=True)
class Status:
    """What a component says of itself; `detail` is one line for a person."""

    state: State
    detail: str = ""


class Component(Protocol):
    """Anything with a life. Started exporters first and receivers last, stopped the other way."""

    async def start(self) -> None:
        """Get ready, or raise `errors.ComponentError` with the cause and the remedy."""

    async def shutdown(self) -> None:
        """Stop taking work and hand on or send what is held.

        Safe before `start`, and twice. What cannot be handed on is counted as dropped.
        """


@runtime_checkable
class Summarising(Protocol):
    """A component that has something to say when the agent stops."""

    def summary(self) -> list[str]:
        """Lines for a person, printed after the accounting."""


class ConsumingComponent(Component, Consumer, Protocol):
    """A component that takes batches: a processor or an exporter."""


class Board(Protocol):
    """What an extension may know of the agent."""

    def statuses(self) -> Mapping[str, Status]:
        """The last status of every component, by `kind/id`."""

    def ready(self) -> bool:
        """Whether every component is started and none has failed for good.

        A recoverable error (a backend that is down) leaves the agent ready: who restarts it
        for that loses what its queue holds.
        """

    def started_at_s(self) -> float:
        """Wall-clock time of the start, Unix seconds."""


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What code gives a component, as its `Config` is what the user gives."""

    id: ComponentId
    ledger: accounting.Ledger
    report: Callable[[Status], None]
    board: Board
    version: str
    incidents: Incidents = dataclasses.field(default_factory=Incidents)
    """Of the whole agent: what a receiver notes here another can link to."""
    views: Views = dataclasses.field(default_factory=Views)
    """Of the whole agent: what a receiver offers here an extension shows."""
    storages: Storages = dataclasses.field(default_factory=Storages)
    """Of the whole agent: where an exporter finds the extension that keeps its queue."""
    resources: Monitor = dataclasses.field(default_factory=Monitor)
    """Of the whole agent: how idle the host is."""

    leftovers: Leftovers = dataclasses.field(default_factory=Leftovers)
    """Of the whole agent: what exporters that a reload changes have in memory."""

    @property
    def name(self) -> str:
        """The component's id as users write it, `type/name`."""
        return str(self.id)


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """One line of `otel-oom doctor`: what was asked, how it is, what follows.

    What is not `required` only makes the records poorer: its absence fails no check.
    """

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    required: bool = True


CreateReceiver = Callable[[Settings, Any, Mapping[Signal, Consumer]], Component]
CreateProcessor = Callable[[Settings, Any, Consumer], ConsumingComponent]
CreateExporter = Callable[[Settings, Any], ConsumingComponent]
CreateExtension = Callable[[Settings, Any], Component]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Factory:
    """How to make one type of component.

    `config` is a dataclass whose defaults are the component's; `create` takes
    `(settings, config)` and, for a receiver, the consumer of each signal that a pipeline wants
    from it, for a processor the next consumer. A receiver, exporter or extension is made once
    per id, a processor once per pipeline. `weight` is how urgent a receiver's logs and spans are.
    """

    type_name: str
    kind: Kind
    config: type[Any]
    create: Callable[..., Component]
    signals: Mapping[Signal, Stability] = dataclasses.field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    mutates: bool = False
    weight: int = weights.DEFAULT
    doctor: Callable[[Any], Sequence[Check]] | None = None
    carries: Callable[[Any], Sequence[Signal]] | None = None
    """Which of `signals` one with this config takes; without it all of them."""
