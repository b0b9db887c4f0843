"""Names of storage operations."""

from __future__ import annotations

import enum

from otel_oom.semconv.model import ATTRIBUTES, Event, Metric, Stability, conventional, own, size
from otel_oom.semconv.process import (
    LOG_RECORD_UID,
    PROCESS_EXECUTABLE_NAME,
    PROCESS_LINUX_CGROUP,
    PROCESS_PID,
)

DEV, STABLE = Stability.DEVELOPMENT, Stability.STABLE
_before = len(ATTRIBUTES)


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


SYSTEM_DEVICE = conventional(
    "system.device", "string", "Name of the block device, as in /dev: `nvme0n1`, `dm-0`.", DEV
)
DISK_IO_DIRECTION = conventional(
    "disk.io.direction", "string", "`read` or `write`; not there for what is neither.", DEV
)
FILE_PATH = conventional("file.path", "string", "The file, where its path can be had.", DEV)
FILE_INODE = conventional("file.inode", "string", "The file's inode number.", DEV)
FILESYSTEM_TYPE = conventional("system.filesystem.type", "string", "The file's filesystem.", DEV)
ERROR_TYPE = conventional(
    "error.type", "string", "How the operation failed, as the kernel names the error.", STABLE
)
METRIC_OVERFLOW = conventional(
    "otel.metric.overflow",
    "boolean",
    "True on the series that has everything beyond `max_series`.",
    DEV,
)
OPERATION = own(
    "storage.operation",
    "string",
    "`read`, `write`, `fsync`, `fdatasync`, `submit`, `flush`, `discard` and so on.",
)
LAYER = own("storage.layer", "string", f"One of {', '.join(f'`{layer}`' for layer in Layer)}.")
DELAY_LAYER = own("storage.delay.layer", "string", "The verdict: the layer of the longest gap.")
DELAY_FROM = own("storage.delay.from", "string", "The stage at which the longest gap begins.")
DELAY_TO = own("storage.delay.to", "string", "The stage at which it ends.")
DELAY_GAP = own("storage.delay.gap", "double", "How long it is.", "s")
DELAY_SHARE = own("storage.delay.share", "double", "Its share of the whole, 0 to 1.", "1")
THRESHOLD = own(
    "storage.threshold", "string", "The one that was exceeded: `stage`, or `total`, which wins."
)
STAGES = own(
    "storage.stages",
    "map[]",
    "On the log: each stage as `{name, layer, offset}`, offset in seconds from the start.",
)
STORAGE_BYTES = size("storage.bytes", "Bytes moved.")
STORAGE_REQUESTS = own("storage.requests", "int", "Block requests that the operation waited for.")
STORAGE_MERGED = own(
    "storage.merged",
    "boolean",
    "Whether the block request serves several submitters, of whom the first is named.",
)
STORAGE_FLAGS = own(
    "storage.flags",
    "string[]",
    "Of the block request: `sync`, `meta`, `fua`, `preflush`, `readahead`, `background`. Of an "
    "operation: `asynchronous`, if a call submitted it and did not wait for it.",
)
STORAGE_SECTOR = own(
    "storage.sector", "int", "Of the block request: its first sector of 512 bytes."
)
ATTRIBUTION = own(
    "storage.attribution",
    "string",
    "How it is known who asked: `task` (its own system call), `inode` (owner of the file that is "
    "written back) or `cgroup` (whom the kernel accounts the block request to).",
)
STORAGE_CGROUP_ID = own(
    "storage.cgroup.id",
    "int",
    "On the resource, in place of the path where that is not known: the kernel's id.",
)
RECLAIM_DURATION = own(
    "storage.reclaim.duration", "double", "Within the operation: in direct reclaim of memory.", "s"
)
OVERLAP = own(
    "storage.overlap",
    "string",
    "On a link: what it leads to. `oom.kill`: the operation overlaps it in time in the same "
    "cgroup; `submitter`: the call that submitted this asynchronous operation.",
)
STORAGE_MISSING = own("storage.missing", "string[]", "What could not be had, each `name: reason`.")

STORAGE_ATTRIBUTES = (
    LOG_RECORD_UID,
    PROCESS_PID,
    PROCESS_EXECUTABLE_NAME,
    PROCESS_LINUX_CGROUP,
    *tuple(ATTRIBUTES)[_before:],
)
"""What storage operations have: on log records, spans, or metrics."""

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
