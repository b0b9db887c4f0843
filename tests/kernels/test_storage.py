"""The storage injections on kernels from 5.10 to 7.x: each slows what it says there too."""

from __future__ import annotations

import functools
import json
import pathlib
import sys
import tempfile
from typing import Any

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import debian_kernels
import vm

pytestmark = pytest.mark.kernels

HERE = pathlib.Path(__file__).parent
MODULES = (
    "loop", "fuse", "bfq", "mq-deadline", "xfs", "btrfs", "dm-delay", "scsi_debug", "sd_mod", "virtio_blk",
    "virtio_pci",
)  # fmt: skip
PACKAGES = ("e2fsprogs", "xfsprogs", "btrfs-progs", "dmsetup")
LIMIT = "throttling.iops-total=20"

Line = dict[str, Any]


@functools.cache
def played(kernel: debian_kernels.Kernel) -> tuple[Line, ...]:
    """A line for each injection; one boot for all tests of a kernel."""
    with tempfile.TemporaryDirectory() as name:
        disk = pathlib.Path(name, "disk")
        disk.write_bytes(bytes(64 << 20))
        drives = [f"file={disk},format=raw,if=none,snapshot=on,{LIMIT},id={id_}" for id_ in "ab"]
        result = vm.run_in_vm(
            kernel,
            HERE / "guest_storage.py",
            modules=MODULES,
            packages=PACKAGES,
            devices=[
                *("-drive", drives[0], "-device", "nvme,serial=limited,drive=a"),
                *("-drive", drives[1], "-device", "virtio-blk-pci,drive=b"),
            ],
            timeout_s=1200,
        )
    assert result.exit_code == 0, f"{result.stdout}\n{result.console[-4000:]}"
    return tuple(json.loads(line) for line in result.lines if line.startswith('{"'))


@pytest.fixture(params=debian_kernels.KERNELS, ids=lambda kernel: kernel.series)
def lines(request: pytest.FixtureRequest) -> tuple[Line, ...]:
    try:
        return played(request.param)
    except (debian_kernels.Unavailable, vm.Unavailable) as error:
        pytest.skip(str(error))


def test_every_injection_slows_what_it_says(lines: tuple[Line, ...]) -> None:
    done = [line for line in lines[1:] if line["truth"] and "left_out" not in line]

    assert [line for line in done if "error" in line] == []
    assert len(done) > 10
    # Emulation makes the rest ten times slower, the delay not.
    assert [line for line in done if line["shares"][line["truth"]] <= 0.35] == []
