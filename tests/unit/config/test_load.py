"""YAML text to values with positions, and what is refused."""

from __future__ import annotations

import pathlib
import subprocess
import sys

import pytest

from otel_oom import errors
from otel_oom.config import limits, load, problems, tree


def loaded(text: str | bytes) -> tree.Node:
    raw = text.encode() if isinstance(text, str) else text
    return load.load(raw, "a.yaml", limits.Budget())


def value(text: str) -> object:
    return tree.plain(loaded(text))


def refused(text: str | bytes) -> str:
    """Every problem of a text, each of which must have a line and a column."""
    with pytest.raises(errors.ConfigError) as caught:
        loaded(text)
    assert isinstance(caught.value, problems.InvalidConfig)
    assert all(p.position and p.position.line and p.position.column for p in caught.value.problems)
    return str(caught.value)


def test_every_key_and_value_has_its_line_and_column() -> None:
    node = loaded("a:\n  bb: 1\n  c: [x, yy]\n")
    assert str(tree.locate(node, ("a", "bb"))) == "a.yaml:2:7"
    assert str(tree.locate(node, ("a", "bb"), key=True)) == "a.yaml:2:3"
    assert str(tree.locate(node, ("a", "c", 1))) == "a.yaml:3:10"
    assert str(tree.locate(node, ("a",))) == "a.yaml:1:1"


def test_a_path_that_is_not_there_stands_where_its_nearest_parent_does() -> None:
    assert str(tree.locate(loaded("a:\n  b:\n    c: 1\n"), ("a", "b", "x", "y"))) == "a.yaml:2:3"


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "y", "Yes", "12:30", "2001-01-01", "="])
def test_words_that_only_yaml_1_1_has_a_meaning_for_are_strings(word: str) -> None:
    assert value(f"a: {word}") == {"a": word}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("False", False),
        ("TRUE", True),
        ("~", None),
        ("", None),
        ("null", None),
        ("10", 10),
        ("-3", -3),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("-.inf", float("-inf")),
        ("'10'", "10"),
        ("1_000", "1_000"),
        ("!!str 10", "10"),
        ("!!int '10'", 10),
        ("!!float 1", 1.0),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, expected: object) -> None:
    read = value(f"a: {text}")
    assert read == {"a": expected}
    assert type(read["a"]) is type(expected)


def test_an_empty_source_is_an_empty_mapping() -> None:
    assert value("") == value("# nothing\n") == value("---\n") == {}


def test_a_byte_order_mark_is_no_content() -> None:
    assert tree.plain(loaded(b"\xef\xbb\xbfa: 1")) == {"a": 1}


def test_an_alias_repeats_its_anchor_and_a_merge_fills_in() -> None:
    text = "base: &b {x: 1, y: 2}\nalias: *b\nmerged:\n  <<: *b\n  y: 3\n"
    assert value(text) == {
        "base": {"x": 1, "y": 2},
        "alias": {"x": 1, "y": 2},
        "merged": {"y": 3, "x": 1},
    }


def test_the_first_of_several_merged_mappings_wins() -> None:
    text = "a: &a {x: 1}\nb: &b {x: 2, y: 2}\nc:\n  <<: [*a, *b]\n"
    assert value(text)["c"] == {"x": 1, "y": 2}


@pytest.mark.parametrize("text", ["a:\n\tb: 1\n", "a:\n  b: 1\n\tc: 2\n", "a: b\n\tc\n"])
def test_a_tab_in_the_indentation_is_named(text: str) -> None:
    assert "a tab in the indentation" in refused(text)


def test_a_duplicate_key_names_both_places() -> None:
    text = refused("a:\n  x: 1\n  y: 2\n  x: 3\n")
    assert text.startswith("a.yaml:4:3 a.x: duplicate key, first written at a.yaml:2:3; delete")


