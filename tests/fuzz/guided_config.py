"""Coverage-guided fuzzing of the config loader: `python tests/fuzz/guided_config.py [CORPUS]`.

Takes libFuzzer's options, e.g. `-runs=100000` or `-max_total_time=600`. What it finds is an
exception that is no `ConfigError`, or a problem that has no place.
"""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["otel_oom.config"]):
    from otel_oom.config import expand, limits, load, problems, tree


def one(raw: bytes) -> None:
    """Read one text as the service does, up to the plain tree."""
    budget = limits.Budget()
    try:
        root = load.load(raw, "fuzz.yaml", budget)
        expander = expand.Expander({"SET": "{a: ${env:SET2:-5}}"}, budget)
        tree.typed(tree.plain(expander.expand(root)))
    except problems.InvalidConfig as error:
        if not all(problem.position for problem in error.problems):
            raise AssertionError(str(error)) from error


if __name__ == "__main__":
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()
