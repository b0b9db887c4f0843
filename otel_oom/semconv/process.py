"""Names of a process and of a record: the victim, or who asked for an operation."""

from __future__ import annotations

from otel_oom.semconv.model import ATTRIBUTES, Stability, conventional

RC, DEV = Stability.RELEASE_CANDIDATE, Stability.DEVELOPMENT
_before = len(ATTRIBUTES)

LOG_RECORD_UID = conventional(
    "log.record.uid", "string", "Unique to the record: a backend drops a duplicate by it.", DEV
)

PROCESS_PID = conventional(
    "process.pid",
    "int",
    "Victim, or who asked for the operation: thread-group id in the initial PID namespace.",
    RC,
)
PROCESS_VPID = conventional("process.vpid", "int", "Victim: in its own PID namespace.", RC)
PROCESS_PARENT_PID = conventional("process.parent_pid", "int", "Victim's parent.", RC)
PROCESS_EXECUTABLE_NAME = conventional(
    "process.executable.name",
    "string",
    "Victim, or who asked for the operation: the kernel's name of the process (comm).",
    RC,
)
PROCESS_COMMAND_ARGS = conventional(
    "process.command_args",
    "string[]",
    "Victim: its command line, read in its own context as its SIGKILL arrived.",
    RC,
)
PROCESS_CREATION_TIME = conventional(
    "process.creation.time", "string", "Victim: start, ISO 8601 in UTC.", RC
)
PROCESS_USER_ID = conventional("process.user.id", "int", "Victim: real user id.", RC)
PROCESS_LINUX_CGROUP = conventional(
    "process.linux.cgroup",
    "string",
    "Victim: path of its memory cgroup. Storage: path of the cgroup that the kernel accounts the "
    "operation to, on the resource.",
    RC,
)
PROCESS_EXIT_CODE = conventional(
    "process.exit.code", "int", "Victim: 128 + signal, as shells and runtimes print it.", RC
)

ENVIRONMENT_PREFIX = "process.environment_variable."
"""Before the name of a variable."""

PROCESS_OTEL_SERVICE_NAME = conventional(
    f"{ENVIRONMENT_PREFIX}OTEL_SERVICE_NAME",
    "string",
    "Victim: this variable of its environment, if it was set and could be read.",
    DEV,
)
PROCESS_OTEL_RESOURCE_ATTRIBUTES = conventional(
    f"{ENVIRONMENT_PREFIX}OTEL_RESOURCE_ATTRIBUTES",
    "string",
    "Victim: this variable of its environment, if it was set and could be read.",
    DEV,
)

PROCESS_ATTRIBUTES = tuple(ATTRIBUTES)[_before:]
"""What a record says of a process, and of itself."""
