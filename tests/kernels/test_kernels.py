"""Kernels from 5.10 to 7.x, each in a VM: our programs load there, and real kills happen."""

from __future__ import annotations

import json
import pathlib
import signal
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import debian_kernels
import vm

pytestmark = pytest.mark.kernels

HERE = pathlib.Path(__file__).parent
CASES = [
    pytest.param(kernel, version, id=f"{kernel}-{version}")
    for kernel in (*debian_kernels.KERNELS, *debian_kernels.ARM64_KERNELS)
    for version in ("v1", "v2")
    if version == "v2" or kernel.has_memory_v1
]


def _run(kernel: debian_kernels.Kernel, script: str, version: str = "v2") -> vm.Result:
    try:
        result = vm.run_in_vm(kernel, HERE / script, cgroup=version)
    except (debian_kernels.Unavailable, vm.Unavailable) as error:
        pytest.skip(str(error))
    assert result.exit_code == 0, f"{result.stdout}\n{result.console[-4000:]}"
    return result


@pytest.mark.parametrize(("kernel", "version"), CASES)
def test_a_real_kill_happens_on(kernel: debian_kernels.Kernel, version: str) -> None:
    told = json.loads(_run(kernel, "guest_kill.py", version).lines[-1])

    assert told["release"].startswith(kernel.series.rstrip("x"))
    assert told["memory_cgroup"] == int(version[1])
    assert (told["victim"], told["trigger"], told["oom_kill"]) == (-signal.SIGKILL, 0, 1)


@pytest.mark.parametrize("kernel", debian_kernels.KERNELS, ids=lambda kernel: kernel.series)
def test_every_program_loads_and_attaches_on(kernel: debian_kernels.Kernel) -> None:
    told = json.loads(_run(kernel, "guest_probe.py").lines[-1])

    assert told == {"decision_hook": "fentry", "left_out": {}}


@pytest.mark.parametrize("kernel", debian_kernels.ARM64_KERNELS, ids=str)
def test_the_same_objects_load_on_arm64(kernel: debian_kernels.Kernel) -> None:
    """The wheel has one set of objects for all processors. Trampolines need 6.4 or newer there."""
    told = json.loads(_run(kernel, "guest_probe.py").lines[-1])

    hook = "fentry" if kernel.series == "6.12" else "kprobe"
    assert told["decision_hook"] == hook
    assert list(told["left_out"]) == ([] if hook == "fentry" else ["fentry"])
