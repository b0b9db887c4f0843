"""Verdicts on real operations that are slow for a known reason: who is right, how often.

table = {name: storage_verdicts.of(name, count=20) for name in storage_verdicts.SCORED}
print(storage_verdicts.matrix(table))
"""

from __future__ import annotations

import collections
import os
import pathlib
import time
from collections.abc import Mapping

from doubles import storage_injections

from otel_oom import semconv
from otel_oom.receivers.storage import calls, devices, operations, records, timeline, verdict

_CALLS = {"fsync_entangled": "fsync", "buffered_write": "write"}

EFFECT_S = {
    "device_read": 0.015,
    "device_write": 0.015,
    "device_write_xfs": 0.015,
    "device_write_btrfs": 0.015,
    "device_flush": 0.02,
    "device_flush_in_journal": 0.02,
    "scheduler": 0.05,
    "tags": 0.01,
    "throttle_read": 0.05,
    "throttle_fsync": 0.05,
    "journal_locked": 0.03,
    "journal_ordered": 0.03,
    "dirty": 0.05,
    "reclaim": 0.05,
    "wakeup": 0.03,
}
"""An operation that is shorter was not delayed by the injection: of a throttle's slice, say."""

SCORED = tuple(EFFECT_S)
"""Injections of one layer alone.

`journal_storm` is none: of a storm's fsync the wait for an earlier commit and the flush in its
own are about as long.
"""

Verdicts = Mapping[str, int]
"""How many operations got each layer."""


def of(name: str, count: int) -> Verdicts:
    """Do the operation so many times under the injection; the verdicts on those it delayed."""
    injection = storage_injections.ALL[name]
    found: collections.Counter[str] = collections.Counter()
    running = operations.Operations(_settings(EFFECT_S[name]))
    disks = devices.Devices(pathlib.Path("/"))
    try:
        with injection.inject() as scene, scene.start(count) as task:
            running.drain()
            task.finish()
            time.sleep(0.05)
            call = calls.NAMES[_CALLS.get(scene.operation, scene.operation)]
            for operation in map(records.decode, running.drain()):
                is_delayed = operation.duration_ns >= EFFECT_S[name] * 1e9
                if operation.raw.tid == task.tid and operation.raw.call == call and is_delayed:
                    found[_layer(operation, disks)] += 1
    finally:
        running.close()
    return found


def _settings(least_s: float) -> operations.Settings:
    return operations.Settings(
        stage_s=least_s,
        total_s=least_s,
        sample=dict.fromkeys(calls.NAMES, 1),
        ring_bytes=1 << 22,
        max_series=1024,
    )


def _layer(operation: records.Operation, disks: devices.Devices) -> str:
    line = timeline.of(operation, disks.has_scheduler)
    judged = verdict.Judge(stage_ns=0, total_ns=0).judge(line)
    assert judged is not None
    return judged.layer


def right(table: Mapping[str, Verdicts]) -> tuple[int, int]:
    """How many verdicts are the injected layer, and how many there are."""
    hits = sum(found.get(storage_injections.ALL[name].layer, 0) for name, found in table.items())
    return hits, sum(sum(found.values()) for found in table.values())


def matrix(table: Mapping[str, Verdicts]) -> str:
    """The confusion matrix: a row an injected layer, a column a verdict; as Markdown."""
    layers = [str(layer) for layer in semconv.Layer]
    rows: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for name, found in table.items():
        rows[storage_injections.ALL[name].layer].update(found)
    seen = [layer for layer in layers if layer in rows or any(row[layer] for row in rows.values())]
    head = f"| injected | {' | '.join(seen)} | right |\n|{'---|' * (len(seen) + 2)}\n"
    return head + "\n".join(_row(layer, rows[layer], seen) for layer in seen if layer in rows)


def _row(layer: str, found: collections.Counter[str], columns: list[str]) -> str:
    cells = " | ".join(str(found[column] or "") for column in columns)
    return f"| {layer} | {cells} | {found[layer] / max(1, found.total()):.0%} |"


def load() -> float:
    """The machine's load average, which the verdicts have to stand."""
    return os.getloadavg()[0]
