"""Every name that the agent's telemetry uses: type, unit, stability and meaning, once.

Names of the OpenTelemetry semantic conventions (1.44) where one exists; our own in `oom.*`,
`storage.*` and `linux.psi.*` where none does. The tables in docs/ are made from this module,
and a test holds what is emitted against it.
"""

from __future__ import annotations

import dataclasses
import enum

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
"""The schema of the conventional names; set on every scope."""

SCOPE_OOM = "otel_oom.receivers.oom"
SCOPE_STORAGE = "otel_oom.receivers.storage"


class Stability(enum.StrEnum):
    """As the semantic conventions grade names."""

    DEVELOPMENT = "development"
    RELEASE_CANDIDATE = "release_candidate"
    STABLE = "stable"


class Layer(enum.StrEnum):
    """The layers of the storage stack, from the top; `memory` is a delay for want of it."""

    SYSCALL = "syscall"
    PAGE_CACHE = "page_cache"
    FILESYSTEM = "filesystem"
    JOURNAL = "journal"
    BLOCK_QUEUE = "block_queue"
    SCHEDULER = "scheduler"
    DEVICE = "device"
    WAKEUP = "wakeup"
    MEMORY = "memory"


@dataclasses.dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute. `type` is OTLP's: string, int, double, boolean, string[], map[]."""

    key: str
    type: str
    brief: str
    unit: str = ""
    stability: Stability = Stability.DEVELOPMENT
    conventional: bool = False

    def __str__(self) -> str:
        return self.key


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """A log record's `EventName`, or a span's name."""

    name: str
    brief: str


@dataclasses.dataclass(frozen=True, slots=True)
class Metric:
    """One metric."""

    name: str
    instrument: str
    unit: str
    brief: str


ATTRIBUTES: dict[str, Attribute] = {}
"""All attributes by key, in the order of the tables."""


def _own(key: str, of: str, brief: str, unit: str = "") -> str:
    ATTRIBUTES[key] = Attribute(key, of, brief, unit)
    return key


def _size(key: str, brief: str) -> str:
    return _own(key, "int", brief, "By")


def _conventional(key: str, of: str, brief: str, stability: Stability) -> str:
    ATTRIBUTES[key] = Attribute(key, of, brief, "", stability, conventional=True)
    return key


_RC, _DEV = Stability.RELEASE_CANDIDATE, Stability.DEVELOPMENT
_STABLE = Stability.STABLE

LOG_RECORD_UID = _conventional(
    "log.record.uid", "string", "Unique to the record: a backend drops a duplicate by it.", _DEV
)

PROCESS_PID = _conventional(
    "process.pid",
    "int",
    "Victim, or who asked for the operation: thread-group id in the initial PID namespace.",
    _RC,
)
PROCESS_VPID = _conventional("process.vpid", "int", "Victim: in its own PID namespace.", _RC)
PROCESS_PARENT_PID = _conventional("process.parent_pid", "int", "Victim's parent.", _RC)
PROCESS_EXECUTABLE_NAME = _conventional(
    "process.executable.name",
    "string",
    "Victim, or who asked for the operation: the kernel's name of the process (comm).",
    _RC,
)
PROCESS_COMMAND_ARGS = _conventional(
    "process.command_args",
    "string[]",
    "Victim: its command line, read in its own context as its SIGKILL arrived.",
    _RC,
)
PROCESS_CREATION_TIME = _conventional(
    "process.creation.time", "string", "Victim: start, ISO 8601 in UTC.", _RC
)
PROCESS_USER_ID = _conventional("process.user.id", "int", "Victim: real user id.", _RC)
PROCESS_LINUX_CGROUP = _conventional(
    "process.linux.cgroup",
    "string",
    "Victim: path of its memory cgroup. Storage: path of the cgroup that the kernel accounts the "
    "operation to, on the resource.",
    _RC,
)
PROCESS_EXIT_CODE = _conventional(
    "process.exit.code", "int", "Victim: 128 + signal, as shells and runtimes print it.", _RC
)

