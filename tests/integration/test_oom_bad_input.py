"""What a broken kernel side might write to the ring: it is told, and costs no kill its count."""

from __future__ import annotations

import asyncio
import logging
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from doubles import memory_cgroup, oom_capture, oom_ring
from doubles.memory_cgroup import kill
from doubles.oom_bench import bench
from doubles.oom_capture import told

from otel_oom.bpf import events
from otel_oom.receivers.oom import capture, reconcile

pytestmark = pytest.mark.root


class DamagedRing:
    """The real ring, with some of its records changed on the way."""

    def __init__(self, real: Any, damage: Callable[[bytes], bytes]) -> None:
        self._real = real
        self._damage = damage
        self.fd = real.fd

    def drain(self, limit: int) -> list[bytes]:
        return [self._damage(raw) for raw in self._real.drain(limit)]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def damage_once(
    agent: oom_capture.Agent, kind: events.OomKind, change: Callable[[bytes], bytes], cgroup: str
) -> None:
    """Change the next record of a kind that is of this cgroup's kill, or of its victim."""
    running = agent.receiver._capture
    assert running is not None
    victims: set[int] = set()
    done: list[bytes] = []

    def damage(raw: bytes) -> bytes:
        header = events.OomHeader._make(events.OomHeaderLayout.FORMAT.unpack_from(raw))
        if cgroup.encode().rpartition(b"/")[2] in raw:
            victims.add(header.tgid)
        if done or header.kind != kind or header.tgid not in victims:
            return raw
        done.append(raw)
        return change(raw)

    running.ring = DamagedRing(running.ring, damage)  # type: ignore[assignment]


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "header cut": lambda raw: raw[:23],
    "cut": lambda raw: raw[:-1],
    "half": lambda raw: raw[: len(raw) // 2],
    "oversized": lambda raw: raw + b"\0" * 4096,
    "of an unknown kind": lambda raw: raw[:16] + b"\xff\xff\xff\xff" + raw[20:],
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_mark_that_cannot_be_read_becomes_a_counter_record(
    tmp_path: pathlib.Path,
    group: memory_cgroup.MemoryCgroup,
    change: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Counted and shouted; the next kill is told as ever, and the books close."""
    async with oom_capture.running(tmp_path, within=group) as agent:
        damage_once(agent, events.OomKind.MARK, CHANGES[change], group.name)
        await asyncio.to_thread(kill, group)
        second = await asyncio.to_thread(kill, group)
        await agent.until(lambda: told(agent.kills) == 2, "two kills in all")
    by_mode = {k["oom.capture.mode"]: k for k in agent.kills}
    assert by_mode["core"]["process.pid"] == second
    assert by_mode["counter"]["oom.missed.count"] == 1
    # By the counters alone it is the same as one that others' storm hid from us.
    assert by_mode["counter"]["oom.missed.reason"] in {reconcile.RING_OVERFLOW, reconcile.NOT_SEEN}
    assert agent.identities()["lost"] >= 1
    (said,) = (r for r in caplog.records if "was not understood" in r.getMessage())
    assert said.levelno == logging.ERROR
    assert "accounting bug" not in caplog.text


@pytest.mark.parametrize("kind", [events.OomKind.DELIVERED, events.OomKind.EXITED])
async def test_another_record_that_cannot_be_read_costs_no_kill(
    tmp_path: pathlib.Path,
    group: memory_cgroup.MemoryCgroup,
    kind: events.OomKind,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The kill is told with what is known, once, and no counter record follows."""
    async with oom_capture.running(tmp_path, within=group) as agent:
        damage_once(agent, kind, CHANGES["cut"], group.name)
        pid = await asyncio.to_thread(kill, group)
        one = await agent.kill(pid)
        await asyncio.sleep(1.5)  # two checks of the books
    assert [k["oom.capture.mode"] for k in agent.kills] == ["core"]
    assert one["oom.exit.confirmed"] == (kind != events.OomKind.EXITED)
    assert "was not understood" in caplog.text
    assert "accounting bug" not in caplog.text


async def test_a_record_that_nobody_wrote_is_a_bug_and_no_kill(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup, caplog: pytest.LogCaptureFixture
) -> None:
    """More victims than marks: the alarm is raised once, and nothing stops."""
    async with bench(tmp_path) as at:
        running = at.receiver._capture
        assert running is not None
        forged = oom_ring.mark((group.name.strip("/"),), tgid=1, pid=1)
        for raw in (forged, oom_ring.exited(tgid=1)):
            running._assembler.take(capture.records.decode(raw), 0.0)
        await at.until(lambda: "accounting bug" in caplog.text, "the alarm")
        pid = await asyncio.to_thread(kill, group)
        await at.until(lambda: len(at.of(group)) == 2, "the forged and the real one")
    assert caplog.text.count("1 more victims reported than marked") == 1
    assert [k["oom.capture.mode"] for k in at.of(group)] == ["core", "core"]
    assert at.of(group)[1]["process.pid"] == pid
