"""A tree to dataclasses: strictly, and every problem at once."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import pytest

from otel_oom.config import expand, limits, load, problems, structure, tree
from otel_oom.config.types import ByteSize, ComponentId, Duration, Secret


class Colour(enum.StrEnum):
    RED = "red"
    GREEN = "green"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    enabled: bool = True
    initial: Duration = Duration(5.0)
    maximum: Duration = Duration(30.0)

    def validate(self) -> Iterator[tuple[tree.Path, str]]:
        if self.initial > self.maximum:
            yield ("initial",), "`initial` must not be longer than `maximum`"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    name: str
    retry: Retry = dataclasses.field(default_factory=Retry)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    text: str = "t"
    maybe: str | None = None
    flag: bool = False
    count: int = 1
    ratio: float = 0.5
    wait: Duration = Duration(1.0)
    limit: Duration | None = None
    size: ByteSize = ByteSize(1024)
    key: Secret | None = None
    headers: Mapping[str, Secret] = dataclasses.field(default_factory=dict)
    colour: Colour = Colour.RED
    mode: Literal["fast", "slow"] = "fast"
    ids: tuple[ComponentId, ...] = ()
    names: list[str] = dataclasses.field(default_factory=lambda: ["a"])
    items: list[Item] = dataclasses.field(default_factory=list)
    attributes: dict[str, str | int | float | bool] = dataclasses.field(default_factory=dict)
    anything: Any = None
    retry: Retry = dataclasses.field(default_factory=lambda: Retry(enabled=False))
    other: Retry | None = None

    def validate(self) -> Iterator[tuple[tree.Path, str]]:
        if self.count > 10:
            yield ("count",), "`count` must be at most 10"


def read(text: str, **env: str) -> tuple[Config | None, problems.Report]:
    budget = limits.Budget()
    root = expand.Expander(env, budget).expand(load.load(text.encode(), "a.yaml", budget))
    report = problems.Report(root)
    return structure.structure(tree.plain(root), Config, (), report), report


def good(text: str, **env: str) -> Config:
    config, report = read(text, **env)
    report.check()
    assert config is not None
    return config


def bad(text: str, **env: str) -> list[str]:
    config, report = read(text, **env)
    assert config is None
    with pytest.raises(problems.InvalidConfig) as caught:
        report.check()
    return str(caught.value).splitlines()


def test_nothing_written_is_every_default() -> None:
    assert good("") == Config()


@pytest.mark.parametrize(
    ("text", "field", "expected"),
    [
        ("text: yes", "text", "yes"),
        ("maybe: ~", "maybe", None),
        ("maybe: x", "maybe", "x"),
        ("flag: TRUE", "flag", True),
        ("ratio: 2", "ratio", 2.0),
        ("wait: 1m30s", "wait", 90.0),
        ("wait: 0", "wait", 0.0),
        ("wait: 250ms", "wait", 0.25),
        ("limit: 3s", "limit", 3.0),
        ("size: 512KiB", "size", 524288),
        ("size: 10", "size", 10),
        ("key: abc", "key", Secret("abc")),
        ("headers: {a: b}", "headers", {"a": "b"}),
        ("headers:", "headers", {}),
        ("colour: green", "colour", Colour.GREEN),
        ("colour: RED", "colour", Colour.RED),
        ("mode: slow", "mode", "slow"),
        ("ids: [otlp, otlp/2]", "ids", (ComponentId("otlp"), ComponentId("otlp", "2"))),
        ("names: [x, y]", "names", ["x", "y"]),
        ("items: [{name: n}]", "items", [Item(name="n")]),
        (
            "attributes: {a: 1, b: 1.5, c: true, d: x}",
            "attributes",
            {"a": 1, "b": 1.5, "c": True, "d": "x"},
        ),
        ("anything: {a: [1]}", "anything", {"a": [1]}),
        ("retry:", "retry", Retry(enabled=False)),
        ("other: {}", "other", Retry()),
    ],
)
def test_a_value_that_fits_is_taken(text: str, field: str, expected: object) -> None:
    got = getattr(good(text), field)
    assert got == expected
    assert type(got) is type(expected)


def test_a_nested_config_keeps_what_its_default_instance_has_and_is_not_written() -> None:
    assert good("retry: {initial: 1s}").retry == Retry(enabled=False, initial=Duration(1.0))


def test_a_secret_stays_a_secret() -> None:
    config = good("key: abc\nheaders: {authorization: xyz}")
    assert "abc" not in repr(config)
    assert "xyz" not in repr(config)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("text: 5", "text: must be a string, not the integer `5`; quote it"),
        ("text:", "text: must be a string, not empty"),
        ("flag: yes", "flag: must be true or false, not the string `yes` (did you mean `true`?)"),
        ("flag: 1", "flag: must be true or false, not the integer `1`"),
        ("count: '5'", "count: must be an integer, not the string `5`; take the quotes off"),
        ("count: 1.0", "count: must be an integer, not the number `1.0`"),
        ("count: true", "count: must be an integer, not the boolean `True`"),
        ("ratio: .nan", "ratio: must be a finite number"),
        ("ratio: x", "ratio: must be a number, not the string `x`"),
        ("wait: 5", "wait: `5` has no unit; write `5s` for seconds or `5ms` for milliseconds"),
        ("wait: -5s", "wait: `-5s` is negative; a duration is 0 or more"),
        ("wait: []", "wait: must be a duration such as `250ms`, not a list"),
        ("size: 1.5", "size: must be a size such as `512KiB`, not the number `1.5`"),
        ("size: -1", "size: `-1B` is negative; a size is 0 or more"),
        ("key: 5", "key: must be a string, not an integer; quote it"),
        ("headers: [a]", "headers: must be a mapping, not a list"),
        ("headers: {a: 1}", "headers.a: must be a string, not an integer; quote it"),
        (
            "colour: geen",
            "colour: must be one of red, green, not the string `geen` (did you mean `green`?)",
        ),
        (
            "mode: slw",
            "mode: must be one of fast, slow, not the string `slw` (did you mean `slow`?)",
        ),
        ("names: x", "names: must be a list, not the string `x`"),
        ("names: [x, 5]", "names[1]: must be a string, not the integer `5`; quote it"),
        ("ids: [1x]", "ids[0]: is no component id: the type '1x' must be a letter"),
        ("items: [{}]", "items[0].name: is required"),
        ("items: [5]", "items[0]: must be a mapping, not the integer `5`"),
        ("attributes: {a: []}", "attributes.a: must be one of these types: int, bool, float, str"),
        ("retry: {enable: true}", "retry.enable: unknown key"),
        ("count: 11", "count: `count` must be at most 10"),
        ("items: [{name: n, retry: {initial: 1h}}]", "items[0].retry.initial: `initial` must not"),
    ],
)
def test_a_value_that_does_not_fit_says_why(text: str, message: str) -> None:
    lines = bad(text)
    assert len(lines) == 1
    assert message in lines[0]


def test_all_problems_are_told_at_once_in_the_order_of_the_file() -> None:
    lines = bad("wait: 5\ncolor: red\nretry:\n  enabled: 1\nnames: [1, 2]\n")
    assert [line.split(": ")[0] for line in lines] == [
        "a.yaml:1:7 wait",
        "a.yaml:2:1 color",
        "a.yaml:4:12 retry.enabled",
        "a.yaml:5:9 names[0]",
        "a.yaml:5:12 names[1]",
    ]
    assert lines[1].endswith("(did you mean `colour`?)")


def test_relations_that_the_default_instance_breaks_are_checked_on_the_merged_one() -> None:
    assert "`initial` must not be longer" in bad("retry: {maximum: 1s}")[0]


def test_an_expansion_is_text_for_a_string_and_typed_for_the_rest() -> None:
    text = "{text: '${X}', key: '${X}', count: '${X}', attributes: {a: '${X}'}, anything: '${X}'}"
    config = good(text, X="5")
    assert (config.text, config.key, config.count) == ("5", "5", 5)
    assert config.attributes == {"a": 5}
    assert type(config.anything) is int


def test_an_expansion_may_be_a_list_a_mapping_or_their_text() -> None:
    assert good("names: ${X}", X="[a, b]").names == ["a", "b"]
    assert good("names: ['${X}']", X="[a, b]").names == ["[a, b]"]
    assert good("retry: ${X}", X="{initial: 2s}").retry == Retry(enabled=False, initial=Duration(2))


def test_an_unset_variable_is_empty_where_a_string_is_wanted_and_null_elsewhere() -> None:
    assert good("text: ${NOPE}").text == ""
    assert good("maybe: ${NOPE}").maybe is None
    assert good("retry: ${NOPE}").retry == Retry(enabled=False)
    assert "wait: must be a duration such as `250ms`, not empty" in bad("wait: ${NOPE}")[0]


def test_a_value_that_is_a_secret_is_in_no_message() -> None:
    assert "hunter2" not in "".join(bad("key: {hunter2: x}\nheaders: {a: [hunter2]}"))


def test_thousands_of_problems_are_counted_and_not_all_told() -> None:
    lines = bad("".join(f"key{i}: 1\n" for i in range(5000)))
    assert len(lines) == problems.MAX_PROBLEMS + 1
    assert lines[-1] == "and 4900 more problems"


def test_what_a_message_quotes_cannot_reach_the_terminal_as_control_codes() -> None:
    lines = bad('"evil\\e[2Jkey": 1\ncolour: "\\e[2J"')
    assert len(lines) == 2
    assert "\x1b" not in "".join(lines)