def test_all_duplicates_tags_and_odd_keys_are_told_at_once() -> None:
    text = refused("a: 1\na: 2\n5: x\nc: !mine 3\nd: !!int x\n")
    assert [line.split()[0] for line in text.splitlines()] == [
        "a.yaml:2:1",
        "a.yaml:3:1:",
        "a.yaml:4:4",
        "a.yaml:5:4",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n", "a.yaml:1:1: the top level must be a mapping such as `receivers:`, not a list"),
        ("just words", "not a string"),
        ("a: 1\n---\nb: 2\n", "a.yaml:2:1: a second document begins"),
        ("a: !custom {}\n", "tags are not supported"),
        ("%TAG ! tag:x,2000:\n---\na: 1\n", "a.yaml:1:1: tags are not supported"),
        ("? [a]\n: 1\n", "keys are strings"),
        ("true: 1\n", "a key is a boolean; keys are strings: quote it"),
        ("a: *nowhere\n", "the alias `*nowhere` has no anchor"),
        ("a: &x [*x]\n", "the alias `*x` has no anchor `&x` that ends above it"),
        ("a: {<<: 5}\n", "merges mappings only"),
        ("a: b: c\n", "a text with `: ` needs quotes"),
        ("a: [1, 2\n", "a.yaml:2:1: no YAML"),
        ('a: "x\n', "close the quote"),
        ("a: @x\n", "quote the value"),
        ("a: 123456789012345678901234567890\n", "does not fit 64 bits"),
        (f"a: {'9' * 5000}\n", "does not fit 64 bits"),
    ],
)
def test_what_is_refused_says_where_and_what_to_do(text: str, expected: str) -> None:
    assert expected in refused(text)


def test_bytes_that_are_no_utf_8_are_placed() -> None:
    assert refused(b"a: 1\nb: \xff\n") == "a.yaml:2:4: not UTF-8 here; save the file as UTF-8"
    assert "not UTF-8" in refused("a: 1".encode("utf-16"))


def test_a_control_character_is_named_and_placed() -> None:
    assert refused(b"a: 1\nb: x\x00\n").startswith(
        "a.yaml:2:5: the character U+0000 is not allowed"
    )


def test_a_config_of_ten_megabytes_is_refused_before_it_is_parsed(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "big.yaml"
    path.write_bytes(b"a: 1\n" * 2_000_000)
    read = load.read(str(path))
    assert len(read) == limits.MAX_TEXT_BYTES + 1
    assert "larger than 1 MiB, which no configuration is" in refused(read)


@pytest.mark.parametrize("name", ["missing.yaml", ".", "nul\0"])
def test_a_file_that_cannot_be_read_is_named_with_the_reason(
    tmp_path: pathlib.Path, name: str
) -> None:
    with pytest.raises(errors.ConfigError, match="cannot be read: "):
        load.read(f"{tmp_path}/{name}")


BOMBS = r"""
M = 1 << 20
laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i-1}'] * 10)}]\n" for i in range(1, 12)
)
merges = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [*a{i-1}, *a{i-1}, *a{i-1}], k{i}: *a{i-1}}}\n" for i in range(1, 60)
)
BOMBS = [
    laughs, merges,
    "[" * M, "{" * M, "{" * 500_000, "[?" * (M // 2), "? " * (M // 2), "- " * (M // 2),
    "a: [" + "a," * 500_000 + "]", "".join(f"k{i}:\n" for i in range(90_000)),
    "".join(f"%TAG !a{i}! b\n" for i in range(60_000)),
    "a:\n" * 200_000, "&a " * 300_000, "x: " * 300_000, "a: {" + "x: {" * 1000,
    "a: " + "9" * (M - 10), "a: " + "1e9" * 300_000, "'" * M, '"' + "\\x41" * 200_000,
    "1: 1\n" * 100_000,
]
"""

CHILD = (
    BOMBS
    + r"""
import resource
from otel_oom import errors
from otel_oom.config import limits, load
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
for bomb in BOMBS:
    try:
        load.load(bomb.encode(), "bomb.yaml", limits.Budget())
    except errors.ConfigError as error:
        assert "bomb.yaml:" in str(error), str(error)[:200]
    else:
        assert bomb.startswith("a: 1e9"), bomb[:40]
"""
)


def test_bombs_are_refused_within_a_bounded_memory_and_time() -> None:
    """In a process of its own, because the bounds are the kernel's."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
