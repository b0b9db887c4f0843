"""Asks this kernel, and this process's rights, what the OOM probes can rest on.

Features are probed, never versions: distributions backport (72ba14deb40a, which changed
mark_victim in v6.9, is in 6.1.176). What is refused is named with its reason.
"""

from __future__ import annotations

import ctypes
import dataclasses
import pathlib

from otel_oom import errors
from otel_oom.bpf import btf, libbpf, loader

CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF = 21, 38, 39

MARK_BY_TASK, MARK_BY_PID = "on_mark_victim", "on_mark_victim_pid"
BASE = ("on_signal_deliver", "on_process_exit")
FENTRY = ("on_oom_kill_one", "on_oom_kill_process_return", "on_oom_kill_process")
KPROBE = (
    "on_oom_kill_one_kprobe",
    "on_oom_kill_process_kretprobe",
    "on_oom_kill_process_kprobe",
)
"""In the order of attaching: whoever sees a decision begin will also see its kills and its end."""


@dataclasses.dataclass(frozen=True, slots=True)
class Kernel:
    """What was found. `mark_arguments`: of the tracepoint mark_victim, 0 if it is not there."""

    has_btf: bool
    mark_arguments: int
    mark_takes_task: bool
    has_kprobes: bool
    lockdown: str
    capabilities: int

    def has_capability(self, number: int) -> bool:
        """Whether the process has it in effect."""
        return bool(self.capabilities >> number & 1)

    @property
    def may_load(self) -> bool:
        """Whether tracing programs may be loaded (kernel: bpf_capable and perfmon_capable)."""
        both = self.has_capability(CAP_BPF) and self.has_capability(CAP_PERFMON)
        return both or self.has_capability(CAP_SYS_ADMIN)


@dataclasses.dataclass(frozen=True, slots=True)
class Probe:
    """A loaded and attached object, how it was done, and what was left out and why."""

    object: loader.Object
    decision_hook: str
    left_out: dict[str, str]


def kernel(root: pathlib.Path = pathlib.Path("/")) -> Kernel:
    """Look at the kernel; `root` stands in for / in tests."""
    has_btf = (root / "sys/kernel/btf/vmlinux").exists()
    arguments, takes_task = tracepoint("mark_victim") if has_btf else (0, False)
    return Kernel(
        has_btf=has_btf,
        mark_arguments=arguments,
        mark_takes_task=takes_task,
        has_kprobes=(root / "sys/bus/event_source/devices/kprobe").exists(),
        lockdown=_lockdown(root / "sys/kernel/security/lockdown"),
        capabilities=_capabilities(root / "proc/self/status"),
    )


def refusal(found: Kernel) -> str:
    """Why the OOM probes cannot be loaded at all, with the remedy; empty if they can."""
    if not found.mark_arguments and not tracing_refusal(found):
        return "the kernel's BTF has no tracepoint mark_victim; Linux 5.8 or newer has it"
    return tracing_refusal(found)


def tracing_refusal(found: Kernel) -> str:
    """Why no tracing program can be loaded, with the remedy; empty if they can."""
    if not found.may_load:
        return (
            "the process may not load tracing programs: it needs CAP_BPF and CAP_PERFMON; "
            "run it as root, or give it these two capabilities"
        )
    if not found.has_btf:
        return (
            "the kernel has no BTF (/sys/kernel/btf/vmlinux is missing): it was built without "
            "CONFIG_DEBUG_INFO_BTF; boot a distribution kernel that has it"
        )
    if found.lockdown == "confidentiality":
        return (
            "kernel lockdown is at `confidentiality`, which forbids programs to read kernel "
            "memory; boot with lockdown=integrity, or without"
        )
    return ""


def attach(found: Kernel, ring_bytes: int) -> Probe:
    """Load and attach the best that this kernel allows.

    The hooks on oom_kill_process are tried as fentry, then as kprobes, then left out; without
    the rest there is no capture, and `ProbeUnsupported` or `LoadFailed` says why.
    """
    why_not = refusal(found)
    if why_not:
        raise errors.ProbeUnsupported(why_not)
    mark = MARK_BY_TASK if found.mark_takes_task else MARK_BY_PID
    left_out: dict[str, str] = {}
    for hook, programs in decision_hooks(found, left_out):
        try:
            return Probe(_load((mark, *BASE, *programs), ring_bytes), hook, left_out)
        except errors.LoadFailed as failed:
            if not programs:
                raise
            left_out[hook] = str(failed).splitlines()[0]
    raise AssertionError("the last choice has no optional programs")


def decision_hooks(found: Kernel, left_out: dict[str, str]) -> list[tuple[str, tuple[str, ...]]]:
    """(how, programs) to try, best first."""
    hooks = [("fentry", FENTRY)]
    if found.has_kprobes:
        hooks.append(("kprobe", KPROBE))
    else:
        left_out["kprobe"] = "this kernel is built without kprobes (CONFIG_KPROBES)"
    return [*hooks, ("none", ())]


def _load(programs: tuple[str, ...], ring_bytes: int) -> loader.Object:
    loaded = loader.Object("oom")
    try:
        loaded.choose(programs)
        loaded.set_max_entries("oom_events", ring_bytes)
        loaded.load()
        for program in programs:
            loaded.attach(program)
    except errors.BpfError:
        loaded.close()
        raise
    return loaded


def tracepoint(name: str) -> tuple[int, bool]:
    """Arguments of a tracepoint, 0 if there is none such, and whether the first is a pointer.

    BTF has `typedef void (*btf_trace_NAME)(void *__data, ...)`: a typedef of a pointer to a
    function prototype, whose first parameter is not the tracepoint's.
    """
    library = libbpf.library()
    types = library.btf__load_vmlinux_btf()
    if not types:
        return 0, False
    try:
        return _prototype(types, f"btf_trace_{name}".encode())
    finally:
        library.btf__free(types)


def _prototype(types: int, name: bytes) -> tuple[int, bool]:
    library = libbpf.library()
    typedef = library.btf__find_by_name_kind(types, name, btf.KIND_TYPEDEF)
    if typedef <= 0:
        return 0, False
    _, _, pointer = _words(library.btf__type_by_id(types, typedef))
    _, _, function = _words(library.btf__type_by_id(types, pointer))
    at = library.btf__type_by_id(types, function)
    _, info, _ = _words(at)
    arguments = (info & 0xFFFF) - 1
    first_argument = ctypes.cast(at + 12 + 8, ctypes.POINTER(ctypes.c_uint32))[1]
    _, info, _ = _words(library.btf__type_by_id(types, first_argument))
    return arguments, info >> 24 & 0x1F == btf.KIND_PTR


def _words(at: int) -> tuple[int, int, int]:
    """The three words of a `struct btf_type`: name, info, size or type."""
    words = ctypes.cast(at, ctypes.POINTER(ctypes.c_uint32))
    return words[0], words[1], words[2]


def _lockdown(path: pathlib.Path) -> str:
    """The chosen of `none [integrity] confidentiality`; empty where there is no such file."""
    try:
        text = path.read_text()
    except OSError:
        return ""
    return text.partition("[")[2].partition("]")[0]


def _capabilities(path: pathlib.Path) -> int:
    try:
        text = path.read_text()
    except OSError as error:
        raise errors.ProbeUnsupported(
            f"{path} cannot be read ({error.strerror}): mount /proc there, or set `root_path`"
        ) from error
    for line in text.splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0
