"""What `otel-oom doctor` says of the receiver: what was probed, how it is, what follows."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Mapping

from otel_oom import errors
from otel_oom.bpf import libbpf, probe
from otel_oom.pipeline.component import Check
from otel_oom.receivers.storage import block, devices, operation_tier, operations, workloads
from otel_oom.receivers.storage.config import Config

_NEVER_NS = 2**63


def checks(config: Config) -> list[Check]:
    """Every fact that decides what is seen; the programs are attached for a moment."""
    root = pathlib.Path(config.root_path)
    try:
        libbpf.library()
    except errors.BpfError as error:
        return [Check("libbpf", ok=False, detail=str(error), remedy="install libbpf 1.0 or newer")]
    try:
        kernel = probe.kernel(root)
    except errors.BpfError as error:
        return [Check("/proc and /sys", ok=False, detail=str(error), remedy="set `root_path`")]
    return [
        Check(
            "rights",
            ok=kernel.may_load,
            detail=f"uid {os.geteuid()}, CapEff {kernel.capabilities:#x}",
            remedy="run as root, or with CAP_BPF and CAP_PERFMON",
        ),
        Check(
            "BTF",
            ok=kernel.has_btf,
            detail="/sys/kernel/btf/vmlinux" if kernel.has_btf else "missing",
            remedy="boot a kernel with CONFIG_DEBUG_INFO_BTF (distributions since 2020 have it)",
        ),
        _block_tier(config, root),
        *_operation_tier(config),
        _workloads(root),
        *_devices(config, root),
    ]


def _block_tier(config: Config, root: pathlib.Path) -> Check:
    """Whether block requests can be counted; thresholds that no request reaches."""
    try:
        attached = block.Block(
            stage_ns=_NEVER_NS,
            total_ns=_NEVER_NS,
            max_series=config.max_series,
            ring_bytes=config.ring_size,
            root=root,
        )
    except (errors.BpfError, OSError) as error:
        detail, ok = str(error).splitlines()[0], False
    else:
        detail, ok = attached.describe(), True
        attached.close()
    return Check("block tier", ok=ok, detail=detail, remedy="see the lines above")


def _operation_tier(config: Config) -> Iterator[Check]:
    """Whether calls can be followed, by which programs; and what this kernel does not have."""
    left_out: Mapping[str, str] = {}
    try:
        attached = operations.Operations(operation_tier.settings(config))
    except (errors.BpfError, OSError) as error:
        detail, ok = str(error).splitlines()[0], False
    else:
        programs, left_out, ok = attached.instructions(), attached.left_out, True
        attached.close()
        counts = ", ".join(f"{program} ({count})" for program, count in programs.items())
        detail = f"{counts} verified instructions"
    yield Check("operation tier", ok=ok, detail=detail, remedy="see the lines above")
    for hook, reason in left_out.items():
        yield Check(f"operations by {hook}", ok=True, detail=f"left out: {reason}")


def _workloads(root: pathlib.Path) -> Check:
    found = workloads.Workloads(root)
    try:
        return Check(
            "block I/O cgroups",
            ok=found.version > 0,
            detail=found.describe(),
            remedy="mount the host's /sys/fs/cgroup; without it workloads have ids, no paths",
            required=False,
        )
    finally:
        found.close()


def _devices(config: Config, root: pathlib.Path) -> Iterator[Check]:
    disks = devices.Devices(root, config.devices)
    told = [disk for disk in disks.present() if disk.is_told_of]
    yield Check(
        "block devices",
        ok=bool(told),
        detail=", ".join(map(_words, told)) or f"none that fits {config.devices}",
        remedy="mount the host's /sys, or change `devices`; a device that comes later is seen",
        required=False,
    )
    without = [disk.name for disk in told if not _keeps_statistics(root, disk)]
    yield Check(
        "queue statistics",
        ok=not without,
        detail=f"off on {', '.join(without)}" if without else "on",
        remedy="write 1 to /sys/block/NAME/queue/iostats; without it there is no time in the queue",
        required=False,
    )


def _words(disk: devices.Device) -> str:
    return f"{disk.name} (stacked)" if disk.is_stacked else disk.name


def _keeps_statistics(root: pathlib.Path, disk: devices.Device) -> bool:
    try:
        return (root / f"sys/block/{disk.name}/queue/iostats").read_text().strip() != "0"
    except OSError:
        return True  # it is no request queue, or is gone
