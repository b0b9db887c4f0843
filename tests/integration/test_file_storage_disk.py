"""A queue on a real ext4 whose disk is full, fails, or is read-only, and is well again.

The disk is a loop device; where it must fail, one over a FUSE file that answers as it is told.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pathlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from doubles import disk_failing, exporting, keeping, loop_device

from otel_oom import errors
from otel_oom.pipeline import weights
from otel_oom.pipeline.data import Batch

pytestmark = [pytest.mark.root, pytest.mark.storage]

MIB = 1 << 20
TRIES = 5
"""The agent looks again once a second: so it takes again within so many seconds."""


def critical(name: str) -> Batch:
    return exporting.logs(name).weighing(weights.CRITICAL)


@contextlib.contextmanager
def full(folder: pathlib.Path) -> Iterator[None]:
    """Nothing is left of the disk for a while."""
    filler = folder / "filler"
    with filler.open("wb") as file:
        for size in (MIB, 4096):
            with contextlib.suppress(OSError):
                while True:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
    yield
    filler.unlink()


async def taken(agent: exporting.Agent, exporter: Any, batch: Batch) -> None:
    """Until one is refused."""
    for _ in range(900):
        await agent.consume(exporter, batch)


async def taken_again(agent: exporting.Agent, exporter: Any, batch: Batch) -> None:
    """It is taken at one of a few tries, a second apart."""
    for _ in range(TRIES):
        with contextlib.suppress(errors.Refused):
            await agent.consume(exporter, batch)
            return
        await asyncio.sleep(1)
    pytest.fail("it is not taken again")


async def test_a_full_disk_keeps_the_critical_while_its_reserve_lasts(tmp_path):
    destination = keeping.Destination(is_up=False)
    with loop_device.attached(tmp_path) as loop, loop_device.ext4(loop, tmp_path) as disk:
        async with keeping.running(disk, destination, disk_reserve_mib=1) as (agent, exporter):
            await agent.consume(exporter, exporting.logs("before"))
            with full(disk):
                with pytest.raises(errors.Refused) as refused:
                    await taken(agent, exporter, exporting.logs("x" * 20_000))
                assert refused.value.reason == "storage_full"
                others = agent.sum()["held"]
                for _ in range(10):
                    await agent.consume(exporter, critical("y" * 20_000))
                assert on_disk(agent) == others + 10, "and none of them in memory"
                with pytest.raises(errors.Refused, match="for the critical"):
                    await agent.consume(exporter, exporting.logs("low"))
            await taken_again(agent, exporter, exporting.logs("low"))
            assert (disk / "queue.db.reserve").stat().st_size == MIB
            destination.is_up = True
            await keeping.until(lambda: "held" not in agent.sum())
        assert agent.sum()["delivered"] == others + 11


@pytest.mark.parametrize("kinds", [("write", "fsync"), ("fsync",), ("write",)], ids="+".join)
async def test_a_disk_that_fails_is_not_believed_and_used_again_once_it_works(kinds, tmp_path):
    """What was accepted is on the disk, though its pages were once lost: it is read from there."""
    destination = keeping.Destination(is_up=False)
    with disk_failing.ext4(tmp_path, "-O", "^has_journal") as disk:
        async with keeping.running(disk.folder, destination) as (agent, exporter):
            for name in "abc":
                await agent.consume(exporter, critical(name))
            disk.fail(kinds)
            for name in "defg":
                await agent.consume(exporter, critical(name))
            assert on_disk(agent) == 3
            disk.heal()
            await keeping.until(lambda: on_disk(agent) == 6)  # one is being sent all the time
            await agent.consume(exporter, critical("h"))
            assert on_disk(agent) == 7
            assert agent.sum() == {"held": 8}
            copy_of_disk(disk, tmp_path / "later")
        destination = keeping.Destination()
        async with keeping.running(tmp_path / "later", destination) as (agent, exporter):
            await keeping.until(lambda: "held" not in agent.sum())
        assert {critical(name).encoded() for name in "abcefgh"} <= set(destination.bodies)


def on_disk(agent: exporting.Agent) -> float:
    """How many requests the queue says that it has there."""
    return next(size for name, _, size in agent.ledger.gauges() if name == "exporter_queue_size")


def copy_of_disk(disk: disk_failing.Disk, target: pathlib.Path) -> None:
    """What is on the disk now, whatever the page cache says: as after a loss of power."""
    with disk.as_found() as found:
        shutil.copytree(found, target, ignore=shutil.ignore_patterns("lost+found", "*.sock"))


async def test_a_disk_that_is_made_read_only_still_delivers_what_it_has(tmp_path):
    """As a kernel does after an error (`errors=remount-ro`); the next life is after a check."""
    destination = keeping.Destination(is_up=False)
    with disk_failing.ext4(tmp_path, "-e", "remount-ro") as disk:
        async with keeping.running(disk.folder, destination) as (agent, exporter):
            for name in "abc":
                await agent.consume(exporter, critical(name))
            disk.fail()
            await until_read_only(disk)
            disk.heal()
            assert await refusal(agent, exporter, exporting.logs("low")) == "storage_read_only"
            await agent.consume(exporter, critical("d"))
            destination.is_up = True
            await keeping.until(lambda: agent.sum().get("delivered") == 4)
            assert "held" not in agent.sum()
        disk.unmount()
        disk.check()
        disk.mount()
        again = keeping.Destination()
        async with keeping.running(disk.folder, again) as (agent, exporter):
            await agent.consume(exporter, critical("e"))
            await keeping.until(lambda: "held" not in agent.sum())
        came = {*destination.bodies, *again.bodies}
        assert came >= {critical(name).encoded() for name in "abcde"}


async def until_read_only(disk: disk_failing.Disk) -> None:
    """Its journal meets the error when it next writes: a new file is reason enough."""
    async with asyncio.timeout(keeping.LONG_S):
        while not disk.is_read_only():
            with contextlib.suppress(OSError):
                (disk.folder / "other").write_text("some")
                os.sync()
            await asyncio.sleep(0.01)


async def refusal(agent: exporting.Agent, exporter: Any, batch: Batch) -> str:
    """The reason that it is refused for, which changes from the first error to the lasting one."""
    reason = ""
    for _ in range(TRIES):
        with contextlib.suppress(errors.Refused):
            await agent.consume(exporter, batch)
            pytest.fail("it is taken")
        reason = list(agent.ledger.balance(batch.signal).dropped)[-1]
        if reason == "storage_read_only":
            break
        await asyncio.sleep(1)
    return reason


async def test_the_critical_is_delivered_though_the_disk_fails(tmp_path):
    destination = keeping.Destination()
    with disk_failing.ext4(tmp_path, "-O", "^has_journal") as disk:
        async with keeping.running(disk.folder, destination) as (agent, exporter):
            disk.fail()
            with pytest.raises(errors.Refused, match="look at the disk"):
                await fails(agent, exporter)
            for name in "abc":
                await agent.consume(exporter, critical(name))
            await keeping.until(lambda: agent.sum().get("delivered", 0) >= 3)
    assert {critical(name).encoded() for name in "abc"} <= set(destination.bodies)


async def test_what_was_held_in_memory_goes_to_the_disk_when_it_works_again(tmp_path):
    destination = keeping.Destination(is_up=False)
    with disk_failing.ext4(tmp_path, "-O", "^has_journal") as disk:
        async with keeping.running(disk.folder, destination) as (agent, exporter):
            disk.fail()
            for name in "abcd":
                await agent.consume(exporter, critical(name))
            disk.heal()
        assert agent.sum() == {"held": 4}
        destination.is_up = True
        async with keeping.running(disk.folder, destination) as (agent, exporter):
            await keeping.until(lambda: agent.sum() == {"delivered": 4})


async def test_what_neither_disk_nor_backend_take_is_counted_at_the_stop(tmp_path):
    destination = keeping.Destination(is_up=False)
    with disk_failing.ext4(tmp_path, "-O", "^has_journal") as disk:
        async with keeping.running(disk.folder, destination) as (agent, exporter):
            disk.fail()
            for name in "abcd":
                await agent.consume(exporter, critical(name))
        assert agent.sum() == {"shutdown": 4}


async def fails(agent: exporting.Agent, exporter: Any) -> None:
    """What is not critical is synced at a checkpoint only, so it may take some until it fails."""
    for _ in range(1000):
        await agent.consume(exporter, exporting.logs("low" * 1000))
