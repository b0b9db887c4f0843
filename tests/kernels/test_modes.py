"""The modes `kmsg` and `counter`, and the fall to them, on the oldest kernel and the newest."""

from __future__ import annotations

import functools
import json
import pathlib
import sys
from typing import Any

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import debian_kernels
import vm

pytestmark = pytest.mark.kernels

HERE = pathlib.Path(__file__).parent
OLDEST, NEWEST = debian_kernels.KERNELS[0], debian_kernels.KERNELS[-1]
CASES = [(OLDEST, "v1"), (OLDEST, "v2"), (NEWEST, "v2")]


@functools.cache
def played(kernel: debian_kernels.Kernel, version: str) -> tuple[dict[str, Any], ...]:
    result = vm.run_in_vm(kernel, HERE / "guest_modes.py", cgroup=version)  # type: ignore[arg-type]
    assert result.exit_code == 0, f"{result.stdout}\n{result.console[-4000:]}"
    return tuple(json.loads(line) for line in result.lines if line.startswith('{"'))


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].series}-{case[1]}")
def lines(request: pytest.FixtureRequest) -> tuple[dict[str, Any], ...]:
    try:
        return played(*request.param)
    except (debian_kernels.Unavailable, vm.Unavailable) as error:
        pytest.skip(str(error))


def of(lines: tuple[dict[str, Any], ...], scenario: str, mode: str) -> dict[str, Any]:
    found = [x for x in lines if (x["scenario"], x["mode"]) == (scenario, mode)]
    if not found:
        pytest.skip("memory.oom.group is cgroup v2's: the v2 case shows it")
    (line,) = found
    assert "error" not in line, line["error"]
    return line


def test_the_log_tells_each_kill_with_its_cgroup_and_limit(
    lines: tuple[dict[str, Any], ...],
) -> None:
    line = of(lines, "plain", "kmsg")
    assert [kill["process.pid"] for kill in line["told"]] == line["pids"]
    for kill in line["told"]:
        assert kill["oom.capture.mode"] == "kmsg"
        assert kill["process.linux.cgroup"] == kill["oom.limit.cgroup"] == line["cgroup"]
        assert kill["oom.limit.bytes"] == 32 << 20
        assert kill["oom.constraint"] == "memcg"
        assert kill["oom.trigger.process.pid"] == kill["process.pid"]
        assert kill["oom.trigger.is_victim"] is True
        assert kill["oom.victim.memory.anon"] > 16 << 20


def test_the_log_tells_a_group_kill_as_one_episode(lines: tuple[dict[str, Any], ...]) -> None:
    line = of(lines, "whole_group", "kmsg")
    assert {kill["process.pid"] for kill in line["told"]} == set(line["pids"])
    assert len(line["told"]) == 3
    assert {kill["oom.episode.kills"] for kill in line["told"]} == {3}
    assert len({kill["oom.episode.id"] for kill in line["told"]}) == 1
    assert {kill["oom.group"] for kill in line["told"]} == {True}


@pytest.mark.parametrize("scenario", ["plain", "whole_group"])
def test_the_counters_tell_as_many_as_they_count(
    lines: tuple[dict[str, Any], ...], scenario: str
) -> None:
    line = of(lines, scenario, "counter")
    own = [kill for kill in line["told"] if kill.get("process.linux.cgroup") == line["cgroup"]]
    assert {kill["oom.capture.mode"] for kill in line["told"]} == {"counter"}
    assert sum(kill["oom.missed.count"] for kill in own) == line["counted"]


def test_after_the_programs_comes_the_log_and_no_kill_is_lost(
    lines: tuple[dict[str, Any], ...],
) -> None:
    line = of(lines, "detached", "core")
    modes = {kill["process.pid"]: kill["oom.capture.mode"] for kill in line["told"]}
    first, *unseen = line["pids"]
    assert modes == {first: "core"} | dict.fromkeys(unseen, "kmsg")
    assert len(line["told"]) == 3
    assert any("mode kmsg" in detail for detail in line["statuses"])
