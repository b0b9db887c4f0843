"""What the verifier walks for each program on this machine's kernel, held to its figures."""

from __future__ import annotations

import os

import pytest
from doubles import budget, verifier


@pytest.mark.root
def test_no_program_has_grown_without_its_figure(request: pytest.FixtureRequest) -> None:
    system = os.uname()
    kernel = budget.series(system.release, system.machine)
    walked = verifier.walked()
    if request.config.getoption("--write-figures"):
        budget.write(kernel, walked)
    if not budget.knows(kernel):
        pytest.skip(f"there are no figures of Linux {kernel} yet: run with `--write-figures`")

    assert walked
    assert budget.problems(kernel, walked) == []


def test_growth_and_new_programs_are_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(budget, "FIGURES", tmp_path / "figures.json")
    budget.write("6.1", {"oom/a": 1000, "oom/gone": 5})

    assert budget.problems("6.1", {"oom/a": 1100}) == []
    (grown,) = budget.problems("6.1", {"oom/a": 1101})
    (new,) = budget.problems("6.1", {"oom/b": 1})
    assert grown.startswith("oom/a walks 1101 instead of 1000")
    assert new.startswith("oom/b has no figure for Linux 6.1")
