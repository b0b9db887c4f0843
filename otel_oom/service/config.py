"""Sources of configuration to what the agent runs, with every problem told at once.

Several sources merge in order, `--set` wins over all, references are followed last; then each
component's section becomes its own `Config`, and the pipelines are checked against them.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from otel_oom.config import expand, limits, merge, problems, render, tree
from otel_oom.config import load as loading
from otel_oom.pipeline.component import Kind
from otel_oom.service import reader, registry
from otel_oom.service.settings import (
    AgentConfig,
    Components,
    Configured,
    Pipeline,
    PipelineId,
    Service,
)

__all__ = [
    "AgentConfig",
    "Components",
    "Configured",
    "Pipeline",
    "PipelineId",
    "Service",
    "load",
    "to_yaml",
]

DEFAULT = "default.yaml"
"""The source that is shipped with the agent, named so by its positions."""


def load(
    sources: Iterable[str],
    sets: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
    known: registry.Registry | None = None,
) -> AgentConfig:
    """Read a configuration; `errors.ConfigError` (`problems.InvalidConfig`) tells all problems.

    A source is a path or `yaml:TEXT`; none at all means the default that is shipped.
    `sets` are texts `key.key=value`, `env` is what `${env:…}` sees,
    `known` the components that may be named (all that are installed).
    """
    budget = limits.Budget()
    expander = expand.Expander(env or {}, budget)
    root = expander.expand(_merged(list(sources), list(sets), budget))
    report = problems.Report(root)
    report.include(expander.problems)
    components, service = reader.Reader(root, known or registry.Registry(), report).read()
    report.check()
    warnings = (*expander.warnings, *report.warnings)
    sections = {str(kind): components[kind] for kind in Kind}
    return AgentConfig(**sections, service=service, warnings=warnings)


def to_yaml(config: AgentConfig, *, reveal: bool = False) -> str:
    """The effective configuration with every default filled in; `reveal` shows the secrets."""
    sections: dict[str, Any] = {
        str(kind): {
            str(id_): render.to_tree(configured.config, reveal=reveal)
            for id_, configured in config.components(kind).items()
        }
        for kind in Kind
    }
    sections["service"] = render.to_tree(config.service, reveal=reveal)
    return render.to_yaml(sections)


def _merged(sources: list[str], sets: list[str], budget: limits.Budget) -> tree.Node:
    """All sources as one tree; the problems of every source are told together."""
    reads = [functools.partial(_source, *numbered, budget) for numbered in enumerate(sources, 1)]
    reads = reads or [functools.partial(_default, budget)]
    reads += [functools.partial(merge.assignment, text, budget) for text in sets]
    trees: list[tree.Node] = []
    found: list[problems.Problem] = []
    for read in reads:
        try:
            trees.append(read())
        except problems.InvalidConfig as error:
            found += error.problems
    if found:
        raise problems.InvalidConfig(found)
    return functools.reduce(merge.merge, trees)


def _source(number: int, source: str, budget: limits.Budget) -> tree.Node:
    if source.startswith("yaml:"):
        raw = source.removeprefix("yaml:").encode("utf-8", "surrogateescape")
        return loading.load(raw, f"<config {number}>", budget)
    return loading.load(loading.read(source), source, budget)


def _default(budget: limits.Budget) -> tree.Node:
    text = resources.files("otel_oom.service").joinpath(DEFAULT).read_bytes()
    return loading.load(text, DEFAULT, budget)
