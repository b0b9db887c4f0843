"""Real kills seen by each capture mode, and the fall from one to the next: no kill is lost."""

from __future__ import annotations

import asyncio
import os
import pathlib
import subprocess
from collections.abc import Iterable, Iterator

import pytest
from doubles import memory_cgroup, oom_capture
from doubles.memory_cgroup import kill
from doubles.oom_capture import told

from otel_oom.pipeline import component
from otel_oom.receivers.oom import log_capture

pytestmark = pytest.mark.root


@pytest.fixture(autouse=True)
def _log() -> None:
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY))
    except OSError as error:
        pytest.skip(f"needs the kernel's log ({error}): run as root where /dev/kmsg is the host's")


def files_like(target: str) -> Iterator[int]:
    """Numbers of this process's files of a kind."""
    for file in pathlib.Path("/proc/self/fd").iterdir():
        try:
            if str(file.readlink()) == target:
                yield int(file.name)
        except FileNotFoundError:
            continue


def take_away(target: str) -> None:
    """Close the files of a kind under the agent's feet; their numbers are another's from then."""
    with open(os.devnull, "rb") as nothing:  # noqa: PTH123
        taken = list(files_like(target))
        for fd in taken:
            os.dup2(nothing.fileno(), fd)
    assert taken


LINKS, LOG, MAPS = "anon_inode:bpf_link", "/dev/kmsg", "anon_inode:bpf-map"


def told_of(
    agent: oom_capture.Agent, group: memory_cgroup.MemoryCgroup, pids: Iterable[int] = ()
) -> tuple[int, int]:
    """Kills of a cgroup that were told, and those that may be of it: from counters, of no cgroup.

    The log tells the cgroup of a victim only in a report, or as long as the victim is there.
    """
    named = [k for k in agent.kills if k.attributes.get("process.pid") in set(pids)]
    counted = [k for k in agent.kills if "oom.missed.count" in k.attributes]
    own = [k for k in counted if k.attributes.get("process.linux.cgroup") == group.name]
    other = [k for k in counted if "process.linux.cgroup" not in k.attributes]
    assert len({k["process.pid"] for k in named}) == len(named), "a kill was told twice"
    return len(named) + told(own), told(other)


async def all_told(
    agent: oom_capture.Agent, group: memory_cgroup.MemoryCgroup, pids: Iterable[int] = ()
) -> None:
    """Every kill of a cgroup is told, and none too many."""
    kills = group.oom_kills()
    await agent.until(lambda: sum(told_of(agent, group, pids)) >= kills, f"{kills} kills")
    own, _ = told_of(agent, group, pids)
    assert own <= kills


async def mode_is(agent: oom_capture.Agent, mode: str) -> None:
    await agent.until(lambda: f"mode {mode}" in agent.statuses[-1].detail, f"the mode {mode}")


async def test_the_log_tells_of_a_real_kill(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup
) -> None:
    """Numbers and names are the kernel's; what the log cannot tell is missing with a reason."""
    async with oom_capture.running(tmp_path, capture_modes=["kmsg"]) as agent:
        pid = await asyncio.to_thread(kill, group)
        one = await agent.kill(pid)
        assert agent.statuses[-1].state is component.State.OK
    log = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    (line,) = (line for line in log.splitlines() if f"Killed process {pid} " in line)
    assert f"anon-rss:{one['oom.victim.memory.anon'] // 1024}kB" in line
    assert f"total-vm:{one['oom.victim.memory.virtual'] // 1024}kB" in line
    assert one["process.executable.name"] == "hog"
    assert one.attributes.get("process.linux.cgroup", group.name) == group.name
    assert one["oom.capture.mode"] == "kmsg"
    assert one["oom.constraint"] == "memcg"
    assert one["oom.episode.role"] == "primary"
    assert one.missing["process.exit.code"] == "the kernel's log does not tell"
    named = {name.partition(".*")[0].partition(".{")[0] for name in one.missing}
    assert "oom.trigger" in named or one["oom.trigger.process.pid"] == pid
    assert "oom.limit" in named or one["oom.limit.cgroup"] == group.name
    assert one.log.event_name == "oom.kill"
    assert one.log.time_unix_nano <= one.log.observed_time_unix_nano
    assert not one.log.span_id


async def test_the_counters_tell_how_many_and_where(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup
) -> None:
    async with oom_capture.running(tmp_path, capture_modes=["counter"]) as agent:
        for _ in range(3):
            await asyncio.to_thread(kill, group)
        await all_told(agent, group)
    own = [k for k in agent.kills if k.attributes.get("process.linux.cgroup") == group.name]
    for one in own:
        assert one["oom.capture.mode"] == "counter"
        assert one["oom.missed.reason"] == "counter_mode"
        assert one.missing.keys() == {"process.*"}
    assert own[-1]["oom.cgroup.kill_count"] == 3


