"""The accounting as self-telemetry: one list of measurements for OTLP and for `/telemetry`.

Names are the collector's with our prefix where it has one (collector.md of its documentation:
`otelcol_receiver_accepted_log_records`, ...), each with the id of the component it is about.
"""

from __future__ import annotations

from collections.abc import Iterator

from otel_oom import telemetry
from otel_oom.pipeline import accounting
from otel_oom.pipeline.data import ITEM_NAMES, Signal

_COLLECTOR_NAMES = {"produced": "receiver_accepted", "delivered": "exporter_sent"}
_KINDS = ("receiver", "processor", "exporter")
_UNITS = {"_s": "s", "_bytes": "By"}


def measurements(ledger: accounting.Ledger) -> list[telemetry.Measurement]:
    """Read the whole table, the gauges and the process now."""
    rows = (_measurement(*row) for row in ledger.rows())
    by_key = {(row.name, row.attributes): row for row in rows}
    return [
        *by_key.values(),
        *(_gauge(*gauge) for gauge in ledger.gauges()),
        *(one for queue in ledger.depths() for one in _depth(*queue)),
        *telemetry.process_measurements(),
    ]


def _measurement(
    name: str, component: str, signal: Signal, reason: str, items: int
) -> telemetry.Measurement:
    name = _COLLECTOR_NAMES.get(name, name)
    attributes = [(_kind(name) or "component", component)]
    if _kind(name):
        name = f"{name}_{ITEM_NAMES[signal]}"
    else:
        attributes.append(("otel.signal", signal.value))
    if reason:
        attributes.append(("reason", reason))
    return telemetry.Measurement(
        f"otel_oom_{name}",
        items,
        tuple(attributes),
        unit=f"{{{ITEM_NAMES[signal]}}}" if _kind(name) else "{item}",
        kind="gauge" if name == "held" else "counter",
    )


def _gauge(name: str, component: str, value: float) -> telemetry.Measurement:
    attributes = ((_kind(name) or "component", component),) if component else ()
    unit = next((unit for end, unit in _UNITS.items() if name.endswith(end)), "1")
    return telemetry.Measurement(f"otel_oom_{name}", value, attributes, unit=unit)


def _depth(component: str, weight: int, depth: accounting.Depth) -> Iterator[telemetry.Measurement]:
    attributes = (("exporter", component), ("weight", str(weight)))
    numbers = {"requests": depth.requests, "items": depth.items, "bytes": depth.bytes}
    for name, number in numbers.items():
        unit = "By" if name == "bytes" else f"{{{name[:-1]}}}"
        yield telemetry.Measurement(
            f"otel_oom_exporter_queue_{name}", number, attributes, unit=unit
        )
    if depth.oldest_s is not None:
        name = "otel_oom_exporter_queue_oldest_s"
        yield telemetry.Measurement(name, depth.oldest_s, attributes, unit="s")


def _kind(name: str) -> str:
    """The kind of component that a name begins with, which is also its attribute's key."""
    head = name.partition("_")[0]
    return head if head in _KINDS else ""
