"""Whatever the bytes of a configuration are: it loads, or it says what is wrong and where."""

from __future__ import annotations

import importlib.util
import pathlib
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_oom.config import problems
from otel_oom.service import config
from otel_oom.service.registry import Registry

REGISTRY = Registry()
SEED = (
    pathlib.Path(config.__file__).with_name("default.yaml").read_bytes()
    + b"""
  telemetry:
    logs: {level: debug}
    metrics: {interval: 30s, headers: {a: "${env:SET}"}, protocol: http/protobuf}
    resource: {a: 1, b: ${env:UNSET}, c: "${env:UNSET:-x}$$"}
  shutdown_timeout: 1m30s
"""
)
PIECES = st.sampled_from(
    b"a|receivers|service|oom|: |:\n|\n|\n  |\n    |- |[|]|{|}|, |&a |*a|<<: |!!int |!x |'|\"|? |#|"
    b"${env:SET}|${file:|${yaml:|${|$$|---\n|%TAG |\t|\xff|\0|1e999|0x|.nan|~|true|5s|\\|@|\r|"
    b"99999999999999999999|\xe2\x80\xa8|\xef\xbb\xbf".split(b"|")
)
SOUP = st.lists(PIECES, max_size=40).map(b"".join)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A good configuration in which a few stretches are replaced."""
    text = SEED
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.integers(0, 12)))
        text = text[:start] + draw(SOUP | st.binary(max_size=4)) + text[end:]
    return text


def load(sources: list[str], sets: list[str]) -> config.AgentConfig | None:
    """Load, or check that the error is ours and gives every problem its place."""
    try:
        return config.load(sources, sets, {"SET": "{a: ${env:SET2:-5}}"}, REGISTRY)
    except problems.InvalidConfig as error:
        found, text = error.problems, str(error)
    assert found
    assert all(problem.position for problem in found)
    assert all(line.isprintable() for line in text.split("\n"))
    return None


def check(raw: bytes, folder: pathlib.Path) -> None:
    """Load a file of these bytes; if it loads, what is printed of it must load as the same."""
    path = folder / "fuzz.yaml"
    path.write_bytes(raw)
    loaded = load([str(path)], [])
    if loaded is not None:
        assert load(["yaml:" + config.to_yaml(loaded, reveal=True)], []) == loaded


FUZZ = settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@FUZZ
@given(st.binary(max_size=400) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
def test_any_bytes(tmp_path: pathlib.Path, raw: bytes) -> None:
    check(raw, tmp_path)


@FUZZ
@given(SOUP)
def test_pieces_of_yaml_in_any_order(tmp_path: pathlib.Path, raw: bytes) -> None:
    check(raw, tmp_path)


@FUZZ
@given(mutated())
def test_a_good_config_with_mistakes(tmp_path: pathlib.Path, raw: bytes) -> None:
    check(raw, tmp_path)


@FUZZ
@given(st.lists(st.text(max_size=30), max_size=3))
def test_any_set(sets: list[str]) -> None:
    load([], sets)


def test_coverage_guided(tmp_path: pathlib.Path) -> None:
    """A fixed number of runs from a good config; by hand it may run for hours."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("needs atheris for coverage-guided fuzzing: `pip install atheris`")
    (tmp_path / "seed").write_bytes(SEED)
    script = pathlib.Path(__file__).with_name("guided_config.py")
    command = [sys.executable, str(script), "-runs=20000", "-seed=1", "-max_len=2000"]
    done = subprocess.run(
        [*command, f"-artifact_prefix={tmp_path}/", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done 20000 runs" in done.stderr
