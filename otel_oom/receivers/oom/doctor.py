"""What `otel-oom doctor` says of the receiver: what was probed, how it is, what follows."""

from __future__ import annotations

import os
import pathlib

from otel_oom import errors
from otel_oom.bpf import libbpf, probe
from otel_oom.pipeline.component import Check
from otel_oom.receivers.oom import cgroups
from otel_oom.receivers.oom.config import Config


def checks(config: Config) -> list[Check]:
    """Every fact that decides how kills are captured; the probes are attached for a moment."""
    root = pathlib.Path(config.root_path)
    try:
        libbpf.library()
    except errors.BpfError as error:
        return [Check("libbpf", ok=False, detail=str(error), remedy="install libbpf 1.0 or newer")]
    try:
        kernel = probe.kernel(root)
    except errors.BpfError as error:
        return [Check("/proc and /sys", ok=False, detail=str(error), remedy="set `root_path`")]
    found = [
        _rights(kernel),
        Check(
            "BTF",
            ok=kernel.has_btf,
            detail="/sys/kernel/btf/vmlinux" if kernel.has_btf else "missing",
            remedy="boot a kernel with CONFIG_DEBUG_INFO_BTF (distributions since 2020 have it)",
        ),
        Check(
            "lockdown",
            ok=kernel.lockdown != "confidentiality",
            detail=kernel.lockdown or "no lockdown file: none",
            remedy="boot with lockdown=integrity, or without",
        ),
        Check(
            "mark_victim",
            ok=bool(kernel.mark_arguments),
            detail="gives the task" if kernel.mark_takes_task else "gives a pid alone",
            remedy="Linux 5.8 or newer with BTF has the tracepoint",
        ),
        _cgroups(root),
        _counters(root),
        _state(pathlib.Path(config.state_directory)),
    ]
    return [*found, *_attached(kernel, config.ring_size)]


def _rights(kernel: probe.Kernel) -> Check:
    return Check(
        "rights",
        ok=kernel.may_load,
        detail=f"uid {os.geteuid()}, CapEff {kernel.capabilities:#x}",
        remedy="run as root, or with CAP_BPF and CAP_PERFMON",
    )


def _cgroups(root: pathlib.Path) -> Check:
    hierarchy = cgroups.find(root)
    return Check(
        "memory cgroups",
        ok=hierarchy.version > 0,
        detail=f"v{hierarchy.version} at {hierarchy.mount}" if hierarchy.version else "none seen",
        remedy="mount the host's /sys/fs/cgroup; without it cgroup counters are not checked",
    )


def _counters(root: pathlib.Path) -> Check:
    try:
        ok = "\noom_kill " in (root / "proc/vmstat").read_text()
    except OSError:
        ok = False
    return Check(
        "kernel's kill counter",
        ok=ok,
        detail="/proc/vmstat oom_kill" if ok else "missing from /proc/vmstat",
        remedy="Linux 4.13 or newer has it; without it nothing proves completeness",
    )


def _state(directory: pathlib.Path) -> Check:
    nearest = next(p for p in (directory, *directory.parents) if os.path.exists(p))  # noqa: PTH110
    return Check(
        "state directory",
        ok=os.access(nearest, os.W_OK | os.X_OK),
        detail=str(directory),
        remedy="make it writable, or set `state_directory`; "
        "else kills while the agent is down are not reported",
    )


def _attached(kernel: probe.Kernel, ring_bytes: int) -> list[Check]:
    try:
        attached = probe.attach(kernel, ring_bytes)
    except errors.BpfError as error:
        first_line = str(error).splitlines()[0]
        return [Check("probes", ok=False, detail=first_line, remedy="see the lines above")]
    instructions = attached.object.verified_instructions()
    attached.object.close()
    programs = ", ".join(f"{name} ({count})" for name, count in instructions.items())
    left_out = [
        Check(f"oom_kill_process by {hook}", ok=True, detail=f"left out: {reason}")
        for hook, reason in attached.left_out.items()
    ]
    return [
        Check("probes", ok=True, detail=f"mode core: {programs} verified instructions"),
        Check("oom_kill_process", ok=True, detail=f"hooked by {attached.decision_hook}"),
        *left_out,
    ]