EXIT_CONFIRMED = _own("oom.exit.confirmed", "boolean", "Whether the victim's exit was seen.")
EXIT_LATENCY = _own("oom.exit.latency", "double", "From the mark to the exit.", "s")
CONSTRAINT = _own(
    "oom.constraint",
    "string",
    "What was short: `memcg`, `none` (the whole host), `cpuset` or `memory_policy`.",
)
VICTIM_ANON = _size("oom.victim.memory.anon", "At the mark: anonymous, resident.")
VICTIM_FILE = _size("oom.victim.memory.file", "At the mark: mapped files, resident.")
VICTIM_SHMEM = _size("oom.victim.memory.shmem", "At the mark: shared, resident.")
VICTIM_SWAP = _size("oom.victim.memory.swap", "At the mark: swapped out.")
VICTIM_PAGE_TABLES = _size("oom.victim.memory.page_tables", "At the mark.")
VICTIM_VIRTUAL = _size("oom.victim.memory.virtual", "At the mark: address space.")
VICTIM_SCORE_ADJ = _own("oom.victim.score_adj", "int", "`oom_score_adj`, -1000 to 1000.")
VICTIM_SCORE = _own(
    "oom.victim.score", "int", "The kernel's points of the chosen victim, in pages."
)
TRIGGER_PID = _own("oom.trigger.process.pid", "int", "Who asked for the memory.")
TRIGGER_NAME = _own("oom.trigger.process.executable.name", "string", "Who asked: comm.")
TRIGGER_CGROUP = _own("oom.trigger.cgroup", "string", "Who asked: path of its memory cgroup.")
TRIGGER_IS_VICTIM = _own("oom.trigger.is_victim", "boolean", "Whether they are one process.")
TRIGGER_IS_KERNEL = _own(
    "oom.trigger.is_kernel_thread", "boolean", "Only if true: a kernel thread asked."
)
LIMIT_CGROUP = _own(
    "oom.limit.cgroup",
    "string",
    "The cgroup whose limit was hit; it may be an ancestor of the victim's.",
)
LIMIT_BYTES = _size("oom.limit.bytes", "That limit.")
LIMIT_USAGE = _size("oom.limit.usage", "Memory charged under it at the mark.")
LIMIT_PEAK = _size("oom.limit.peak", "The most it ever had.")
CGROUP_USAGE = _size("oom.cgroup.usage", "Victim's cgroup at the mark.")
CGROUP_LIMIT = _size("oom.cgroup.limit", "Victim's cgroup: its own limit, if set.")
CGROUP_ANON = _size("oom.cgroup.memory.anon", "Victim's cgroup: anonymous.")
CGROUP_FILE = _size("oom.cgroup.memory.file", "Victim's cgroup: page cache, shmem included.")
CGROUP_SHMEM = _size("oom.cgroup.memory.shmem", "Victim's cgroup: tmpfs, shared.")
CGROUP_SLAB = _size("oom.cgroup.memory.slab", "Victim's cgroup: kernel slab.")
CGROUP_KERNEL_STACK = _size("oom.cgroup.memory.kernel_stack", "Victim's cgroup.")
CGROUP_PAGE_TABLES = _size("oom.cgroup.memory.page_tables", "Victim's cgroup.")
CGROUP_KILL_COUNT = _own(
    "oom.cgroup.kill_count",
    "int",
    "The kernel's own count of kills in the victim's cgroup after this one.",
)
ALLOCATION_ORDER = _own("oom.allocation.order", "int", "log2 of the pages asked for; -1: sysrq.")
ALLOCATION_GFP = _own("oom.allocation.gfp_flags", "string", "The kernel's gfp mask, in hex.")
GROUP = _own("oom.group", "boolean", "Whether `memory.oom.group` made it kill a whole cgroup.")
EPISODE_ID = _own("oom.episode.id", "string", "One decision of the kernel.")
EPISODE_ROLE = _own("oom.episode.role", "string", "`primary`, `group_member`, `already_dying`.")
EPISODE_KILLS = _own("oom.episode.kills", "int", "Processes killed by that decision so far.")
PROCESSES = _own(
    "oom.processes",
    "map[]",
    "The tree: `{pid, parent_pid, name, memory, role}`; role is `victim`, `trigger`, "
    "`ancestor`, `trigger_ancestor` or `sibling`; memory is resident bytes.",
)
CAPTURE_MODE = _own("oom.capture.mode", "string", "`core`, `bcc`, `kmsg` or `counter`.")
MISSING = _own(
    "oom.missing",
    "string[]",
    "What could not be had, each `name: reason`; a name may stand for several, as in "
    "`oom.psi.*` and `oom.cgroup.memory.{slab,page_tables}`.",
)
MISSED_COUNT = _own(
    "oom.missed.count", "int", "Kills that only the kernel's counters tell of (`counter`)."
)
MISSED_REASON = _own(
    "oom.missed.reason",
    "string",
    "`ring_overflow`, `agent_down` or `not_seen`: why there is no record of each.",
)
PSI_SOME = _own(
    "oom.psi.some.avg10", "double", "Memory pressure of the limit's cgroup: some stalled.", "%"
)
PSI_FULL = _own(
    "oom.psi.full.avg10", "double", "Memory pressure of the limit's cgroup: all stalled.", "%"
)
HOST_PSI_SOME = _own(
    "linux.psi.memory.some.avg10", "double", "Memory pressure of the host: some stalled.", "%"
)
HOST_PSI_FULL = _own(
    "linux.psi.memory.full.avg10", "double", "Memory pressure of the host: all stalled.", "%"
)

