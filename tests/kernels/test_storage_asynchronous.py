"""Asynchronous operations on kernels from 5.10 to 7.x: each is told, once, with its submitter."""

from __future__ import annotations

import functools
import json
import pathlib
import sys
from typing import Any

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import debian_kernels
import vm

pytestmark = pytest.mark.kernels

HERE = pathlib.Path(__file__).parent
MODULES = ("loop", "scsi_debug", "sd_mod")
BATCHES, DEPTH, BYTES = 5, 4, 4096
WHOLE = {
    "told": BATCHES * DEPTH,
    "ids": BATCHES * DEPTH,
    "linked": BATCHES * DEPTH,
    "submitters": BATCHES,
    "bytes": BATCHES * DEPTH * BYTES,
}

Line = dict[str, Any]


@functools.cache
def played(kernel: debian_kernels.Kernel) -> tuple[Line, ...]:
    """A line for each device, engine and operation; one boot for all tests of a kernel."""
    result = vm.run_in_vm(kernel, HERE / "guest_storage_asynchronous.py", modules=MODULES)
    assert result.exit_code == 0, f"{result.stdout}\n{result.console[-4000:]}"
    return tuple(json.loads(line) for line in result.lines if line.startswith('{"'))


@pytest.fixture(params=debian_kernels.KERNELS, ids=lambda kernel: kernel.series)
def lines(request: pytest.FixtureRequest) -> tuple[Line, ...]:
    try:
        return played(request.param)
    except (debian_kernels.Unavailable, vm.Unavailable) as error:
        pytest.skip(str(error))


def test_each_is_told_once_with_its_submitter(lines: tuple[Line, ...]) -> None:
    found = [line for line in lines if "told" in line]

    assert len(found) == 12
    assert [{key: line[key] for key in WHOLE} for line in found] == [WHOLE] * 12


def test_a_request_that_comes_again_is_one(lines: tuple[Line, ...]) -> None:
    """The disk sends a third of what it is given back, for later."""
    assert sum(line["requeues"] for line in lines if line.get("device") == "busy_disk") > 0


def test_nothing_was_lost_and_all_ended(lines: tuple[Line, ...]) -> None:
    counts = lines[-1]["counters"]

    assert counts["lost"] == counts["lost_asynchronous"] == counts["collided"] == 0
    assert counts["tracked"] == counts["finished"] + counts["abandoned"]
    assert counts["abandoned"] == 0
