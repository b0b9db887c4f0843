"""What a receiver of kernel events meets in production besides kills; the kills are real."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import logging
import pathlib
import signal
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Self

import pytest
from doubles import confined_agent, memory_cgroup, oom_capture, oom_ring, sink

from otel_oom import errors
from otel_oom.bpf import events
from otel_oom.config.types import Duration
from otel_oom.pipeline import component
from otel_oom.pipeline.data import Signal
from otel_oom.receivers import oom
from otel_oom.receivers.oom import capture, reconcile
from otel_oom.receivers.oom.config import Config

pytestmark = pytest.mark.root

MIB = 1024 * 1024


@pytest.fixture
def group() -> Iterator[memory_cgroup.MemoryCgroup]:
    with memory_cgroup.temporary(32 * MIB) as made:
        yield made


def kill(group: memory_cgroup.MemoryCgroup) -> int:
    """One real kill; its victim's pid."""
    hog = group.hog("eat=100M")
    assert hog.wait() == -signal.SIGKILL
    return hog.pid


# What the kernel hides.


def mounts_are_ours_to_make() -> None:
    done = subprocess.run(
        [*confined_agent.with_mount_over("/mnt"), "true"], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("needs a mount namespace of its own: run as root with CAP_SYS_ADMIN")


def test_without_tracefs_nothing_is_missing(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup
) -> None:
    mounts_are_ours_to_make()
    where = [p for p in ("/sys/kernel/tracing", "/sys/kernel/debug") if pathlib.Path(p).is_dir()]
    with confined_agent.started(tmp_path, confined_agent.with_mount_over(*where)) as agent:
        agent.wait_until_running()
        pid = kill(group)
        (told,) = agent.wait_for_kills(group.name, 1)
        assert agent.stop() == 0
    assert told["process.pid"] == pid
    assert told["process.exit.code"] == 128 + signal.SIGKILL


def test_without_btf_the_agent_says_what_to_boot(tmp_path: pathlib.Path) -> None:
    mounts_are_ours_to_make()
    hidden = confined_agent.with_mount_over("/sys/kernel/btf")
    with confined_agent.started(tmp_path, hidden) as agent:
        status = agent.wait()
        log = agent.log()
    assert status == 1
    assert "OOM kills cannot be captured: the kernel has no BTF" in log
    assert "boot a distribution kernel that has it" in log
    assert "Traceback" not in log


def test_under_lockdown_the_agent_says_what_forbids_it(tmp_path: pathlib.Path) -> None:
    """The file is ours, because a machine cannot be unlocked again; all else is the machine's."""
    (tmp_path / "root/sys/kernel/security").mkdir(parents=True)
    (tmp_path / "root/sys/kernel/btf").symlink_to("/sys/kernel/btf")
    (tmp_path / "root/proc").symlink_to("/proc")
    lockdown = tmp_path / "root/sys/kernel/security/lockdown"
    lockdown.write_text("none integrity [confidentiality]\n")
    with confined_agent.started(tmp_path, root=str(tmp_path / "root")) as agent:
        status = agent.wait()
        log = agent.log()
    assert status == 1
    assert "kernel lockdown is at `confidentiality`" in log
    assert "boot with lockdown=integrity, or without" in log
    assert "Traceback" not in log


def test_a_root_path_that_is_no_root_is_named(tmp_path: pathlib.Path) -> None:
    with confined_agent.started(tmp_path, root=str(tmp_path / "nothing")) as agent:
        status = agent.wait()
        log = agent.log()
    assert status == 1
    assert "OOM kills cannot be captured" in log
    assert str(tmp_path / "nothing/proc") in log
    assert "Traceback" not in log


# What a broken kernel side might write.


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


# What the rest of the pipeline does.


class Bench:
    """The receiver before a sink that a test opens, shuts or lets refuse."""

    def __init__(self, state: pathlib.Path, **options: Any) -> None:
        self.statuses: list[component.Status] = []
        around = sink.Bench()
        self.ledger = around.ledger
        self.sink = sink.Sink(self.ledger)
        settings = component.Settings(
            id=around.settings("oom").id,
            ledger=self.ledger,
            report=self.statuses.append,
            board=around.board,
            version="test",
        )
        config = Config(state_directory=str(state), **options)
        self.receiver = oom.OomReceiver(settings, config, dict.fromkeys(Signal, self.sink))

    def of(self, group: memory_cgroup.MemoryCgroup) -> list[oom_capture.Kill]:
        found = [
            oom_capture.Kill(record)
            for batch in self.sink.batches
            if batch.signal is Signal.LOGS
            for resource in batch.data.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        ]
        return [k for k in found if k.attributes.get("process.linux.cgroup") == group.name]

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        async with asyncio.timeout(oom_capture.PATIENCE_S):
            while not condition():
                await asyncio.sleep(0.02)
        assert condition(), what


@contextlib.asynccontextmanager
async def bench(state: pathlib.Path, **options: Any) -> AsyncIterator[Bench]:
    made = Bench(state, **options)
    await made.receiver.start()
    try:
        yield made
    finally:
        made.sink.open.set()
        await made.receiver.shutdown()
    assert [made.ledger.balance(signal).difference for signal in Signal] == [0, 0, 0]


def told(kills: list[oom_capture.Kill]) -> int:
    """Kills that records tell of, one by one or from a counter."""
    return sum(k.attributes.get("oom.missed.count", 1) for k in kills)


async def test_while_the_consumer_blocks_kills_wait_in_the_ring(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way out is full, so the ring is not read; nothing is lost, nothing is doubled."""
    monkeypatch.setattr(oom, "_OUTBOX_BATCHES", 2)
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


async def test_a_consumer_that_blocks_longer_than_the_ring_holds_loses_no_count(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oom, "_OUTBOX_BATCHES", 2)
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


def unplaced(at: Bench) -> list[oom_capture.Kill]:
    """Counter records of which no cgroup is known."""
    batches = [batch for batch in at.sink.batches if batch.signal is Signal.LOGS]
    found = [
        oom_capture.Kill(record)
        for batch in batches
        for resource in batch.data.resource_logs
        for scope in resource.scope_logs
        for record in scope.log_records
    ]
    return [k for k in found if "process.linux.cgroup" not in k.attributes]


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

        monkeypatch.setattr(capture.Capture, method, fail)
        await at.until(lambda: len(at.statuses) > 1, "the status")
        monkeypatch.undo()
        pid = await asyncio.to_thread(kill, group)
        await at.until(lambda: bool(at.of(group)), "the kill")
    assert at.statuses[-1].state is component.State.PERMANENT_ERROR
    task = {"check": "oom-reconcile", "metric": "oom-collect"}[method]
    assert at.statuses[-1].detail.startswith(f"{task} stopped working: RuntimeError")
    assert "as no test expects" in caplog.text
    assert [k["process.pid"] for k in at.of(group)] == [pid]


# Ends that nobody chose.


class Killer:
    """Kills in a cgroup, one after the other, until it is told to stop."""

    def __init__(self, group: memory_cgroup.MemoryCgroup) -> None:
        self._group = group
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            kill(self._group)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def begin(folder: pathlib.Path) -> list[confined_agent.ConfinedAgent]:
    """A first run, after which every kill is somebody's to tell."""
    with confined_agent.started(folder) as agent:
        agent.wait_until_running()
        assert agent.stop() == 0
    return [agent]


def told_by(agents: list[confined_agent.ConfinedAgent], name: str) -> tuple[int, int]:
    """Kills told of a cgroup, and from counters of no known cgroup."""
    own = [r for agent in agents for r in agent.kills(name)]
    pids = collections.Counter(r["process.pid"] for r in own if "process.pid" in r)
    assert max(pids.values(), default=1) == 1, "a process told twice"
    placeless = [r for agent in agents for r in agent.records() if "process.linux.cgroup" not in r]
    return (
        sum(r.get("oom.missed.count", 1) for r in own),
        sum(r["oom.missed.count"] for r in placeless),
    )


def test_an_agent_that_is_stopped_and_started_among_kills_tells_each_once(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup
) -> None:
    agents = begin(tmp_path)
    with Killer(group):
        for _ in range(3):
            with confined_agent.started(tmp_path) as agent:
                agents.append(agent)
                agent.wait_until_running()
                agent.wait_for_kills(group.name, 5)
                assert agent.stop() == 0, agent.log()
    with confined_agent.started(tmp_path) as agent:
        agents.append(agent)
        agent.wait_until_running()
        kills = group.oom_kills()
        wait(lambda: sum(told_by(agents, group.name)) >= kills)
        assert agent.stop() == 0
    own, placeless = told_by(agents, group.name)
    assert own <= kills <= own + placeless


def test_an_agent_that_is_killed_among_kills_loses_none(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup
) -> None:
    """What it had not told, the next one tells.

    What it had not noted as told, that one tells again, from the counter.
    """
    noted = doubled = 0
    agents = begin(tmp_path)
    with Killer(group):
        for count in (3, 9, 30):
            with confined_agent.started(tmp_path) as agent:
                agents.append(agent)
                agent.wait_until_running()
                agent.wait_for_kills(group.name, count)
                assert agent.stop(signal.SIGKILL) == -signal.SIGKILL
                own, placeless = told_by(agents, group.name)
                noted = noted_as_told(tmp_path, group)
                assert noted <= own - doubled + placeless, "noted as told, and not told"
                doubled = max(0, own - noted)
    with confined_agent.started(tmp_path) as agent:
        agents.append(agent)
        agent.wait_until_running()
        kills = group.oom_kills()
        wait(lambda: sum(told_by(agents, group.name)) >= kills + doubled)
        assert agent.stop() == 0
    own, placeless = told_by(agents, group.name)
    assert own <= kills + doubled <= own + placeless


def test_an_agent_that_is_killed_in_peace_has_noted_all(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup
) -> None:
    with confined_agent.started(tmp_path) as first:
        first.wait_until_running()
        for _ in range(3):
            kill(group)
        first.wait_for_kills(group.name, 3)
        wait(lambda: noted_as_told(tmp_path, group) == 3)
        first.stop(signal.SIGKILL)
    kill(group)
    with confined_agent.started(tmp_path) as second:
        second.wait_until_running()
        (missed,) = second.wait_for_kills(group.name, 1)
        assert second.stop() == 0
    assert missed["oom.missed.count"] == 1
    assert missed["oom.missed.reason"] == reconcile.AGENT_DOWN
    assert sum(told_by([first, second], group.name)) >= group.oom_kills() == 4


def test_an_agent_whose_books_cannot_be_kept_says_so_and_tells_kills(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup
) -> None:
    (tmp_path / "state").write_text("a file where the directory should be")
    with confined_agent.started(tmp_path) as agent:
        agent.wait_until_running()
        kill(group)
        agent.wait_for_kills(group.name, 1)
        assert agent.stop() == 0
        log = agent.log()
    assert log.count("give it a writable `state_directory`") == 1
    assert "Traceback" not in log


def noted_as_told(folder: pathlib.Path, group: memory_cgroup.MemoryCgroup) -> int:
    """Kills of the cgroup that the next start will not tell of."""
    books = json.loads((folder / "state" / "oom.json").read_text())
    return int(books["cgroups"].get(str(group.inode), 0))


def wait(condition: Callable[[], bool]) -> None:
    """Until it holds, or for as long as patience lasts: what follows says what is wrong."""
    deadline = confined_agent.time.monotonic() + confined_agent.PATIENCE_S
    while not condition() and confined_agent.time.monotonic() < deadline:
        confined_agent.time.sleep(0.05)
