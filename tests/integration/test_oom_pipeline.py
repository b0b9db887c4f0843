"""What the rest of the pipeline does to the receiver: it blocks, refuses, fails; kills are real."""

from __future__ import annotations

import asyncio
import pathlib

import pytest
from doubles import memory_cgroup
from doubles.memory_cgroup import kill
from doubles.oom_bench import bench, unplaced
from doubles.oom_capture import told

from otel_oom import errors
from otel_oom.config.types import Duration
from otel_oom.pipeline import component, receiving
from otel_oom.pipeline.data import Signal
from otel_oom.receivers.oom import capture, run

pytestmark = pytest.mark.root


async def test_while_the_consumer_blocks_kills_wait_in_the_ring(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way out is full, so the ring is not read; nothing is lost, nothing is doubled."""
    monkeypatch.setattr(receiving, "_FULL_BATCHES", 2)
    async with bench(tmp_path) as at:
        at.sink.open.clear()
        pids = [await asyncio.to_thread(kill, group) for _ in range(8)]
        running = at.receiver._capture
        assert running is not None
        assert not running.ring.is_empty()
        assert len(at.of(group)) < 8
        await asyncio.sleep(2.5)  # checks of the books meanwhile, which must not cry
        at.sink.open.set()
        await at.until(lambda: told(at.of(group)) >= 8, "eight kills")
        await asyncio.sleep(1.5)
    assert [k["process.pid"] for k in at.of(group)] == pids
    assert {k["oom.capture.mode"] for k in at.of(group)} == {"core"}


async def test_what_was_taken_from_the_ring_waits_for_its_turn_and_for_the_consumer(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two records a turn: the rest is worked off without a further record to wake the loop."""
    monkeypatch.setattr(receiving, "_FULL_BATCHES", 2)
    monkeypatch.setattr(capture, "_TURN_RECORDS", 2)
    monkeypatch.setattr(capture, "_SLICE_RECORDS", 1)
    async with bench(tmp_path) as at:
        at.sink.open.clear()
        running = at.receiver._capture
        assert running is not None
        pids = [kill(group) for _ in range(8)]  # the loop stands still: all are in the ring
        await at.until(lambda: at.receiver._outbox.is_full, "a way out that is full")
        assert running.has_backlog
        await asyncio.sleep(2.5)  # checks of the books meanwhile, which must not cry
        at.sink.open.set()
        await at.until(lambda: told(at.of(group)) >= 8, "eight kills")
        assert not running.has_backlog
    assert [k["process.pid"] for k in at.of(group)] == pids
    assert {k["oom.capture.mode"] for k in at.of(group)} == {"core"}


async def test_a_backlog_is_told_at_the_stop(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "_TURN_RECORDS", 2)
    async with bench(tmp_path) as at:
        running = at.receiver._capture
        assert running is not None
        pids = [kill(group) for _ in range(8)]
        running.drain(0.0)
        assert running.has_backlog
    assert [k["process.pid"] for k in at.of(group)] == pids
    assert {k["oom.capture.mode"] for k in at.of(group)} == {"core"}


async def test_a_consumer_that_blocks_longer_than_the_ring_holds_loses_no_count(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "_FULL_BATCHES", 2)
    async with bench(tmp_path, ring_size=4096) as at:
        at.sink.open.clear()
        for _ in range(10):
            await asyncio.to_thread(kill, group)
        await asyncio.sleep(2.5)
        at.sink.open.set()
        total = lambda: sum(  # noqa: E731
            k.attributes.get("oom.missed.count", 1) for k in at.of(group) + unplaced(at)
        )
        await at.until(lambda: total() >= 10, "ten kills")
        await asyncio.sleep(1.5)
    records = [k["process.pid"] for k in at.of(group) if k["oom.capture.mode"] == "core"]
    assert len(set(records)) == len(records) < 10
    assert told(at.of(group)) <= 10 <= total()


async def test_what_a_consumer_refuses_is_counted_by_its_reason(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup
) -> None:
    async with bench(tmp_path) as at:
        at.sink.refusal = errors.Refused("no room", reason="memory_limiter")
        await asyncio.to_thread(kill, group)
        await at.until(lambda: bool(at.ledger.balance(Signal.LOGS).dropped), "the drop")
        at.sink.refusal = None
        pid = await asyncio.to_thread(kill, group)
        await at.until(lambda: bool(at.of(group)), "the next kill")
    balance = at.ledger.balance(Signal.LOGS)
    assert set(balance.dropped) == {"memory_limiter"}
    assert balance.dropped["memory_limiter"] >= 1
    assert pid in [k["process.pid"] for k in at.of(group)]


@pytest.mark.parametrize("method", ["check", "metric"])
async def test_a_task_that_fails_is_a_permanent_error_and_kills_are_told_on(
    tmp_path: pathlib.Path,
    group: memory_cgroup.MemoryCgroup,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with bench(tmp_path, collection_interval=Duration(0.2)) as at:
        assert at.statuses[-1].state is component.State.OK

        def fail(*_: object) -> None:
            raise RuntimeError("as no test expects")

        monkeypatch.setattr(capture.Capture if method == "check" else run.Run, method, fail)
        await at.until(lambda: len(at.statuses) > 1, "the status")
        monkeypatch.undo()
        pid = await asyncio.to_thread(kill, group)
        await at.until(lambda: bool(at.of(group)), "the kill")
    assert at.statuses[-1].state is component.State.PERMANENT_ERROR
    task = {"check": "oom-reconcile", "metric": "oom-collect"}[method]
    assert at.statuses[-1].detail.startswith(f"{task} stopped working: RuntimeError")
    assert "as no test expects" in caplog.text
    assert [k["process.pid"] for k in at.of(group)] == [pid]
