"""Memory and start of the agent beside bcc's `oomkill`, one after the other in one virtual machine.

bcc compiles its program at each start and needs kprobes and the kernel's headers; so the kernel
is one that has them, emulated by QEMU. Emulation is about ten times slower than a machine, for
both alike: compare the two, and take no second in it for a second. Run by `make bench`; the
first run makes the VM's root and takes some minutes longer.
"""

from __future__ import annotations

import json
import pathlib
import sys
import tempfile
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "kernels"))

import debian_kernels
import vm
from doubles import skips

import otel_oom

HERE = pathlib.Path(__file__).resolve().parent
KERNEL = next(kernel for kernel in debian_kernels.KERNELS if kernel.series == "6.1")
AGENT_YAML = """
receivers: {oom: {state_directory: /tmp/state}}
exporters:
  file: {path: /tmp/oom.jsonl, flush_interval: 10ms}
  debug: {verbosity: normal}
service:
  pipelines:
    logs: {receivers: [oom], exporters: [file, debug]}
    traces: {receivers: [oom], exporters: [file]}
    metrics: {receivers: [oom], exporters: [file]}
"""


def run() -> list[dict[str, Any]]:
    """What the guest's script told, a dictionary a tool."""
    packages = ["bpfcc-tools", f"linux-headers-{debian_kernels.release(KERNEL)}"]
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder, "agent.yaml")
        config.write_text(AGENT_YAML)
        package = pathlib.Path(otel_oom.__file__).parent
        result = vm.run_in_vm(
            KERNEL, HERE / "guest_peers.py", files=[config, package], packages=packages
        )
    if result.exit_code != 0:
        raise SystemExit(f"{result.stdout}\n{result.console[-3000:]}")
    return [json.loads(line) for line in result.lines if line.startswith('{"tool"')]


def main() -> None:
    """Print the table, or why there is none."""
    if sentence := skips.kernels():
        print(f"left out: {sentence}")
        return
    try:
        told = {each["tool"]: each for each in run()}
    except (debian_kernels.Unavailable, vm.Unavailable) as error:
        print(f"left out: {error}")
        return
    bcc, ours = told["bcc oomkill"], told["otel-oom"]
    for each in (bcc, ours):
        if "error" in each:
            raise SystemExit(f"{each['tool']} told of no kill:\n{each['error']}")
    print(f"Linux {debian_kernels.release(KERNEL)} under QEMU's emulation, one CPU\n")
    print("|  | bcc oomkill | otel-oom | ratio |")
    print("|---|---:|---:|---:|")
    for name, key, unit, scale in (
        ("start to the first kill told", "ready_s", "s", 1),
        ("peak resident memory", "peak_kib", "MiB", 1024),
        ("resident memory then", "resident_kib", "MiB", 1024),
    ):
        one, other = bcc[key] / scale, ours[key] / scale
        print(f"| {name} | {one:.1f} {unit} | {other:.1f} {unit} | {one / other:.1f} |")


if __name__ == "__main__":
    main()
