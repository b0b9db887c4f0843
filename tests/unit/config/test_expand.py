"""References in values."""

from __future__ import annotations

import pathlib
from typing import Any

import pytest

from otel_oom import errors
from otel_oom.config import expand, limits, load, tree


def expanded(text: str, **env: str) -> tuple[tree.Node, expand.Expander]:
    budget = limits.Budget()
    expander = expand.Expander(env, budget)
    return expander.expand(load.load(text.encode(), "a.yaml", budget)), expander


def value(text: str, **env: str) -> Any:
    """What an option `a` gets that is no string."""
    node, expander = expanded(f"a: {text}", **env)
    assert not expander.problems
    return tree.typed(tree.plain(node))["a"]


def problem(text: str, **env: str) -> str:
    _, expander = expanded(f"a:\n  b: {text}", **env)
    assert len(expander.problems) == 1
    return str(expander.problems[0])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${env:N}", 5),
        ("${N}", 5),
        ("'${env:N}'", 5),
        ("${env:TRUE}", True),
        ("${env:LIST}", [1, "b"]),
        ("${env:MAP}", {"k": "v"}),
        ("${env:NONE:-7}", 7),
        ("${env:NONE:-}", None),
        ("${env:EMPTY:-7}", None),
        ("${env:NONE:-${env:N}}", 5),
        ("${env:NONE:-{}}", {}),
        ("${env:NONE:-a:-b}", "a:-b"),
        ("${env:${env:WHICH}}", 5),
        ("x${env:N}y", "x5y"),
        ("${env:N}${env:N}", "55"),
        ("http://${env:HOST:-localhost}:4317", "http://localhost:4317"),
        ("$N", "$N"),
        ("$$", "$"),
        ("$${env:N}", "${env:N}"),
        ("$$${env:N}", "$5"),
        ("cost$$", "cost$"),
        ("${yaml:[1, 2]}", [1, 2]),
        ("${env:NESTED}", 5),
        ("<${env:NESTED}>", "<5>"),
        ("${env:NONE:-pa$$word}", "pa$word"),
        ("${env:NOYAML}", "[unclosed"),
        ("${env:HASH}", None),
        ("}{", "}{"),
    ],
)
def test_a_reference_gives(text: str, expected: object) -> None:
    env = {
        "N": "5",
        "TRUE": "true",
        "LIST": "[1, b]",
        "MAP": "{k: v}",
        "EMPTY": "",
        "WHICH": "N",
        "NESTED": "${env:N}",
        "NOYAML": "[unclosed",
        "HASH": "#secret",
    }
    quoted = text if text.startswith("'") else "'" + text + "'"
    assert value(quoted, **env) == expected


@pytest.mark.parametrize("text", ["5", "true", "null", "", "1e3", "#secret", "{a", "[x]", "007"])
def test_the_text_of_a_whole_reference_is_kept_for_an_option_that_is_a_string(text: str) -> None:
    node, _ = expanded("a: ${env:X}", X=text)
    got = tree.plain(node)["a"]
    assert (got if isinstance(got, str) else got.original) == text


def test_lists_and_mappings_are_expanded_to_the_bottom() -> None:
    assert value("[{x: '${env:N}'}]", N="5") == [{"x": 5}]


def test_an_unset_variable_is_empty_and_warned_of_with_its_place() -> None:
    node, expander = expanded("a: ${env:NOPE}\nb: <${env:NOPE}>")
    assert tree.plain(node) == {"a": "", "b": "<>"}
    assert tree.typed(tree.plain(node))["a"] is None
    assert [str(warning) for warning in expander.warnings] == [
        "a.yaml:1:4 a: the environment variable `NOPE` is not set; its value is taken as empty",
        "a.yaml:2:4 b: the environment variable `NOPE` is not set; its value is taken as empty",
    ]


def test_a_variable_that_is_set_is_not_warned_of() -> None:
    _, expander = expanded("a: ${env:E}\nb: ${env:NOPE:-}", E="")
    assert not expander.warnings


def test_a_file_is_read_as_yaml_and_its_values_stand_in_it(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "part.yaml"
    path.write_text("x: 1\ny:\n  z: ${env:N}\n")
    node, _ = expanded(f"a: ${{file:{path}}}", N="5")
    assert tree.typed(tree.plain(node)) == {"a": {"x": 1, "y": {"z": 5}}}
    assert str(tree.locate(node, ("a", "x"))) == f"{path}:1:4"


def test_the_line_break_that_ends_a_file_is_no_part_of_a_secret(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "token"
    path.write_bytes(b"007\r\n")
    node, _ = expanded(f"a: ${{file:{path}}}")
    assert tree.plain(node) == {"a": "007"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${env:1X}", "the environment variable `1X` has no valid name"),
        ("${env:}", "the environment variable `` has no valid name"),
        ("${http://x/y}", "the scheme `http` is not supported; use `env`, `file` or `yaml`"),
        ("x${env:N", "never closed"),
        ("${file:/no/such/file}", "the file `/no/such/file` cannot be read: No such file"),
        ("${env:LOOP}", "more than 100 references for one value; does one lead back to itself?"),
        ("x${env:LOOP}", "more than 100 references"),
        ("${env:TREE}", "more than 100 references"),
        ("${" * 200 + "}" * 200, "more than 100 references"),
        ("${env:BYTES}", "the environment variable `BYTES` is not UTF-8"),
    ],
)
def test_what_cannot_be_followed_is_a_problem_with_its_place(text: str, expected: str) -> None:
    env = {"LOOP": "${env:LOOP}", "TREE": "[${env:TREE}, ${env:TREE}]", "BYTES": "\udcff"}
    found = problem(f"'{text}'", **env)
    assert found.startswith("a.yaml:2:6 a.b: ")
    assert expected in found


def test_a_file_that_holds_itself_ends_with_a_problem(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "self.yaml"
    path.write_text(f"x: ${{file:{path}}}\n")
    with pytest.raises(errors.ConfigError, match="nested deeper than 64 levels"):
        expanded(f"a: ${{file:{path}}}")


def test_what_references_bring_in_is_bounded() -> None:
    with pytest.raises(errors.ConfigError, match="more than 1 MiB of text"):
        expanded("a: ${env:BIG}${env:BIG}", BIG="x" * 600_000)


def test_nodes_that_references_bring_in_count_as_the_others() -> None:
    text = "".join(f"k{i}: ${{env:LIST}}\n" for i in range(100))
    with pytest.raises(errors.ConfigError, match="more than 50000 values"):
        expanded(text, LIST="[" + "1," * 1000 + "]")
