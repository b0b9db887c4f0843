"""The merged tree to components with their configs, and the pipelines checked against them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple, TypeVar

from otel_oom import errors
from otel_oom.config import hooks, problems, structure, tree
from otel_oom.config.types import ComponentId
from otel_oom.pipeline.component import Factory, Kind
from otel_oom.service.registry import Registry
from otel_oom.service.settings import (
    PIPELINE_KINDS,
    Components,
    Configured,
    Pipeline,
    PipelineId,
    Service,
)

SECTIONS = (*map(str, Kind), "service")

Id = TypeVar("Id")


class Reference(NamedTuple):
    """A component's id where the service names it; `pipeline` is empty for an extension."""

    path: tree.Path
    kind: Kind
    text: str
    pipeline: str = ""


class Reader:
    """Reads the tree of a configuration, reporting whatever is wrong with it."""

    def __init__(self, root: tree.Node, registry: Registry, report: problems.Report) -> None:
        self._root = tree.plain(root)
        self._registry = registry
        self._report = report

    def read(self) -> tuple[dict[Kind, Components], Service]:
        """Components by kind, and the service; incomplete if anything was reported."""
        self._check_sections()
        components: dict[Kind, Components] = {kind: self._components(kind) for kind in Kind}
        service = self._service()
        references = list(self._references())
        for reference in references:
            self._check_reference(reference, components[reference.kind])
        self._check_storages()
        self._warn_unused({(reference.kind, reference.text) for reference in references})
        return components, service

    def _check_sections(self) -> None:
        for key in self._root:
            if key == "connectors":
                message = "connectors are not supported; give each exporter a pipeline of its own"
                self._report.add((key,), message, key=True)
            elif key not in SECTIONS:
                message = f"unknown section; known are {', '.join(SECTIONS)}"
                self._report.add((key,), message, word=key, known=SECTIONS, key=True)
        for path in (*((section,) for section in SECTIONS), ("service", "pipelines")):
            value = self._at(path)
            if value is not None and not isinstance(value, dict):
                self._report.add(path, str(hooks.wrong_type(value, "a mapping")))

    def _components(self, kind: Kind) -> dict[ComponentId, Configured]:
        components = {}
        for key, value in self._mapping(str(kind)).items():
            path = (str(kind), key)
            id_ = self._parsed(ComponentId.parse, key, path)
            factory = self._factory(kind, id_.type, path) if id_ else None
            if id_ and factory:
                config = structure.structure(value, factory.config, path, self._report)
                components[id_] = Configured(factory, config)
        return components

    def _factory(self, kind: Kind, type_name: str, path: tree.Path) -> Factory | None:
        known = self._registry.types(kind)
        if type_name not in known:
            message = f"unknown type `{type_name}`; known are {', '.join(known) or 'none'}"
            self._report.add(path, message, word=type_name, known=known, key=True)
            return None
        try:
            return self._registry.factory(kind, type_name)
        except errors.ComponentError as error:
            self._report.add(path, str(error), key=True)
            return None

    def _service(self) -> Service:
        """The service, its pipelines apart so that neither hides the other's problems."""
        pipelines = {}
        for key, value in self._mapping("service", "pipelines").items():
            path = ("service", "pipelines", key)
            id_ = self._parsed(PipelineId.parse, key, path)
            pipeline = structure.structure(value, Pipeline, path, self._report)
            if id_ and pipeline:
                pipelines[id_] = pipeline
        if not self._at(("service", "pipelines")):
            self._report.add(("service", "pipelines"), "at least one pipeline is needed")
        rest = {k: v for k, v in self._mapping("service").items() if k != "pipelines"}
        service = structure.structure(rest, Service, ("service",), self._report)
        return dataclasses.replace(service or Service(), pipelines=pipelines)

    def _references(self) -> Iterator[Reference]:
        path: tree.Path = ("service", "extensions")
        for index, text in self._texts(path):
            yield Reference((*path, index), Kind.EXTENSION, text)
        for pipeline in self._mapping("service", "pipelines"):
            for kind in PIPELINE_KINDS:
                path = ("service", "pipelines", pipeline, str(kind))
                for index, text in self._texts(path):
                    yield Reference((*path, index), kind, text, pipeline)

    def _check_reference(self, reference: Reference, components: Components) -> None:
        path, kind, text, pipeline = reference
        defined = self._mapping(str(kind))
        if text not in defined:
            user = f"the pipeline {problems.quoted(pipeline)}" if pipeline else "the service"
            message = f"{user} names {problems.quoted(text)}, which `{kind}` does not define"
            self._report.add(path, message, word=text, known=defined)
            return
        found = next((made for id_, made in components.items() if str(id_) == text), None)
        signal = pipeline.partition("/")[0]
        if pipeline and found and signal not in (signals := _signals(found)):
            carried = ", ".join(signals) or "no signal"
            message = f"{problems.quoted(text)} takes {carried}; this pipeline carries {signal}"
            self._report.add(path, message)

    def _check_storages(self) -> None:
        """Whether the extension that keeps an exporter's queue is one that runs."""
        running = [text for _, text in self._texts(("service", "extensions"))]
        for key in self._mapping("exporters"):
            path = ("exporters", key, "sending_queue", "storage")
            text = self._at(path)
            if isinstance(text, str) and text not in running:
                message = (
                    f"names {problems.quoted(text)}, which `service.extensions` does not; define "
                    "the storage in `extensions`, and name it there"
                )
                self._report.add(path, message, word=text, known=running)

    def _warn_unused(self, used: set[tuple[Kind, str]]) -> None:
        for kind in Kind:
            user = "`service.extensions`" if kind is Kind.EXTENSION else "any pipeline"
            for key in self._mapping(str(kind)):
                if (kind, key) not in used:
                    self._report.warn((str(kind), key), f"is not named by {user}, so it is not run")

    def _parsed(self, parse: Callable[[str], Id], text: str, path: tree.Path) -> Id | None:
        try:
            return parse(text)
        except ValueError as error:
            self._report.add(path, f"{problems.quoted(text)} is no valid id: {error}", key=True)
            return None

    def _at(self, path: tree.Path) -> Any:
        value = self._root
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        return value.value if isinstance(value, tree.Expanded) else value

    def _mapping(self, *path: str) -> dict[str, Any]:
        value = self._at(path)
        return value if isinstance(value, dict) else {}

    def _texts(self, path: tree.Path) -> Iterator[tuple[int, str]]:
        value = self._at(path)
        items = value if isinstance(value, list) else []
        return ((index, item) for index, item in enumerate(items) if isinstance(item, str))


def _signals(made: Configured) -> Collection[str]:
    """What a component takes, as it is configured; a broken config is told elsewhere."""
    carries = made.factory.carries
    return carries(made.config) if carries and made.config else made.factory.signals
