"""The names that users' dashboards stand on: each has its type, and nothing else is emitted."""

from __future__ import annotations

import collections
from typing import Any

import pytest
from doubles import oom_ring

from otel_oom import semconv
from otel_oom.pipeline import otlp

PROMISED = {
    "process.pid": "int",
    "process.vpid": "int",
    "process.parent_pid": "int",
    "process.executable.name": "string",
    "process.command_args": "string[]",
    "process.creation.time": "string",
    "process.user.id": "int",
    "process.linux.cgroup": "string",
    "process.exit.code": "int",
    "oom.exit.confirmed": "boolean",
    "oom.exit.latency": "double",
    "oom.constraint": "string",
    "oom.victim.memory.anon": "int",
    "oom.victim.memory.file": "int",
    "oom.victim.memory.shmem": "int",
    "oom.victim.memory.swap": "int",
    "oom.victim.memory.page_tables": "int",
    "oom.victim.memory.virtual": "int",
    "oom.victim.score_adj": "int",
    "oom.victim.score": "int",
    "oom.trigger.process.pid": "int",
    "oom.trigger.process.executable.name": "string",
    "oom.trigger.cgroup": "string",
    "oom.trigger.is_victim": "boolean",
    "oom.limit.cgroup": "string",
    "oom.limit.bytes": "int",
    "oom.limit.usage": "int",
    "oom.limit.peak": "int",
    "oom.cgroup.usage": "int",
    "oom.cgroup.limit": "int",
    "oom.cgroup.memory.anon": "int",
    "oom.cgroup.memory.file": "int",
    "oom.cgroup.memory.shmem": "int",
    "oom.cgroup.memory.slab": "int",
    "oom.cgroup.memory.kernel_stack": "int",
    "oom.cgroup.memory.page_tables": "int",
    "oom.allocation.order": "int",
    "oom.allocation.gfp_flags": "string",
    "oom.group": "boolean",
    "oom.episode.id": "string",
    "oom.episode.role": "string",
    "oom.episode.kills": "int",
    "oom.cgroup.kill_count": "int",
    "oom.processes": "map[]",
    "oom.capture.mode": "string",
    "oom.missing": "string[]",
    "oom.missed.count": "int",
    "oom.psi.some.avg10": "double",
    "oom.psi.full.avg10": "double",
    "linux.psi.memory.some.avg10": "double",
    "linux.psi.memory.full.avg10": "double",
}
PROMISED_OF_STORAGE = {
    "process.pid": "int",
    "process.executable.name": "string",
    "process.linux.cgroup": "string",
    "disk.io.direction": "string",
    "system.device": "string",
    "system.filesystem.type": "string",
    "file.path": "string",
    "file.inode": "string",
    "error.type": "string",
    "storage.operation": "string",
    "storage.layer": "string",
    "storage.delay.layer": "string",
    "storage.delay.from": "string",
    "storage.delay.to": "string",
    "storage.delay.gap": "double",
    "storage.delay.share": "double",
    "storage.threshold": "string",
    "storage.bytes": "int",
    "storage.requests": "int",
    "storage.merged": "boolean",
    "storage.attribution": "string",
}
OURS_OF_KUBERNETES = {
    "k8s.match",
    "k8s.miss",
    "k8s.pod.qos_class",
    "k8s.pod.priority_class",
}
BYTES = ("memory.", "limit.bytes", "limit.usage", "limit.peak", "cgroup.usage", "cgroup.limit")
VARIANTS = oom_ring.variants()
NO_KERNELS = "numbers large"  # more than OTLP's 63 bits, which become text


@pytest.mark.parametrize("key", PROMISED)
def test_a_promised_attribute_has_its_type(key: str) -> None:
    assert semconv.ATTRIBUTES[key].type == PROMISED[key]
    assert key in semconv.OOM_ATTRIBUTES


@pytest.mark.parametrize("key", PROMISED_OF_STORAGE)
def test_a_promised_attribute_of_storage_has_its_type(key: str) -> None:
    assert semconv.ATTRIBUTES[key].type == PROMISED_OF_STORAGE[key]
    assert key in semconv.STORAGE_ATTRIBUTES


def test_every_attribute_is_of_a_receiver_or_of_kubernetes() -> None:
    of_receivers = {*semconv.OOM_ATTRIBUTES, *semconv.STORAGE_ATTRIBUTES}
    of_kubernetes = {
        *semconv.KUBERNETES_RESOURCE_ATTRIBUTES,
        *semconv.KUBERNETES_KILL_ATTRIBUTES,
    }
    assert of_receivers | of_kubernetes == set(semconv.ATTRIBUTES)
    assert not of_receivers & of_kubernetes


