"""The verifier's budget on kernels from 5.10 to 7.x, and on arm64."""

from __future__ import annotations

import json
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import debian_kernels
import vm
from doubles import budget

pytestmark = pytest.mark.kernels

HERE = pathlib.Path(__file__).parent
ALL = (*debian_kernels.KERNELS, *debian_kernels.ARM64_KERNELS)


@pytest.mark.parametrize("kernel", ALL, ids=str)
def test_no_program_has_grown_without_its_figure_on(
    kernel: debian_kernels.Kernel, request: pytest.FixtureRequest
) -> None:
    try:
        result = vm.run_in_vm(kernel, HERE / "guest_verifier.py", modules=("xfs", "btrfs"))
    except (debian_kernels.Unavailable, vm.Unavailable) as error:
        pytest.skip(str(error))
    assert result.exit_code == 0, f"{result.stdout}\n{result.console[-4000:]}"
    told = json.loads(result.lines[-1])
    name = budget.series(told["release"], told["machine"])
    if request.config.getoption("--write-figures"):
        budget.write(name, told["walked"])

    assert told["walked"]
    assert budget.problems(name, told["walked"]) == []
