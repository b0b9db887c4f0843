"""A configuration as YAML again."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_oom.config import expand, limits, load, problems, render, structure, tree
from otel_oom.config.types import ByteSize, ComponentId, Duration, Secret


class Colour(enum.StrEnum):
    RED = "red"
    GREEN = "green"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    wait: Duration | None = None
    waits: tuple[Duration, ...] = ()
    token: Secret | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    text: str = ""
    maybe: str | None = None
    flag: bool = False
    count: int = 0
    ratio: float = 0.0
    size: ByteSize = ByteSize(0)
    colour: Colour = Colour.RED
    id: ComponentId | None = None
    names: list[str] = dataclasses.field(default_factory=list)
    headers: Mapping[str, Secret] = dataclasses.field(default_factory=dict)
    attributes: dict[str, str | int | float | bool] = dataclasses.field(default_factory=dict)
    inner: Inner = dataclasses.field(default_factory=Inner)
    inners: list[Inner] = dataclasses.field(default_factory=list)


def reread(text: str) -> Config:
    budget = limits.Budget()
    root = expand.Expander({}, budget).expand(load.load(text.encode(), "a.yaml", budget))
    report = problems.Report(root)
    config = structure.structure(tree.plain(root), Config, (), report)
    report.check()
    assert config is not None
    return config


def rendered(config: Config, *, reveal: bool = True) -> str:
    return render.to_yaml(render.to_tree(config, reveal=reveal))


TEXT = st.text(
    st.characters(exclude_categories=("Cs",), exclude_characters="\ufeff\ufffe\uffff"), max_size=40
) | st.sampled_from(
    [
        "yes",
        "~",
        "0o10",
        "1e3",
        "017",
        "<<",
        "=",
        "${env:X}",
        "$$",
        "- a",
        "a: b",
        "!x",
        "*a",
        "%",
        "1:30",
    ]
)
DURATION = st.integers(0, 10**15).map(lambda ns: Duration(ns / 1_000_000_000))
FINITE = st.floats(allow_nan=False, allow_infinity=False)
INNER = st.builds(
    Inner,
    wait=DURATION | st.none(),
    waits=st.lists(DURATION, max_size=3).map(tuple),
    token=TEXT.map(Secret),
)
CONFIG = st.builds(
    Config,
    text=TEXT,
    maybe=TEXT | st.none(),
    flag=st.booleans(),
    count=st.integers(-(1 << 63), (1 << 63) - 1),
    ratio=FINITE,
    size=st.integers(0, (1 << 63) - 1).map(ByteSize),
    colour=st.sampled_from(Colour),
    id=st.sampled_from([ComponentId("a"), ComponentId("b", "c.d")]),
    names=st.lists(TEXT, max_size=3),
    headers=st.dictionaries(TEXT, TEXT.map(Secret), max_size=3),
    attributes=st.dictionaries(
        TEXT, TEXT | st.integers(0, 99) | FINITE | st.booleans(), max_size=3
    ),
    inner=INNER,
    inners=st.lists(INNER, max_size=2),
)


@given(CONFIG)
def test_what_is_rendered_is_read_back_as_the_same(config: Config) -> None:
    assert reread(rendered(config)) == config


@given(st.text("abcdefghijkl", min_size=8, max_size=12))
def test_no_secret_is_rendered_unless_asked_for(secret: str) -> None:
    config = Config(headers={"h": Secret(secret)}, inner=Inner(token=Secret(secret)))
    assert secret not in rendered(config, reveal=False)
    assert rendered(config, reveal=False).count("[REDACTED]") == 2
    assert rendered(config).count(secret) == 2


@pytest.mark.parametrize(
    ("config", "line"),
    [
        (Config(inner=Inner(wait=Duration(0.25))), "wait: 250ms"),
        (Config(inner=Inner(waits=(Duration(90.0),))), "- 1m30s"),
        (Config(size=ByteSize(1 << 20)), "size: 1MiB"),
        (Config(size=ByteSize(1000)), "size: 1000"),
        (Config(id=ComponentId("otlp", "2")), "id: otlp/2"),
        (Config(text="0o10"), "text: '0o10'"),
        (Config(text="a$b"), "text: a$$b"),
        (Config(text="a" * 300), f"text: {'a' * 300}"),
    ],
)
def test_a_value_is_rendered_as_a_person_writes_it(config: Config, line: str) -> None:
    assert line in [each.strip() for each in rendered(config).splitlines()]
