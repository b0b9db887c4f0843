"""The attributes of a kill's log record in their wire form, each made in its cheapest way.

`FIELD[value]` keeps what it makes, for what comes again from kill to kill; `FIELD(value)` does
not, for what is each kill's own.
"""

from __future__ import annotations

from otel_oom import semconv
from otel_oom.pipeline.otlp import wire_values


def attributes(number: int) -> dict[str, wire_values.Attribute]:
    """Every attribute of `semconv`, for the field of this number in a message."""
    types = {key: attribute.type for key, attribute in semconv.ATTRIBUTES.items()}
    return wire_values.attributes(number, types)


BY_KEY = attributes(6)
"""Of a `LogRecord` (opentelemetry-proto, logs/v1/logs.proto)."""

# What comes again from kill to kill, by its value.
PARENT_PID = BY_KEY[semconv.PROCESS_PARENT_PID]
EXECUTABLE = BY_KEY[semconv.PROCESS_EXECUTABLE_NAME]
USER_ID = BY_KEY[semconv.PROCESS_USER_ID]
CGROUP = BY_KEY[semconv.PROCESS_LINUX_CGROUP]
EXIT_CONFIRMED = BY_KEY[semconv.EXIT_CONFIRMED]
EXIT_CODE = BY_KEY[semconv.PROCESS_EXIT_CODE]
FILE = BY_KEY[semconv.VICTIM_FILE]
SHMEM = BY_KEY[semconv.VICTIM_SHMEM]
SWAP = BY_KEY[semconv.VICTIM_SWAP]
PAGE_TABLES = BY_KEY[semconv.VICTIM_PAGE_TABLES]
SCORE_ADJ = BY_KEY[semconv.VICTIM_SCORE_ADJ]
TRIGGER_NAME = BY_KEY[semconv.TRIGGER_NAME]
TRIGGER_CGROUP = BY_KEY[semconv.TRIGGER_CGROUP]
TRIGGER_IS_VICTIM = BY_KEY[semconv.TRIGGER_IS_VICTIM]
TRIGGER_IS_KERNEL = BY_KEY[semconv.TRIGGER_IS_KERNEL]
CONSTRAINT = BY_KEY[semconv.CONSTRAINT]
LIMIT_CGROUP = BY_KEY[semconv.LIMIT_CGROUP]
LIMIT_BYTES = BY_KEY[semconv.LIMIT_BYTES]
LIMIT_USAGE = BY_KEY[semconv.LIMIT_USAGE]
LIMIT_PEAK = BY_KEY[semconv.LIMIT_PEAK]
OWN_USAGE = BY_KEY[semconv.CGROUP_USAGE]
OWN_LIMIT = BY_KEY[semconv.CGROUP_LIMIT]
OWN_KILL_COUNT = BY_KEY[semconv.CGROUP_KILL_COUNT]
ORDER = BY_KEY[semconv.ALLOCATION_ORDER]
GFP = BY_KEY[semconv.ALLOCATION_GFP]
GROUP = BY_KEY[semconv.GROUP]
EPISODE_ROLE = BY_KEY[semconv.EPISODE_ROLE]
EPISODE_KILLS = BY_KEY[semconv.EPISODE_KILLS]
MODE = BY_KEY[semconv.CAPTURE_MODE]
MISSING = BY_KEY[semconv.MISSING]

INIT_PID = BY_KEY[semconv.INIT_PID]
INIT_NAME = BY_KEY[semconv.INIT_NAME]
INIT_ARGS = BY_KEY[semconv.INIT_COMMAND_ARGS].of

# What is each kill's own.
PID = BY_KEY[semconv.PROCESS_PID].of
VPID = BY_KEY[semconv.PROCESS_VPID].of
CREATION_TIME = BY_KEY[semconv.PROCESS_CREATION_TIME].of
ARGS = BY_KEY[semconv.PROCESS_COMMAND_ARGS].of
EXIT_LATENCY = BY_KEY[semconv.EXIT_LATENCY].of
ANON = BY_KEY[semconv.VICTIM_ANON].of
VIRTUAL = BY_KEY[semconv.VICTIM_VIRTUAL].of
TRIGGER_PID = BY_KEY[semconv.TRIGGER_PID].of
SCORE = BY_KEY[semconv.VICTIM_SCORE].of
EPISODE_ID = BY_KEY[semconv.EPISODE_ID].of
PROCESSES = BY_KEY[semconv.PROCESSES].of
UID = BY_KEY[semconv.LOG_RECORD_UID].of