async def test_programs_that_are_detached_are_followed_by_the_log(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup, caplog: pytest.LogCaptureFixture
) -> None:
    """Kills of the time in which nobody looked stand in the log, and are told from it, once."""
    async with oom_capture.running(tmp_path) as agent:
        first = await asyncio.to_thread(kill, group)
        await agent.kill(first)
        take_away(LINKS)
        unseen = [kill(group) for _ in range(3)]  # the loop stands still: nobody can have noticed
        await all_told(agent, group, [first, *unseen])
    by_pid = {k.attributes.get("process.pid"): k["oom.capture.mode"] for k in agent.kills}
    assert by_pid[first] == "core"
    assert {by_pid[pid] for pid in unseen} == {"kmsg"}
    assert "captured in the mode kmsg from here on, no more in core" in caplog.text
    fallen = next(s for s in agent.statuses if "mode kmsg" in s.detail)
    assert fallen.state is component.State.RECOVERABLE_ERROR
    assert "detached" in fallen.detail
    assert "accounting bug" not in caplog.text


async def test_the_better_mode_comes_back(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup, caplog: pytest.LogCaptureFixture
) -> None:
    async with oom_capture.running(tmp_path, within=group) as agent:
        take_away(LINKS)
        await mode_is(agent, "kmsg")
        await mode_is(agent, "core")
        assert agent.statuses[-1].state is component.State.OK
        pid = await asyncio.to_thread(kill, group)
        one = await agent.kill(pid)
        assert one["oom.capture.mode"] == "core"
        assert len(agent.receiver.summary()) == 3
    assert "accounting bug" not in caplog.text


async def test_when_the_log_goes_too_the_counters_tell(
    tmp_path: pathlib.Path,
    group: memory_cgroup.MemoryCgroup,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The programs and the log are taken away at once, and may not be had again."""
    monkeypatch.setattr("otel_oom.receivers.oom.modes._FIRST_RETRY_S", 600.0)
    monkeypatch.setattr("otel_oom.receivers.oom.kernel_log._KMSG_DEVICE", os.makedev(1, 3))
    async with oom_capture.running(tmp_path) as agent:
        take_away(LINKS)
        for _ in range(2):
            await asyncio.to_thread(kill, group)
        await all_told(agent, group)
        assert "mode counter" in agent.statuses[-1].detail
        assert "is not the kernel's log" in agent.statuses[-1].detail
    assert "accounting bug" not in caplog.text


async def test_a_log_that_is_closed_is_followed_by_the_counters_or_opened_again(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup, caplog: pytest.LogCaptureFixture
) -> None:
    async with oom_capture.running(tmp_path, capture_modes=["kmsg", "counter"]) as agent:
        take_away(LOG)
        lost = kill(group)
        await mode_is(agent, "counter")
        await all_told(agent, group)
        await mode_is(agent, "kmsg")
        pid = await asyncio.to_thread(kill, group)
        assert (await agent.kill(pid))["oom.capture.mode"] == "kmsg"
    assert lost not in {k.attributes.get("process.pid") for k in agent.kills}
    assert "accounting bug" not in caplog.text


@pytest.mark.parametrize("kinds", [(LINKS,), (MAPS,), (LINKS, LOG)], ids=["links", "maps", "both"])
async def test_a_storm_in_which_modes_fail_loses_no_kill(
    tmp_path: pathlib.Path,
    group: memory_cgroup.MemoryCgroup,
    kinds: tuple[str, ...],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The kernel's counter of the cgroup is the judge: every kill is told, and none twice."""
    async with oom_capture.running(tmp_path) as agent:
        storm = asyncio.gather(*(asyncio.to_thread(kill, group) for _ in range(12)))
        await asyncio.sleep(0.1)
        for kind in kinds:
            take_away(kind)
        pids = await storm
        await all_told(agent, group, pids)
        await asyncio.sleep(1.5)  # checks of the books, which must find no more
        await all_told(agent, group, pids)
    assert group.oom_kills() == 12
    assert "accounting bug" not in caplog.text


async def test_records_that_the_log_overwrote_unread_are_counted_and_the_kills_are_told(
    tmp_path: pathlib.Path, group: memory_cgroup.MemoryCgroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log in which what holds a kill's line is gone: as if it had been read too late."""
    real, lost = log_capture.LogCapture._take, [0]

    def overwritten(self: log_capture.LogCapture, record: object, now_s: float) -> None:
        text = record.text  # type: ignore[attr-defined]
        if ": Killed process " in text and not lost[0]:
            lost[0] += 1
            self._log.overwritten += 1
            return
        real(self, record, now_s)  # type: ignore[arg-type]

    async with oom_capture.running(tmp_path, capture_modes=["kmsg"]) as agent:
        await asyncio.sleep(1.5)
        monkeypatch.setattr(log_capture.LogCapture, "_take", overwritten)
        pid = await asyncio.to_thread(kill, group)
        await all_told(agent, group, [pid])
        await agent.until(
            lambda: any("oom.missed.count" in k.attributes for k in agent.kills), "it"
        )
        assert agent.receiver._lost() >= 1
    reasons = [k["oom.missed.reason"] for k in agent.kills if "oom.missed.count" in k.attributes]
    assert "log_overflow" in reasons
