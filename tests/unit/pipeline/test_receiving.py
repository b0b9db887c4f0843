"""The outbox: in order, counted, never lost unseen; and tasks whose failure is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from doubles.sink import Bench, Sink, log_batch

from otel_oom import errors
from otel_oom.pipeline import component, receiving
from otel_oom.pipeline.data import Signal


class Rig:
    def __init__(self, *signals: Signal) -> None:
        self.bench = Bench()
        self.sink = Sink(self.bench.ledger)
        self.settings = self.bench.settings("r")
        self.outbox = receiving.Outbox(self.settings, dict.fromkeys(signals, self.sink))
        self.bench.ledger.hold("r", self.outbox.held)

    def balance(self) -> tuple[int, int, int]:
        """Produced, held and unexplained log records."""
        found = self.bench.ledger.balance(Signal.LOGS)
        return found.produced, found.held, found.difference


@pytest.fixture
def rig() -> Rig:
    return Rig(Signal.LOGS)


async def test_what_is_put_is_held_until_it_is_handed_on_in_order(rig: Rig) -> None:
    rig.outbox.put(log_batch("a", "b"))
    rig.outbox.put(log_batch("c"))
    assert rig.balance() == (3, 3, 0)
    rig.outbox.end()
    await rig.outbox.send(lambda: None)
    assert rig.sink.bodies() == ["a", "b", "c"]
    assert rig.balance() == (3, 0, 0)


async def test_what_nobody_wants_is_not_produced(rig: Rig) -> None:
    rig.outbox.put(None)
    rig.outbox.put(log_batch())
    Rig().outbox.put(log_batch("a"))
    assert rig.balance() == (0, 0, 0)


async def test_it_is_full_and_has_room_again(rig: Rig) -> None:
    rooms: list[int] = []
    for _ in range(256):
        assert not rig.outbox.is_full
        rig.outbox.put(log_batch("x"))
    assert rig.outbox.is_full
    rig.outbox.put(log_batch("x"))  # nothing is refused
    rig.outbox.end()
    await rig.outbox.send(lambda: rooms.append(rig.sink.items))
    assert rooms == [257]
    assert not rig.outbox.is_full


async def test_what_is_refused_is_counted_and_the_rest_goes_on(rig: Rig) -> None:
    rig.sink.refusal = errors.Refused("no", reason="full")
    sender = asyncio.create_task(rig.outbox.send(lambda: None))
    rig.outbox.put(log_batch("a"))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rig.sink.refusal = None
    rig.outbox.put(log_batch("b"))
    rig.outbox.end()
    await sender
    assert rig.sink.bodies() == ["b"]
    assert rig.bench.ledger.balance(Signal.LOGS).dropped == {"full": 1}
    assert rig.balance() == (2, 0, 0)


async def test_what_is_left_at_the_end_of_patience_is_counted(rig: Rig) -> None:
    rig.sink.open.clear()
    rig.outbox.put(log_batch("on its way"))
    rig.outbox.put(log_batch("b", "c"))
    sender = asyncio.create_task(rig.outbox.send(lambda: None))
    await asyncio.sleep(0)
    sender.cancel()
    await asyncio.gather(sender, return_exceptions=True)
    rig.outbox.drop()
    assert rig.bench.ledger.balance(Signal.LOGS).dropped == {"shutdown": 3}
    assert rig.balance() == (3, 0, 0)


async def fail() -> None:
    raise ValueError("a bug")


async def wait() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize(("work", "is_told"), [(fail, True), (wait, False)])
async def test_a_task_that_fails_is_told_and_one_that_is_cancelled_is_not(
    rig: Rig, work: Callable[[], object], *, is_told: bool
) -> None:
    task = receiving.supervised(rig.settings, work(), "some-work")  # type: ignore[arg-type]
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    status = rig.bench.board.statuses().get("r")
    assert (status is not None and status.state is component.State.PERMANENT_ERROR) == is_told
    if status is not None and is_told:
        assert status.detail == "some-work stopped working: ValueError('a bug')"
