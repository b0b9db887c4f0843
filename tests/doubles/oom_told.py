"""What the receiver `oom` tells of kills, as plain values, and what it is expected to tell.

`tests/data/oom_kills.json` has, for each of `oom_ring.variants()`, each kill's log record and
span: of the first variant all of it, of the others what differs from that. After a wanted
change, write it anew with `PYTHONPATH=tests python -m doubles.oom_told`, and read the diff.
"""

from __future__ import annotations

import json
import pathlib
from typing import Any

from doubles import oom_ring
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_oom.pipeline import otlp
from otel_oom.receivers.oom.context import Context

EXPECTED = pathlib.Path(__file__).resolve().parents[1] / "data" / "oom_kills.json"

Told = dict[str, Any]


def of(
    ring: list[bytes], context: Context | None = None, *, command_args: bool = True
) -> list[Told]:
    """The kills that ring records make, in the order of their marks."""
    kills = oom_ring.assembled(ring, context)
    encoder = oom_ring.encoder(command_args=command_args)
    logs = encoder.logs(kills, oom_ring.BOOT_TO_UNIX_NS, oom_ring.NOW_NS)
    spans = encoder.spans(kills, oom_ring.BOOT_TO_UNIX_NS)
    assert logs.items == spans.items == len(kills)
    records = [log for r in logs.data.resource_logs for s in r.scope_logs for log in s.log_records]
    ended = [span for r in spans.data.resource_spans for s in r.scope_spans for span in s.spans]
    return [_told(log, span) for log, span in zip(records, ended, strict=True)]


def changes(first: Told, other: Told) -> Told:
    """What of `other` differs from `first`; None for what it does not have."""
    gone = dict.fromkeys(key for key in first if key not in other)
    return {key: value for key, value in other.items() if first.get(key) != value} | gone


def expected() -> dict[str, list[Told]]:
    """What is expected, by variant."""
    found: dict[str, list[Told]] = json.loads(EXPECTED.read_text())
    (first,) = found["captured"]
    for name, kills in found.items():
        if name != "captured":
            found[name] = [_with(first, changed) for changed in kills]
    return found


def _with(first: Told, changed: Told) -> Told:
    gone = {key for key, value in changed.items() if value is None}
    return {key: value for key, value in (first | changed).items() if key not in gone}


def _told(log: LogRecord, span: Span) -> Told:
    told: Told = {
        "time": log.time_unix_nano,
        "observed": log.observed_time_unix_nano,
        "severity": [log.severity_number, log.severity_text],
        "event": log.event_name,
        "ids": [log.trace_id.hex(), log.span_id.hex()],
        "body": log.body.string_value,
        "span.ids": [span.trace_id.hex(), span.span_id.hex()],
        "span.name": [span.name, span.kind],
        "span.times": [span.start_time_unix_nano, span.end_time_unix_nano],
        "span.events": [[event.name, event.time_unix_nano] for event in span.events],
        "span.status": [span.status.code, span.status.message],
    }
    told |= {f"log {key}": value for key, value in otlp.attributes(log.attributes).items()}
    return told | {f"span {key}": value for key, value in otlp.attributes(span.attributes).items()}


def _write() -> None:
    (first,) = of(list(oom_ring.captured()))
    found = {"captured": [first]}
    for name, (ring, context) in oom_ring.variants().items():
        if name != "captured":
            found[name] = [changes(first, kill) for kill in of(ring, context)]
    EXPECTED.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    _write()