OOM_ATTRIBUTES = tuple(ATTRIBUTES)
"""What a kill has."""

SYSTEM_DEVICE = _conventional(
    "system.device", "string", "Name of the block device, as in /dev: `nvme0n1`, `dm-0`.", _DEV
)
DISK_IO_DIRECTION = _conventional(
    "disk.io.direction", "string", "`read` or `write`; not there for what is neither.", _DEV
)
FILE_PATH = _conventional("file.path", "string", "The file, where its path can be had.", _DEV)
FILE_INODE = _conventional("file.inode", "string", "The file's inode number.", _DEV)
FILESYSTEM_TYPE = _conventional("system.filesystem.type", "string", "The file's filesystem.", _DEV)
ERROR_TYPE = _conventional(
    "error.type", "string", "How the operation failed, as the kernel names the error.", _STABLE
)
METRIC_OVERFLOW = _conventional(
    "otel.metric.overflow",
    "boolean",
    "True on the series that has everything beyond `max_series`.",
    _DEV,
)
OPERATION = _own(
    "storage.operation",
    "string",
    "`read`, `write`, `fsync`, `fdatasync`, `submit`, `flush`, `discard` and so on.",
)
LAYER = _own("storage.layer", "string", f"One of {', '.join(f'`{layer}`' for layer in Layer)}.")
DELAY_LAYER = _own("storage.delay.layer", "string", "The verdict: the layer of the longest gap.")
DELAY_FROM = _own("storage.delay.from", "string", "The stage at which the longest gap begins.")
DELAY_TO = _own("storage.delay.to", "string", "The stage at which it ends.")
DELAY_GAP = _own("storage.delay.gap", "double", "How long it is.", "s")
DELAY_SHARE = _own("storage.delay.share", "double", "Its share of the whole, 0 to 1.", "1")
THRESHOLD = _own(
    "storage.threshold", "string", "The one that was exceeded: `stage`, or `total`, which wins."
)
STAGES = _own(
    "storage.stages",
    "map[]",
    "On the log: each stage as `{name, layer, offset}`, offset in seconds from the start.",
)
STORAGE_BYTES = _size("storage.bytes", "Bytes moved.")
STORAGE_REQUESTS = _own("storage.requests", "int", "Block requests that the operation waited for.")
STORAGE_MERGED = _own(
    "storage.merged",
    "boolean",
    "Whether the block request serves several submitters, of whom the first is named.",
)
STORAGE_FLAGS = _own(
    "storage.flags",
    "string[]",
    "Of the block request: `sync`, `meta`, `fua`, `preflush`, `readahead`, `background`. Of an "
    "operation: `asynchronous`, if a call submitted it and did not wait for it.",
)
STORAGE_SECTOR = _own(
    "storage.sector", "int", "Of the block request: its first sector of 512 bytes."
)
ATTRIBUTION = _own(
    "storage.attribution",
    "string",
    "How it is known who asked: `task` (its own system call), `inode` (owner of the file that is "
    "written back) or `cgroup` (whom the kernel accounts the block request to).",
)
STORAGE_CGROUP_ID = _own(
    "storage.cgroup.id",
    "int",
    "On the resource, in place of the path where that is not known: the kernel's id.",
)
RECLAIM_DURATION = _own(
    "storage.reclaim.duration", "double", "Within the operation: in direct reclaim of memory.", "s"
)
OVERLAP = _own(
    "storage.overlap",
    "string",
    "On a link: what it leads to. `oom.kill`: the operation overlaps it in time in the same "
    "cgroup; `submitter`: the call that submitted this asynchronous operation.",
)
STORAGE_MISSING = _own("storage.missing", "string[]", "What could not be had, each `name: reason`.")

