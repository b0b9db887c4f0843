"""Names of an OOM kill."""

from __future__ import annotations

from otel_oom.semconv.model import ATTRIBUTES, Event, Metric, own, size
from otel_oom.semconv.process import PROCESS_ATTRIBUTES

_before = len(ATTRIBUTES)

EXIT_CONFIRMED = own("oom.exit.confirmed", "boolean", "Whether the victim's exit was seen.")
EXIT_LATENCY = own("oom.exit.latency", "double", "From the mark to the exit.", "s")
CONSTRAINT = own(
    "oom.constraint",
    "string",
    "What was short: `memcg`, `none` (the whole host), `cpuset` or `memory_policy`.",
)
VICTIM_ANON = size("oom.victim.memory.anon", "At the mark: anonymous, resident.")
VICTIM_FILE = size("oom.victim.memory.file", "At the mark: mapped files, resident.")
VICTIM_SHMEM = size("oom.victim.memory.shmem", "At the mark: shared, resident.")
VICTIM_SWAP = size("oom.victim.memory.swap", "At the mark: swapped out.")
VICTIM_PAGE_TABLES = size("oom.victim.memory.page_tables", "At the mark.")
VICTIM_VIRTUAL = size("oom.victim.memory.virtual", "At the mark: address space.")
VICTIM_SCORE_ADJ = own("oom.victim.score_adj", "int", "`oom_score_adj`, -1000 to 1000.")
VICTIM_SCORE = own("oom.victim.score", "int", "The kernel's points of the chosen victim, in pages.")
TRIGGER_PID = own("oom.trigger.process.pid", "int", "Who asked for the memory.")
TRIGGER_NAME = own("oom.trigger.process.executable.name", "string", "Who asked: comm.")
TRIGGER_CGROUP = own("oom.trigger.cgroup", "string", "Who asked: path of its memory cgroup.")
TRIGGER_IS_VICTIM = own("oom.trigger.is_victim", "boolean", "Whether they are one process.")
TRIGGER_IS_KERNEL = own(
    "oom.trigger.is_kernel_thread", "boolean", "Only if true: a kernel thread asked."
)
INIT_PID = own(
    "oom.init.process.pid", "int", "PID 1 of the victim's container, if that is another process."
)
INIT_NAME = own("oom.init.process.executable.name", "string", "PID 1 of the container: comm.")
INIT_COMMAND_ARGS = own(
    "oom.init.process.command_args", "string[]", "PID 1 of the container: its command line."
)
LIMIT_CGROUP = own(
    "oom.limit.cgroup",
    "string",
    "The cgroup whose limit was hit; it may be an ancestor of the victim's.",
)
LIMIT_BYTES = size("oom.limit.bytes", "That limit.")
LIMIT_USAGE = size("oom.limit.usage", "Memory charged under it at the mark.")
LIMIT_PEAK = size("oom.limit.peak", "The most it ever had.")
CGROUP_USAGE = size("oom.cgroup.usage", "Victim's cgroup at the mark.")
CGROUP_LIMIT = size("oom.cgroup.limit", "Victim's cgroup: its own limit, if set.")
CGROUP_ANON = size("oom.cgroup.memory.anon", "Victim's cgroup: anonymous.")
CGROUP_FILE = size("oom.cgroup.memory.file", "Victim's cgroup: page cache, shmem included.")
CGROUP_SHMEM = size("oom.cgroup.memory.shmem", "Victim's cgroup: tmpfs, shared.")
CGROUP_SLAB = size("oom.cgroup.memory.slab", "Victim's cgroup: kernel slab.")
CGROUP_KERNEL_STACK = size("oom.cgroup.memory.kernel_stack", "Victim's cgroup.")
CGROUP_PAGE_TABLES = size("oom.cgroup.memory.page_tables", "Victim's cgroup.")
CGROUP_KILL_COUNT = own(
    "oom.cgroup.kill_count",
    "int",
    "The kernel's own count of kills in the victim's cgroup after this one.",
)
ALLOCATION_ORDER = own("oom.allocation.order", "int", "log2 of the pages asked for; -1: sysrq.")
ALLOCATION_GFP = own("oom.allocation.gfp_flags", "string", "The kernel's gfp mask, in hex.")
GROUP = own("oom.group", "boolean", "Whether `memory.oom.group` made it kill a whole cgroup.")
EPISODE_ID = own("oom.episode.id", "string", "One decision of the kernel.")
EPISODE_ROLE = own("oom.episode.role", "string", "`primary`, `group_member`, `already_dying`.")
EPISODE_KILLS = own("oom.episode.kills", "int", "Processes killed by that decision so far.")
PROCESSES = own(
    "oom.processes",
    "map[]",
    "The tree: `{pid, parent_pid, name, memory, role}`; role is `victim`, `trigger`, "
    "`ancestor`, `container_init`, `trigger_ancestor` or `sibling`; memory is resident bytes.",
)
CAPTURE_MODE = own("oom.capture.mode", "string", "`core`, `bcc`, `kmsg` or `counter`.")
MISSING = own(
    "oom.missing",
    "string[]",
    "What could not be had, each `name: reason`; a name may stand for several, as in "
    "`oom.psi.*` and `oom.cgroup.memory.{slab,page_tables}`.",
)
MISSED_COUNT = own(
    "oom.missed.count", "int", "Kills that only the kernel's counters tell of (`counter`)."
)
MISSED_REASON = own(
    "oom.missed.reason",
    "string",
    "`ring_overflow`, `log_overflow`, `agent_down`, `not_seen` or `counter_mode`: why there is "
    "no record of each.",
)
PSI_SOME = own(
    "oom.psi.some.avg10", "double", "Memory pressure of the limit's cgroup: some stalled.", "%"
)
PSI_FULL = own(
    "oom.psi.full.avg10", "double", "Memory pressure of the limit's cgroup: all stalled.", "%"
)
HOST_PSI_SOME = own(
    "linux.psi.memory.some.avg10", "double", "Memory pressure of the host: some stalled.", "%"
)
HOST_PSI_FULL = own(
    "linux.psi.memory.full.avg10", "double", "Memory pressure of the host: all stalled.", "%"
)

OOM_ATTRIBUTES = (*PROCESS_ATTRIBUTES, *tuple(ATTRIBUTES)[_before:])
"""What a kill has."""

EVENT_OOM_KILL = "oom.kill"
SPAN_OOM_KILL = "oom.kill"
METRIC_OOM_KILLS = Metric(
    "oom.kills", "monotonic sum", "{kill}", "Processes that the kernel killed for memory."
)
SPAN_EVENTS = (
    Event("marked", "The kernel chose the process."),
    Event("signal_delivered", "SIGKILL reached it."),
    Event("exited", "Its last thread is gone."),
)
