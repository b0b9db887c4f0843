"""docs/telemetry.md: every name that the agent emits, from `semconv` and from the accounting.

The agent's own metrics have no list in the code: components count under a literal name. Those
names are found in the source, put through the real accounting, and shown as they come out; a
name without a meaning here, or a meaning without a name, is an error.
"""

from __future__ import annotations

import ast
import pathlib
from collections.abc import Iterable, Iterator

from otel_oom import semconv
from otel_oom.pipeline import accounting, measures
from otel_oom.pipeline.data import Signal

_OWN_METRICS = {
    "receiver_accepted_log_records": "Items that a receiver made.",
    "exporter_sent_log_records": "Items that a destination said it has.",
    "exporter_send_failed_log_records": "Items that a destination refused, or that an exporter "
    "gave up.",
    "exporter_enqueue_failed_log_records": "Items that a full sending queue refused.",
    "exporter_queue_size": "What waits and what is being sent, in the unit of `sizer`.",
    "exporter_queue_capacity": "Room of the sending queue.",
    "exporter_queue_requests": "Requests of one weight that the queue holds.",
    "exporter_queue_items": "Items in them.",
    "exporter_queue_bytes": "Bytes of encoded OTLP in them.",
    "exporter_queue_oldest_s": "Age of the oldest of them; only of a queue with `storage`.",
    "processor_memory_limiter_refused_log_records": "Items refused above the memory limit.",
    "k8s_resources_matched": "Resources whose container, or whose pod, was found.",
    "k8s_resources_missed": "Resources that were not matched, or to a pod alone; `k8s.miss` "
    "on each says why.",
    "k8s_late_items": "Items that waited for their pod to become known.",
    "k8s_hold_full_items": "Items that should have waited, and found no room.",
    "k8s_pods": "Pods in the index, those that are gone for a short time included.",
    "k8s_containers": "Ids of containers in the index.",
    "k8s_evicted": "Pods and owners that were forgotten before their time, for want of room.",
    "k8s_requests": "Questions to the API server or the kubelet.",
    "k8s_changes": "Changes that a watch told, or a poll.",
    "k8s_errors": "Questions that failed, and objects that could not be read.",
    "rejected": "Items refused for good by a destination (partial success included).",
    "dropped": "Items given up by the agent, by `reason`.",
    "held": "Items on their way now: in a queue, a batch, an outbox.",
    "kernel_lost": "Ring records that found no room, runs of our programs that the kernel skipped, "
    "and what else the receiver had no room for.",
    "oom_reconcile_difference": "Kills that the identities cannot explain. Positive: the kernel "
    "counted them and we did not see them. Negative: a bug of ours.",
    "event_loop_lag_s": "How late the event loop ran a timer: the worst of the last minute.",
    "process_uptime": "Time since the start.",
    "process_cpu_seconds": "CPU time, user and system.",
    "process_memory_rss": "Resident memory.",
}

_OF_NO_COMPONENT = {"event_loop_lag_s"}

_HEAD = """
# Telemetry

What the agent emits. A name of the OpenTelemetry semantic conventions is used where one exists
(*conventional*); our own names are in `oom.*`, `storage.*` and `linux.psi.*`. Sizes are bytes,
durations are seconds, pids are of the initial PID namespace. The schema URL on every scope is
<{schema}>, the scope's name is `{oom}` or `{storage}`.

What could not be had is not there, and `oom.missing` or `storage.missing` says why. See
[oom.md](oom.md).
"""

_SPAN = (
    "`{span}`, kind INTERNAL: from the mark to the exit. The log record of the same kill has its "
    "ids. Status ERROR if the victim does not exit within `settle_exit`."
)
_STORAGE_SPAN = (
    "`{prefix}` and the operation, as in `{prefix}fsync`, kind INTERNAL: one for each slow or "
    "sampled operation, from its first stage to its last. Each stage is a span event that has "
    "`{layer}`, the layer of the gap that ends there. The log record of the same operation has "
    "its ids and all its stages in `{stages}`. Status ERROR if the operation failed."
)
_STORAGE_METRICS = (
    "The histograms are cumulative, of scale 3: eight buckets for each doubling, so a bucket is "
    "9 % wide. What is shorter than 2^-22 s (0.24 µs) is in the zero bucket. Their attributes are "
    "`{operation}`, `{device}` and `{direction}`, those of the errors also `{error}`; the workload "
    "is on the resource, as `{cgroup}`. Exemplars point at slow spans."
)
_COLUMNS = ("attribute", "type", "unit", "stability", "meaning")
_SELF = (
    "At `/telemetry` of the [health_check](components/extensions/health_check.md) extension, and "
    "as OTLP metrics if `service.telemetry.metrics.endpoint` is given. Where a name ends in "
    "`_log_records`, there are also `_spans` and `_metric_points`. `dropped`, `rejected` and "
    "`held` are the right side of the sum that [must close](architecture.md#accounting)."
)


