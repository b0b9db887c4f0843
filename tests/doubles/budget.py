"""The verifier's budget: what each program took when somebody last looked, by kernel series.

bpf/verified.json has it, and docs/verifier.md shows it. A program that takes a tenth more than
that needs its figure changed in the same commit, where a reviewer sees it.
"""

from __future__ import annotations

import json
import pathlib

FIGURES = pathlib.Path(__file__).parents[2] / "bpf" / "verified.json"
_GROWTH = 1.1
_HOW = "`--write-figures` writes what was found"


def series(release: str, machine: str = "x86_64") -> str:
    """The key of a kernel: `6.18`, or `6.12 aarch64`."""
    version = ".".join(release.split(".")[:2])
    return version if machine == "x86_64" else f"{version} {machine}"


def knows(kernel: str) -> bool:
    """Whether there are figures of this kernel."""
    return kernel in _figures()


def problems(kernel: str, walked: dict[str, int]) -> list[str]:
    """What has no figure, or more than the figure allows."""
    figures, found = _figures().get(kernel, {}), []
    for program, count in walked.items():
        if program not in figures:
            found.append(f"{program} has no figure for Linux {kernel}; {_HOW}")
        elif count > figures[program] * _GROWTH:
            found.append(f"{program} walks {count} instead of {figures[program]}; {_HOW}")
    return found


def write(kernel: str, walked: dict[str, int]) -> None:
    """Make these the figures of a kernel."""
    figures = _figures() | {kernel: walked}
    in_order = sorted(figures, key=lambda name: [int(x) for x in name.split()[0].split(".")])
    FIGURES.write_text(json.dumps({name: figures[name] for name in in_order}, indent=2) + "\n")


def _figures() -> dict[str, dict[str, int]]:
    return json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
