"""What goes on running through a reload, and the switch in front of what does not."""

from __future__ import annotations

import asyncio

import pytest
from doubles import sink

from otel_oom import errors
from otel_oom.pipeline import accounting
from otel_oom.pipeline.data import Signal
from otel_oom.service import builder, config, links, unchanged
from otel_oom.service.board import StatusBoard

BASE = """\
receivers: {oom: {state_directory: /tmp/a}}
processors: {batch: , resource: }
exporters:
  otlp_http: {endpoint: "http://127.0.0.1:1", sending_queue: {storage: file_storage}}
  debug:
extensions:
  file_storage: {directory: /tmp/b}
  health_check:
service:
  extensions: [file_storage, health_check]
  pipelines:
    logs: {receivers: [oom], processors: [batch], exporters: [otlp_http, debug]}
    traces: {receivers: [oom], processors: [batch, resource], exporters: [debug]}
"""
ALL = {
    "extensions/file_storage",
    "extensions/health_check",
    "exporters/otlp_http",
    "exporters/debug",
    "processors/batch@logs",
    "processors/batch@traces",
    "processors/resource@traces",
    "receivers/oom",
}


def load(*sets):
    return config.load([f"yaml:{BASE}"], sets)


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        ("service.shutdown_timeout=3s", set()),
        ("receivers.oom.settle=100ms", {"receivers/oom"}),
        ("exporters.debug.verbosity=normal", {
            "exporters/debug", "processors/batch@logs", "processors/batch@traces",
            "processors/resource@traces"}),
        ("exporters.otlp_http.endpoint=http://127.0.0.1:2", {
            "exporters/otlp_http", "processors/batch@logs"}),
        ("extensions.file_storage.directory=/tmp/c", {
            "extensions/file_storage", "exporters/otlp_http", "processors/batch@logs"}),
        ("processors.resource.attributes=[{key: a, value: b, action: insert}]", {
            "processors/batch@traces", "processors/resource@traces"}),
        ("service.pipelines.logs.processors=[]", {"processors/batch@logs"}),
        ("service.pipelines.logs.exporters=[debug]", {
            "exporters/otlp_http", "processors/batch@logs"}),
        ("service.pipelines.metrics={receivers: [oom], exporters: [debug]}", {"receivers/oom"}),
    ],
)  # fmt: skip
def test_what_is_not_changed_and_hands_to_nothing_changed_is_kept(change, gone):
    found = unchanged.between(load(), load(change))

    assert found.keys == ALL - gone
    kept = {name.signal.value for name in found.pipelines}
    assert kept == {s for s in ("logs", "traces") if not any(key.endswith(f"@{s}") for key in gone)}


@pytest.mark.parametrize(
    ("old", "change", "returning"),
    [
        ([], "exporters.otlp_http.endpoint=http://h:2", set()),  # its queue is on the disk
        (["exporters.otlp_http.sending_queue.storage=null"], "exporters.otlp_http.endpoint=http://h:2", {
            "otlp_http"}),
        (["exporters.otlp_http.sending_queue.storage=null"], "exporters.otlp_http.encoding=json", set()),
        (["exporters.otlp_http.sending_queue.storage=null"],
         "exporters.otlp_http.sending_queue.queue_size=1", set()),
    ],
)  # fmt: skip
def test_an_exporter_that_is_changed_goes_on_with_what_is_in_memory(old, change, returning):
    found = unchanged.between(load(*old), load(*old, change))
    assert found.returning - {"debug"} == returning


def test_the_next_builder_takes_what_is_kept():
    old = builder.Builder(load(), accounting.Ledger(), StatusBoard())
    before = {node.key: node.component for node in old.graph().nodes}
    new = load("exporters.debug.verbosity=normal")
    kept = old.made.of(unchanged.between(load(), new))
    after = {
        node.key: node.component
        for node in builder.Builder(new, accounting.Ledger(), StatusBoard(), kept).graph().nodes
    }

    assert before.keys() == after.keys()
    same = {key for key in before if before[key] is after[key]}
    assert same == {
        "extensions/file_storage", "extensions/health_check", "exporters/otlp_http",
        "receivers/oom",
    }  # fmt: skip


async def test_a_closed_switch_makes_wait_and_then_hands_to_the_new_side():
    old, new, switch = sink.Sink(), sink.Sink(), links.Switch()
    switch.open(old)
    await switch.consume(sink.log_batch("a"))
    await switch.close(1.0)
    waiting = asyncio.create_task(switch.consume(sink.log_batch("b")))
    await asyncio.sleep(0)
    assert not waiting.done()
    switch.open(new)
    await waiting

    assert (old.bodies(), new.bodies()) == (["a"], ["b"])


async def test_what_the_old_side_refuses_because_it_stops_goes_to_the_new_one():
    old, new, switch = sink.Sink(), sink.Sink(), links.Switch()
    old.open.clear()
    old.refusal = errors.Refused("it stops", reason="shutdown")
    switch.open(old)
    inside = asyncio.create_task(switch.consume(sink.log_batch("a")))
    await asyncio.sleep(0)
    await switch.close(0.01)
    old.open.set()
    switch.open(new) if inside.done() else asyncio.get_running_loop().call_later(
        0.01, switch.open, new
    )
    await inside

    assert new.bodies() == ["a"]


async def test_other_refusals_are_the_receivers_to_count():
    full, switch = sink.Sink(), links.Switch()
    full.refusal = errors.QueueFull("full")
    switch.open(full)

    with pytest.raises(errors.QueueFull):
        await switch.consume(sink.log_batch("a"))


def test_what_is_left_on_a_disk_is_held_until_it_is_found_there():
    ledger = accounting.Ledger()
    old = ledger.owned("exporters/a")
    held = {Signal.LOGS: 3}
    old.produced("r", Signal.LOGS, 3)
    old.hold("a", lambda signal: held.get(signal, 0))
    ledger.forget_readers()
    assert ledger.balance(Signal.LOGS).held == 3

    ledger.recovered("a", Signal.LOGS, 5)  # two are of an earlier life
    ledger.hold("a", lambda signal: 5 if signal is Signal.LOGS else 0)
    balance = ledger.balance(Signal.LOGS)

    assert (balance.recovered, balance.held, balance.difference) == (2, 5, 0)


def test_the_readers_of_what_is_kept_stay():
    ledger = accounting.Ledger()
    ledger.owned("receivers/a").hold("a", lambda _: 1)
    ledger.owned("exporters/a").gauge("size", "a", lambda: 7)
    ledger.owned("exporters/b").gauge("size", "b", lambda: 8)

    ledger.forget_readers(but={"receivers/a", "exporters/a"})

    assert ledger.balance(Signal.LOGS).held == 1
    assert list(ledger.gauges()) == [("size", "a", 7)]
