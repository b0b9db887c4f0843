"""Every name that the agent's telemetry uses: type, unit, stability and meaning, once.

Names of the OpenTelemetry semantic conventions (1.44) where one exists; our own in `oom.*`,
`storage.*`, `linux.psi.*` and, few, in `k8s.*` where none does. A module a domain; the tables in
docs/ are made from them, and a test holds what is emitted against them.
"""

from __future__ import annotations

from otel_oom.semconv import model, oom, storage
from otel_oom.semconv.kubernetes import *  # noqa: F403
from otel_oom.semconv.model import *  # noqa: F403
from otel_oom.semconv.oom import *  # noqa: F403
from otel_oom.semconv.process import *  # noqa: F403
from otel_oom.semconv.storage import *  # noqa: F403

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
"""The schema of the conventional names; set on every scope."""

SCOPE_OOM = "otel_oom.receivers.oom"
SCOPE_STORAGE = "otel_oom.receivers.storage"

EVENTS = (
    model.Event(oom.EVENT_OOM_KILL, "The kernel killed a process for memory. Severity ERROR."),
    model.Event(storage.EVENT_SLOW_OPERATION, "A storage operation was slow. Severity WARN."),
)
METRICS = (
    oom.METRIC_OOM_KILLS,
    storage.METRIC_OPERATION_DURATION,
    storage.METRIC_QUEUE_DURATION,
    storage.METRIC_DEVICE_DURATION,
    storage.METRIC_OPERATION_ERRORS,
)
