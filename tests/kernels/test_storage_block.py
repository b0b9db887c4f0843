"""The block tier on kernels from 5.10 to 7.x: it loads, and counts what the kernel counts."""

from __future__ import annotations

import json
import pathlib
import sys
from typing import Any

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import debian_kernels
import guest_storage_block_numbers as numbers
import vm

pytestmark = pytest.mark.kernels

HERE = pathlib.Path(__file__).parent
SECTOR = 512


@pytest.fixture(scope="module", params=debian_kernels.KERNELS, ids=lambda kernel: kernel.series)
def told(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What the guest says, one boot for all the tests of a kernel."""
    files = [HERE / "guest_storage_block_numbers.py"]
    try:
        result = vm.run_in_vm(request.param, HERE / "guest_storage_block.py", files)
    except (debian_kernels.Unavailable, vm.Unavailable) as error:
        pytest.skip(str(error))
    assert result.exit_code == 0, f"{result.stdout}\n{result.console[-4000:]}"
    return dict(json.loads(result.lines[-1]))


def test_direct_reads_are_the_kernels_own(told: dict[str, Any]) -> None:
    ours, kernel = told["read"]["ours"]["READ"], told["read"]["kernel"]
    assert ours["requests"] == kernel["reads"] == numbers.READS
    assert ours["bytes"] == kernel["read_sectors"] * SECTOR == numbers.READS * numbers.READ_BYTES
    assert ours["device"] == ours["queue"] == numbers.READS


def test_a_synced_file_is_written_and_flushed_as_the_kernel_says(told: dict[str, Any]) -> None:
    """Each step of a flush sequence once: data, the device's flush, the commit record."""
    ours, kernel = told["synced"]["ours"], told["synced"]["kernel"]
    assert ours["WRITE"]["bytes"] == kernel["write_sectors"] * SECTOR
    assert ours["FLUSH"]["requests"] == kernel["flushes"] >= numbers.SYNCS
    assert 0 <= kernel["writes"] - ours["WRITE"]["requests"] <= kernel["flushes"]
    assert ours["WRITE"]["device"] == ours["WRITE"]["requests"]
    assert ours["WRITE"]["requests"] - ours["WRITE"]["queue"] == told["synced"]["after_flush"]
    assert told["synced"]["after_flush"] >= numbers.SYNCS


def test_each_request_over_the_threshold_is_in_the_ring(told: dict[str, Any]) -> None:
    for work in ("synced", "read"):
        counted = {name: row["requests"] for name, row in told[work]["ours"].items()}
        records = told[work]["records"]
        assert records.get("WRITE", 0) == counted.get("WRITE", 0)
        assert records.get("FLUSH", 0) == counted.get("FLUSH", 0)


def test_write_back_names_its_file(told: dict[str, Any]) -> None:
    """All pages of the file, whichever folios they were in; direct I/O names none."""
    assert told["synced"]["inode_bytes"] >= numbers.SYNCS * numbers.SYNC_BYTES
    assert told["read"]["inode_bytes"] == 0


def test_nothing_is_lost_or_left_without_a_time(told: dict[str, Any]) -> None:
    assert set(told["lost"].values()) == {0}
    assert {name for name, count in told["unmeasured"].items() if count} <= {"after_flush"}
