"""What `otel-oom doctor` says of the receiver: what was probed, how it is, what follows."""

from __future__ import annotations

import dataclasses
import os
import pathlib

from otel_oom import errors
from otel_oom.bpf import libbpf, probe
from otel_oom.pipeline.component import Check
from otel_oom.receivers.oom import cgroups, kernel_log, modes
from otel_oom.receivers.oom.config import Config


def checks(config: Config) -> list[Check]:
    """Every fact that decides how kills are captured; the probes are attached for a moment.

    What the best mode lacks is required only if no other mode that is wanted works.
    """
    root, wanted = pathlib.Path(config.root_path), config.capture_modes
    core = _core(root, config.ring_size) if modes.CORE in wanted else []
    log = [_log(root)] if modes.KMSG in wanted else []
    counters = [_cgroups(root), _counters(root), _state(pathlib.Path(config.state_directory))]
    works = {
        modes.CORE: bool(core) and all(check.ok for check in core),
        modes.KMSG: bool(log) and log[0].ok,
        modes.COUNTER: modes.COUNTER in wanted and counters[1].ok,
    }
    found = next((mode for mode in modes.MODES if works[mode]), "")
    chosen = Check(
        "capture mode",
        ok=bool(found),
        detail=f"{found or 'none'} of {', '.join(wanted)}",
        remedy="see the lines above, or allow more in `capture_modes`",
    )
    poorer = [dataclasses.replace(c, required=c.required and not found) for c in (*core, *log)]
    return [*poorer, *counters, chosen]


def _core(root: pathlib.Path, ring_bytes: int) -> list[Check]:
    """What the mode `core` rests on."""
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
    ]
    return [*found, *_attached(kernel, ring_bytes)]


def _log(root: pathlib.Path) -> Check:
    """What the mode `kmsg` rests on."""
    try:
        kernel_log.KernelLog(root).close()
    except errors.ProbeUnsupported as error:
        return Check(
            "kernel log",
            ok=False,
            detail=str(error).partition(": ")[0],
            remedy="run as root, or with CAP_SYSLOG, or set kernel.dmesg_restrict=0; "
            "in a container with the host's /dev/kmsg",
        )
    return Check("kernel log", ok=True, detail="/dev/kmsg can be read: mode kmsg")


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