STORAGE_ATTRIBUTES = (
    LOG_RECORD_UID,
    PROCESS_PID,
    PROCESS_EXECUTABLE_NAME,
    PROCESS_LINUX_CGROUP,
    *tuple(ATTRIBUTES)[len(OOM_ATTRIBUTES) :],
)
"""What storage operations have: on log records, spans, or metrics."""

EVENT_OOM_KILL = "oom.kill"
SPAN_OOM_KILL = "oom.kill"
METRIC_OOM_KILLS = Metric(
    "oom.kills", "monotonic sum", "{kill}", "Processes that the kernel killed for memory."
)

EVENT_SLOW_OPERATION = "storage.slow_operation"
SPAN_STORAGE_PREFIX = "storage."
"""Before the operation: `storage.fsync`."""

METRIC_OPERATION_DURATION = Metric(
    "storage.operation.duration",
    "exponential histogram",
    "s",
    "From the system call to its return; of an asynchronous operation from its queue to its end.",
)
METRIC_QUEUE_DURATION = Metric(
    "storage.block.queue.duration",
    "exponential histogram",
    "s",
    "Block requests: from their start to their issue to the driver.",
)
METRIC_DEVICE_DURATION = Metric(
    "storage.block.device.duration",
    "exponential histogram",
    "s",
    "Block requests: from their issue to the driver to their completion.",
)
METRIC_OPERATION_ERRORS = Metric(
    "storage.operation.errors", "monotonic sum", "{operation}", "Operations that failed."
)

EVENTS = (
    Event(EVENT_OOM_KILL, "The kernel killed a process for memory. Severity ERROR."),
    Event(EVENT_SLOW_OPERATION, "A storage operation was slow. Severity WARN."),
)
SPAN_EVENTS = (
    Event("marked", "The kernel chose the process."),
    Event("signal_delivered", "SIGKILL reached it."),
    Event("exited", "Its last thread is gone."),
)
STAGES_OF_REQUEST = (
    Event("block.started", "The block layer made the request. Layer `block_queue`."),
    Event("block.issued", "It was given to the driver. Layer `block_queue`."),
    Event("block.completed", "The driver said that it is done. Layer `device`."),
)
"""Span events of a block request; `storage.layer` is the layer of the gap that ends there."""

