"""What this machine has and lacks for a config: the answers of its components' own checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

from otel_oom.pipeline.component import Check
from otel_oom.pipeline.text import safe
from otel_oom.service import config as configs


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """A check and the component, `kind/id`, that asked for it."""

    component: str
    check: Check


def examine(config: configs.AgentConfig) -> list[Finding]:
    """Run the checks of every configured component that has any."""
    sections = (config.extensions, config.receivers, config.processors, config.exporters)
    return [
        Finding(f"{factory.kind}/{id_}", check)
        for section in sections
        for id_, (factory, options) in section.items()
        if factory.doctor
        for check in factory.doctor(options)
    ]


def healthy(findings: Iterable[Finding]) -> bool:
    """Whether nothing is missing that a component cannot do without."""
    return all(finding.check.ok for finding in findings if finding.check.required)


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield a line per check, `ok`, `MISSING` or `absent` (not required), with its remedy."""
    width = max((len(finding.check.name) for finding in findings), default=0)
    for finding in findings:
        check = finding.check
        word = "ok" if check.ok else "MISSING" if check.required else "absent"
        yield f"{word:<8}{check.name:<{width}}  {safe(check.detail)}".rstrip()
        if not check.ok and check.remedy:
            yield f"{'':<8}{'':<{width}}  remedy: {safe(check.remedy)}"


def as_data(findings: Iterable[Finding]) -> list[dict[str, str | bool]]:
    """Give the findings as plain data for JSON."""
    return [
        {"component": finding.component, **dataclasses.asdict(finding.check)}
        for finding in findings
    ]