def test_sizes_are_in_bytes_and_durations_in_seconds() -> None:
    for key, attribute in semconv.ATTRIBUTES.items():
        is_size = key.startswith("oom.") and any(part in key for part in BYTES)
        assert (attribute.unit == "By") == (is_size or key == "storage.bytes"), key
    assert semconv.ATTRIBUTES["oom.exit.latency"].unit == "s"
    assert semconv.ATTRIBUTES["storage.delay.gap"].unit == "s"


def test_every_name_is_explained_and_in_a_namespace_that_is_ours_or_conventional() -> None:
    for key, attribute in semconv.ATTRIBUTES.items():
        assert attribute.key == key
        assert attribute.brief.endswith("."), key
        is_ours = key.startswith(("oom.", "linux.psi.", "storage.")) or key in OURS_OF_KUBERNETES
        assert is_ours != attribute.conventional, key


def test_names_are_unique() -> None:
    """No constant names what another names, and no two spellings fall together."""
    constants = [
        value
        for name, value in vars(semconv).items()
        if name.isupper() and isinstance(value, str) and value in semconv.ATTRIBUTES
    ]
    assert [key for key, count in collections.Counter(constants).items() if count > 1] == []
    assert sorted(constants) == sorted(semconv.ATTRIBUTES)
    folded = [key.replace("_", ".").lower() for key in semconv.ATTRIBUTES]
    assert len(set(folded)) == len(folded)


def test_no_name_is_the_namespace_of_another() -> None:
    """Backends that nest by dots could not hold both."""
    for key in semconv.ATTRIBUTES:
        assert not [other for other in semconv.ATTRIBUTES if other.startswith(f"{key}.")]


def test_events_and_metrics() -> None:
    assert semconv.EVENT_OOM_KILL == semconv.SPAN_OOM_KILL == "oom.kill"
    assert [event.name for event in semconv.SPAN_EVENTS] == ["marked", "signal_delivered", "exited"]
    assert semconv.EVENT_SLOW_OPERATION == "storage.slow_operation"
    assert {(metric.name, metric.unit) for metric in semconv.METRICS} == {
        ("oom.kills", "{kill}"),
        ("storage.operation.duration", "s"),
        ("storage.block.queue.duration", "s"),
        ("storage.block.device.duration", "s"),
        ("storage.operation.errors", "{operation}"),
    }


def type_of(value: Any) -> str:
    """A value's type, as semconv spells it."""
    if isinstance(value, list):
        inner = {type_of(each) for each in value}
        return "[]" if not inner else f"{inner.pop()}[]"
    names = {bool: "boolean", int: "int", float: "double", str: "string", dict: "map"}
    return names[type(value)]


def declared(key: str) -> set[str]:
    kind = semconv.ATTRIBUTES[key].type
    return {kind, "[]"} if kind.endswith("[]") else {kind}


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != NO_KERNELS])
def test_all_that_is_emitted_is_declared_with_the_type_that_it_has(name: str) -> None:
    ring, context = VARIANTS[name]
    encoder = oom_ring.encoder()
    kills = oom_ring.assembled(ring, context)
    logs = encoder.logs(kills, oom_ring.BOOT_TO_UNIX_NS, oom_ring.NOW_NS)
    spans = encoder.spans(kills, oom_ring.BOOT_TO_UNIX_NS)
    records = [r for g in logs.data.resource_logs for s in g.scope_logs for r in s.log_records]
    ended = [s for g in spans.data.resource_spans for scope in g.scope_spans for s in scope.spans]
    assert records
    assert len(records) == len(ended)
    for emitted in (*records, *ended):
        values = otlp.attributes(emitted.attributes)
        assert len(values) == len(emitted.attributes), "a key twice"
        for key, value in values.items():
            assert type_of(value) in declared(key), key


def test_the_captured_kill_has_what_every_kernel_gives() -> None:
    ring, _ = VARIANTS["captured"]
    logs = oom_ring.encoder().logs(oom_ring.assembled(ring), 0, 0)
    record = logs.data.resource_logs[0].scope_logs[0].log_records[0]
    values = otlp.attributes(record.attributes)
    missing = {line.partition(":")[0] for line in values["oom.missing"]}
    families = tuple(name.removesuffix("*").partition("{")[0] for name in missing)
    elsewhere = ("oom.missed.count", "oom.cgroup.limit")  # of counter records; only where it is set
    for key in PROMISED:
        assert key in values or key.startswith(families) or key in elsewhere, key