def page() -> str:
    """The whole page, without the line that says it is generated."""
    parts = [
        _HEAD.strip().format(
            schema=semconv.SCHEMA_URL, oom=semconv.SCOPE_OOM, storage=semconv.SCOPE_STORAGE
        ),
        "## Log records",
        _events(semconv.EVENTS, "`EventName`"),
        "## Spans",
        _SPAN.format(span=semconv.SPAN_OOM_KILL),
        _events(semconv.SPAN_EVENTS, "span event"),
        _STORAGE_SPAN.format(
            prefix=semconv.SPAN_STORAGE_PREFIX, layer=semconv.LAYER, stages=semconv.STAGES
        ),
        _events(semconv.STAGES_OF_CALL, "span event of a system call"),
        _events(semconv.STAGES_OF_REQUEST, "span event of a block request"),
        "## Metrics",
        table(
            ("name", "instrument", "unit", "meaning"),
            ((f"`{m.name}`", m.instrument, f"`{m.unit}`", m.brief) for m in semconv.METRICS),
        ),
        f"The one attribute of `{semconv.METRIC_OOM_KILLS.name}` is `{semconv.CONSTRAINT}`.",
        _STORAGE_METRICS.format(
            operation=semconv.OPERATION,
            device=semconv.SYSTEM_DEVICE,
            direction=semconv.DISK_IO_DIRECTION,
            error=semconv.ERROR_TYPE,
            cgroup=semconv.PROCESS_LINUX_CGROUP,
        ),
        "## Attributes of a kill",
        _attributes(semconv.OOM_ATTRIBUTES),
        "## Attributes of a storage operation",
        _attributes(semconv.STORAGE_ATTRIBUTES),
        "## Attributes of a container and its pod",
        "The processor `k8s_attributes` sets them: on the resource",
        _attributes(semconv.KUBERNETES_RESOURCE_ATTRIBUTES),
        "and on the record and the span of a kill.",
        _attributes(semconv.KUBERNETES_KILL_ATTRIBUTES),
        "## The agent about itself",
        _SELF,
        table(("name", "kind", "unit", "attributes", "meaning"), _own_metrics()),
    ]
    return "\n\n".join(parts)


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    head = list(head)
    return "\n".join(map(_row, [head, ["---"] * len(head), *rows]))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def counted_names(package: pathlib.Path) -> dict[str, bool]:
    """The literal names under which the source counts; True for a gauge's."""
    names = {}
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="count" | "_count" | "gauge" as method),
                    args=[ast.Constant(value=str(name)), _, _, *_],
                ):
                    names[name] = method == "gauge"
    return names


def _attributes(keys: Iterable[str]) -> str:
    return table(_COLUMNS, (_attribute(semconv.ATTRIBUTES[key]) for key in keys))


def _attribute(found: semconv.Attribute) -> tuple[str, ...]:
    origin = "conventional, " if found.conventional else ""
    unit = f"`{found.unit}`" if found.unit else ""
    stability = f"{origin}{found.stability.value.replace('_', ' ')}"
    return f"`{found.key}`", found.type, unit, stability, found.brief


def _events(events: Iterable[semconv.Event], kind: str) -> str:
    return table((kind, "meaning"), ((f"`{event.name}`", event.brief) for event in events))


def _own_metrics() -> Iterator[tuple[str, ...]]:
    found = {}
    for row in measures.measurements(_ledger()):
        keys = ", ".join(f"`{key}`" for key, _ in row.attributes)
        unit = f"`{row.unit}`" if row.unit != "1" else ""
        found[row.name.removeprefix("otel_oom_")] = f"`{row.name}`", row.kind, unit, keys
    if odd := found.keys() ^ _OWN_METRICS.keys():
        raise SystemExit(f"tools/docs_telemetry.py: not both emitted and explained: {sorted(odd)}")
    for name, meaning in _OWN_METRICS.items():
        yield *found[name], meaning


def _ledger() -> accounting.Ledger:
    """An accounting in which everything has happened once, to a log record."""
    ledger, signal = accounting.Ledger(), Signal.LOGS
    for count in (ledger.produced, ledger.delivered, ledger.rejected):
        count("id", signal, 1)
    ledger.dropped("id", signal, 1, "reason")
    ledger.hold("id", lambda of: int(of is signal))
    ledger.queue("id", lambda: {1: accounting.Depth(1, 1, 1, 1.0)})
    names = counted_names(pathlib.Path(measures.__file__).parents[1])
    for name, is_gauge in names.items():
        if is_gauge:
            ledger.gauge(name, "" if name in _OF_NO_COMPONENT else "id", lambda: 0.0)
        else:
            ledger.count(name, "id", signal, 1)
    return ledger
