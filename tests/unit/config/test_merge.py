"""Several sources as one, and `--set`."""

from __future__ import annotations

import functools
import re

import pytest

from otel_oom import errors
from otel_oom.config import limits, load, merge, tree


def merged(*texts: str, sets: tuple[str, ...] = ()) -> tree.Node:
    budget = limits.Budget()
    nodes = [load.load(text.encode(), f"{i}.yaml", budget) for i, text in enumerate(texts, 1)]
    nodes += [merge.assignment(text, budget) for text in sets]
    return functools.reduce(merge.merge, nodes)


def test_mappings_merge_deeply_and_everything_else_is_replaced() -> None:
    node = merged("a: {x: 1, y: {z: [1, 2]}}\nb: 1", "a: {y: {z: [3], w: 4}}\nb: {c: 1}")
    assert tree.plain(node) == {"a": {"x": 1, "y": {"z": [3], "w": 4}}, "b": {"c": 1}}


def test_a_null_section_erases_the_earlier_one() -> None:
    assert tree.plain(merged("a: {x: 1}\nb: 1", "a:\n")) == {"a": None, "b": 1}


def test_positions_follow_the_source_that_wins() -> None:
    node = merged("a:\n  x: 1\n  y: 2\n", "a: {y: 3, z: 4}\n", sets=("a.z=5",))
    assert str(tree.locate(node, ("a", "x"))) == "1.yaml:2:6"
    assert str(tree.locate(node, ("a", "y"))) == "2.yaml:1:8"
    assert str(tree.locate(node, ("a", "z"))) == "--set a.z=…"
    assert str(tree.locate(node, ("a",))) == "1.yaml:1:1"


def test_set_is_last_and_its_value_is_yaml() -> None:
    sets = ("a.b/c.d=1", "a.l=[x, 2]", "a.s=hello world", "a.n=", "a.e=x=y", "a.t=[un", "f=2")
    assert tree.plain(merged("a: {l: 1}\nf: 1", sets=sets)) == {
        "a": {
            "l": ["x", 2],
            "b/c": {"d": 1},
            "s": "hello world",
            "n": None,
            "e": "x=y",
            "t": "[un",
        },
        "f": 2,
    }


@pytest.mark.parametrize("text", ["a.b", "=1", "a..b=1", ".a=1", ""])
def test_a_set_of_another_form_says_which_form_it_has(text: str) -> None:
    with pytest.raises(errors.ConfigError, match=re.escape("write it as `--set key.key=value`")):
        merged("a: 1", sets=(text,))


def test_the_value_of_a_set_is_in_no_message() -> None:
    with pytest.raises(errors.ConfigError) as caught:
        merged("a: 1", sets=("a." * 80 + "b=hunter2",))
    assert "hunter2" not in str(caught.value)


def test_a_set_of_a_megabyte_is_refused() -> None:
    with pytest.raises(errors.ConfigError, match="larger than 1 MiB"):
        merged("a: 1", sets=("a=" + "x" * (2 << 20),))
