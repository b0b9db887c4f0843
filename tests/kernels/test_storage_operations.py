"""Both tiers of storage on kernels from 5.10 to 7.x, and the table of them in docs/kernels.md.

`python tests/kernels/test_storage_operations.py` prints the table.
"""

from __future__ import annotations

import functools
import json
import pathlib
import sys
from typing import Any

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

import debian_kernels
import guest_storage_operations_work as work
import vm
from doubles import storage_injections

pytestmark = pytest.mark.kernels

HERE = pathlib.Path(__file__).parent
MODULES = ("loop", "fuse", "bfq", "mq-deadline", "xfs", "btrfs")
PACKAGES = ("e2fsprogs", "xfsprogs", "btrfs-progs", "dmsetup")

Told = dict[str, Any]


@functools.cache
def told_by(kernel: debian_kernels.Kernel) -> Told:
    """What the guest says; one boot for all tests of a kernel."""
    result = vm.run_in_vm(
        kernel,
        HERE / "guest_storage_operations.py",
        files=[HERE / "guest_storage_operations_work.py"],
        modules=MODULES,
        packages=PACKAGES,
        timeout_s=900,
    )
    assert result.exit_code == 0, f"{result.stdout}\n{result.console[-4000:]}"
    return dict(json.loads(result.lines[-1]))


@pytest.fixture(params=debian_kernels.KERNELS, ids=lambda kernel: kernel.series)
def told(request: pytest.FixtureRequest) -> Told:
    try:
        return told_by(request.param)
    except (debian_kernels.Unavailable, vm.Unavailable) as error:
        pytest.skip(str(error))


def test_both_tiers_load_and_attach(told: Told) -> None:
    assert "on_sched_switch" in told["instructions"]
    assert max(told["instructions"].values()) < 1_000_000


def test_every_fsync_is_told_with_the_commit_that_it_waited_for(told: Told) -> None:
    assert told["fsync"] == {
        "told": work.SYNCS,
        "joined": work.SYNCS,
        "of its own transaction": work.SYNCS,
    }


def test_what_was_slowed_gets_the_verdict(told: Told) -> None:
    """Of all calls that were slowed; emulation makes the processor ten times slower."""
    found = {name: one["found"] for name, one in told["verdicts"].items() if "found" in one}
    assert len([one for one in found.values() if one]) >= 3
    right, all_ = score(told)
    assert right >= 0.9 * all_ > 0


def score(told: Told) -> tuple[int, int]:
    """How many verdicts are right, of how many."""
    found = {name: one["found"] for name, one in told["verdicts"].items() if "found" in one}
    right = sum(one.get(storage_injections.ALL[name].layer, 0) for name, one in found.items())
    return right, sum(sum(one.values()) for one in found.values())


def row(told: Told) -> str:
    """The kernel's line of the table."""
    walked, fsync = told["instructions"], told["fsync"]
    right, all_ = score(told)
    absent = ", ".join(told["left_out"]) or "none"
    return (
        f"| {told['release']} | {len(walked)} | {verified(walked)} | {absent} "
        f"| {fsync['joined']} of {work.SYNCS} | {right} of {all_} |"
    )


def verified(walked: dict[str, int]) -> str:
    """Instructions of all programs, and of the longest; kernels before 5.16 do not tell."""
    if not any(walked.values()):
        return "not told"
    most = max(walked, key=lambda program: walked[program])
    return f"{sum(walked.values()):,}, `{most}` {walked[most]:,}"


if __name__ == "__main__":
    print("| kernel | programs | verified | absent | fsyncs joined | verdicts |")
    print("|---|---|---|---|---|---|")
    for each in debian_kernels.KERNELS:
        print(row(told_by(each)), flush=True)
