"""What a new configuration leaves as it is: that goes on running through a reload.

A component is kept if it is configured as before and all that it hands to, or keeps its queue in,
is kept. A receiver is kept whatever stands behind it: a switch is between them (`links.Switch`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from otel_oom.config.types import ComponentId
from otel_oom.pipeline.component import Kind
from otel_oom.pipeline.data import Signal
from otel_oom.service.settings import AgentConfig, Configured, Pipeline, PipelineId


@dataclasses.dataclass(frozen=True, slots=True)
class Unchanged:
    """The keys of the components that are kept, as in `graph.Node`, and the kept pipelines."""

    keys: frozenset[str] = frozenset()
    pipelines: frozenset[PipelineId] = frozenset()
    returning: frozenset[str] = frozenset()
    """Ids of exporters that are changed, and can go on with what is in the queue in memory."""


def between(old: AgentConfig, new: AgentConfig) -> Unchanged:
    """What both configurations run in the same way."""
    extensions = {
        id_
        for id_ in {*old.service.extensions} & {*new.service.extensions}
        if _is_same(Kind.EXTENSION, id_, old, new)
    }
    exporters = {
        id_
        for id_ in _exporters(old) & _exporters(new)
        if _is_same(Kind.EXPORTER, id_, old, new)
        and _storage(new.exporters[id_].config) in {None, *map(str, extensions)}
    }
    pipelines = {
        name
        for name, pipeline in new.service.pipelines.items()
        if name in old.service.pipelines
        and _is_kept(pipeline, old.service.pipelines[name], exporters, old, new)
    }
    keys = (
        *(f"extensions/{id_}" for id_ in extensions),
        *(f"exporters/{id_}" for id_ in exporters),
        *(
            f"processors/{id_}@{n}"
            for n in pipelines
            for id_ in new.service.pipelines[n].processors
        ),
        *(f"receivers/{id_}" for id_ in _receivers(old, new)),
    )
    returning = (
        str(id_)
        for id_ in _exporters(old) & _exporters(new) - exporters
        if _storage(new.exporters[id_].config) is None
        and _fits(old.exporters[id_], new.exporters[id_])
    )
    return Unchanged(frozenset(keys), frozenset(pipelines), frozenset(returning))


def _fits(old: Configured, new: Configured) -> bool:
    """Whether what one has encoded and had room for is the other's kind, and has room there."""
    keys = ("sending_queue", "encoding")
    return old.factory == new.factory and all(
        getattr(old.config, key, None) == getattr(new.config, key, None) for key in keys
    )


def _is_kept(
    new_one: Pipeline,
    old_one: Pipeline,
    exporters: set[ComponentId],
    old: AgentConfig,
    new: AgentConfig,
) -> bool:
    """Whether all from its first processor on is as before."""
    return (
        (new_one.processors, new_one.exporters) == (old_one.processors, old_one.exporters)
        and all(_is_same(Kind.PROCESSOR, id_, old, new) for id_ in new_one.processors)
        and exporters.issuperset(new_one.exporters)
    )


def _receivers(old: AgentConfig, new: AgentConfig) -> set[ComponentId]:
    """Those that also have the same signals to make."""
    before, after = _wanted(old), _wanted(new)
    return {
        id_
        for id_, signals in after.items()
        if before.get(id_) == signals and _is_same(Kind.RECEIVER, id_, old, new)
    }


def _wanted(config: AgentConfig) -> Mapping[ComponentId, set[Signal]]:
    wanted: dict[ComponentId, set[Signal]] = {}
    for name, pipeline in config.service.pipelines.items():
        for id_ in pipeline.receivers:
            wanted.setdefault(id_, set()).add(name.signal)
    return wanted


def _is_same(kind: Kind, id_: ComponentId, old: AgentConfig, new: AgentConfig) -> bool:
    return old.components(kind)[id_] == new.components(kind)[id_]


def _exporters(config: AgentConfig) -> set[ComponentId]:
    return {id_ for pipeline in config.service.pipelines.values() for id_ in pipeline.exporters}


def _storage(options: object) -> str | None:
    """The extension that keeps an exporter's queue."""
    storage: str | None = getattr(getattr(options, "sending_queue", None), "storage", None)
    return storage