STAGE_ENTER = "syscall.enter"
STAGE_EXIT = "syscall.exit"
STAGE_CACHE_MISS = "cache.miss"
STAGE_FS_ENTER = "fs.enter"
STAGE_FS_EXIT = "fs.exit"
STAGE_WRITEBACK = "writeback.start"
STAGE_WRITEBACK_END = "writeback.end"
STAGE_LOG_FORCE = "log.force"
STAGE_SLEEP = "wait.sleep"
STAGE_SLEEP_COMMIT = "wait.commit"
STAGE_SLEEP_THROTTLED = "wait.throttled"
STAGE_SLEEP_RECLAIM = "wait.reclaim"
STAGE_PREEMPTED = "wait.preempted"
STAGE_WOKEN = "wait.woken"
STAGE_RUN = "wait.run"
STAGE_QUEUED = "block.queued"
STAGE_STARTED = "block.started"
STAGE_ISSUED = "block.issued"
STAGE_COMPLETED = "block.completed"
STAGE_COMMIT = "journal.commit"
STAGE_COMMIT_LOCKING = "journal.locking"
STAGE_COMMIT_FLUSHING = "journal.flushing"
STAGE_COMMIT_LOGGING = "journal.logging"
STAGE_COMMIT_END = "journal.committed"
STAGE_COMMIT_SLEEP = "journal.sleep"
STAGE_COMMIT_WOKEN = "journal.woken"
STAGE_COMMIT_RUN = "journal.run"
STAGES_OF_CALL = (
    Event(STAGE_ENTER, "The system call begins."),
    Event(STAGE_CACHE_MISS, "A page that it needs was not in the page cache, and was added."),
    Event(STAGE_FS_ENTER, "The filesystem's own fsync begins."),
    Event(STAGE_WRITEBACK, "The caller begins to write its file's dirty pages back."),
    Event(STAGE_WRITEBACK_END, "It has submitted them all."),
    Event(STAGE_LOG_FORCE, "xfs: it asks for the log to be written."),
    Event(
        STAGE_QUEUED,
        "The last block I/O that the task queued before it slept; or an asynchronous one.",
    ),
    Event(STAGE_STARTED, "The block layer made the request that the task waits for."),
    Event(STAGE_ISSUED, "The request was given to the driver."),
    Event(STAGE_COMPLETED, "The driver said that the request is done."),
    Event(STAGE_SLEEP, "The task leaves the CPU: for a request, a lock, another task."),
    Event(STAGE_SLEEP_COMMIT, "The task leaves the CPU: for a commit of the journal."),
    Event(STAGE_SLEEP_THROTTLED, "The task leaves the CPU: there are too many dirty pages."),
    Event(STAGE_SLEEP_RECLAIM, "The task leaves the CPU within direct reclaim of memory."),
    Event(STAGE_PREEMPTED, "The task leaves the CPU to another; it could go on."),
    Event(STAGE_COMMIT, "The journal's thread begins the commit."),
    Event(STAGE_COMMIT_LOCKING, "It waits for those who still change the transaction."),
    Event(STAGE_COMMIT_FLUSHING, "It writes the data that must be there before."),
    Event(STAGE_COMMIT_LOGGING, "It writes the metadata's log, and at last the commit record."),
    Event(STAGE_COMMIT_SLEEP, "It leaves the CPU."),
    Event(STAGE_COMMIT_WOKEN, "It is woken."),
    Event(STAGE_COMMIT_RUN, "It runs again."),
    Event(STAGE_COMMIT_END, "The commit is over."),
    Event(STAGE_WOKEN, "The task is woken: it could run."),
    Event(STAGE_RUN, "The task runs again."),
    Event(STAGE_FS_EXIT, "The filesystem's own fsync is over."),
    Event(STAGE_EXIT, "The system call returns."),
)
"""Span events of a system call, and of the commit of a journal that it waited for."""

METRICS = (
    METRIC_OOM_KILLS,
    METRIC_OPERATION_DURATION,
    METRIC_QUEUE_DURATION,
    METRIC_DEVICE_DURATION,
    METRIC_OPERATION_ERRORS,
)
