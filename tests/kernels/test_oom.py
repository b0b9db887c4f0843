"""The receiver on kernels from 5.10 to 7.x: each way of hooking, each kind of kill, told right."""

from __future__ import annotations

import functools
import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import debian_kernels
import vm

pytestmark = pytest.mark.kernels

HERE = pathlib.Path(__file__).parent
TABLE = pathlib.Path("build/kernels.md")
CASES = [
    (kernel, version)
    for kernel in (*debian_kernels.KERNELS, *debian_kernels.ARM64_KERNELS)
    for version in ("v1", "v2")
    if version == "v2" or kernel.has_memory_v1
]
HOOKS = ("fentry", "kprobe", "none")
PLAYED: set[tuple[debian_kernels.Kernel, str]] = set()
"""The cases of this run, for the table."""
MIB = 1 << 20

Line = dict[str, Any]


@functools.cache
def played(kernel: debian_kernels.Kernel, version: str) -> tuple[str, tuple[Line, ...]]:
    """The kernel's release and a line for each scenario; one boot for all tests of a kernel."""
    result = vm.run_in_vm(kernel, HERE / "guest_oom.py", cgroup=version)  # type: ignore[arg-type]
    assert result.exit_code == 0, f"{result.stdout}\n{result.console[-4000:]}"
    PLAYED.add((kernel, version))
    lines = [json.loads(line) for line in result.lines if line.startswith('{"')]
    return lines[0]["release"], tuple(lines[1:])


def of(lines: tuple[Line, ...], scenario: str, mode: str = "") -> Line:
    """One scenario's line, by default of the best way of hooking; it must have had no error."""
    mode = mode or lines[0]["mode"]
    if mode not in {line["mode"] for line in lines}:
        pytest.skip(f"this kernel cannot be hooked by {mode}: test_kernels.py knows which can")
    (line,) = (x for x in lines if (x["scenario"], x["mode"]) == (scenario, mode))
    assert "error" not in line, line["error"]
    return line


def only(line: Line) -> dict[str, Any]:
    """Its single record."""
    (told,) = line["told"]
    return told


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def lines(request: pytest.FixtureRequest) -> tuple[Line, ...]:
    try:
        return played(*request.param)[1]
    except (debian_kernels.Unavailable, vm.Unavailable) as error:
        pytest.skip(str(error))


@pytest.fixture
def v2_lines(lines: tuple[Line, ...]) -> tuple[Line, ...]:
    if not any(line["scenario"] == "whole_group" for line in lines):
        pytest.skip("memory.oom.group and memory.max are cgroup v2's: the v2 case shows them")
    return lines


@pytest.fixture(scope="session", autouse=True)
def table() -> Iterator[None]:
    """Leave build/kernels.md, of which docs/kernels.md has a copy."""
    yield
    rows = [row(*case) for case in CASES if case in PLAYED]
    if rows:
        TABLE.parent.mkdir(exist_ok=True)
        TABLE.write_text("\n".join([*HEAD, *rows]) + "\n")


HEAD = (
    "| kernel | memory cgroups | mark_victim | hooks that took | kills | told | missing | dying | told so |",
    "|---|---|---|---|---|---|---|---|---|",
)


def row(kernel: debian_kernels.Kernel, version: str) -> str:
    """A kernel's line of the table: kills made (the kernel's count) and kills told."""
    release, lines = played(kernel, version)
    whole = [line for line in lines if "told" in line]
    hooks = ", ".join(dict.fromkeys(line["mode"] for line in whole))
    made = sum(map(made_by, whole))
    told = sum(k.get("oom.missed.count", 1) for line in whole for k in of_the_others(line))
    dying = [of_the_dying(line)["oom.episode.role"] for line in whole if is_dying(line)]
    numbers = (made, told, made - told, len(dying), dying.count("already_dying"))
    return f"| {release} | {version} | {lines[0]['mark']} | {hooks} | {' | '.join(map(str, numbers))} |"


def killed(line: Line) -> list[dict[str, Any]]:
    """The records of kills; a process that was dying anyway was marked and not killed."""
    return [k for k in line["told"] if k.get("oom.episode.role") != "already_dying"]


def is_dying(line: Line) -> bool:
    return line["scenario"] == "dying"


def of_the_others(line: Line) -> list[dict[str, Any]]:
    """The records of kills; without the one that `dying` made no kill of, whatever its role."""
    return [k for k in killed(line) if not is_dying(line) or k != of_the_dying(line)]


def of_the_dying(line: Line) -> dict[str, Any]:
    """The record of the process that was marked and not killed."""
    (mark,) = (k for k in line["told"] if k.get("process.pid") == line["made"]["pid"])
    return mark


def is_unknown(mark: dict[str, Any]) -> bool:
    """Whether the agent says that it cannot tell this mark from a kill."""
    return any(line.startswith("oom.episode.role: ") for line in mark.get("oom.missing", ()))


def made_by(line: Line) -> int:
    """Processes that the kernel says it killed; of a group kill it counts the first one twice."""
    if line["scenario"] == "whole_group":
        return len(line["made"]["pids"])
    return int(line["identities"]["kernel"])


@pytest.mark.parametrize("mode", HOOKS)
def test_a_plain_kill(lines: tuple[Line, ...], mode: str) -> None:
    line = of(lines, "plain", mode)
    kill = only(line)

    assert kill["process.pid"] == line["made"]["pid"]
    assert kill["process.linux.cgroup"] == line["made"]["cgroup"]
    assert kill["process.command_args"][1:] == ["eat=100M"]
    assert kill["process.environment_variable.OTEL_SERVICE_NAME"] == "shop"
    assert "secret" not in str(kill)
    assert kill["oom.trigger.is_victim"] is True
    assert kill["oom.victim.memory.anon"] > 16 * MIB
    assert kill["oom.cgroup.limit"] == 32 * MIB
    assert kill["oom.cgroup.kill_count"] == 1
    assert kill["oom.exit.confirmed"] is True
    assert line["spans"] == 1


@pytest.mark.parametrize("mode", HOOKS)
def test_the_trigger_is_another(lines: tuple[Line, ...], mode: str) -> None:
    line = of(lines, "other_asks", mode)
    kills = {kill["process.pid"]: kill for kill in line["told"]}
    kill = kills[line["made"]["pid"]]

    assert kill["oom.trigger.process.pid"] == line["made"]["trigger"]
    assert kill["oom.trigger.process.executable.name"] == "small"
    assert kill["oom.trigger.is_victim"] is False
    assert kill["oom.victim.score_adj"] == 1000


@pytest.mark.parametrize("mode", ["fentry", "kprobe"])
def test_the_hook_gives_the_kernels_own_decision(lines: tuple[Line, ...], mode: str) -> None:
    line = of(lines, "plain", mode)
    kill = only(line)

    assert kill["oom.constraint"] == "memcg"
    assert kill["oom.limit.cgroup"] == line["made"]["cgroup"]
    assert kill["oom.limit.bytes"] == 32 * MIB
    assert kill["oom.allocation.order"] >= 0
    assert kill["oom.victim.score"] > 0


@pytest.mark.parametrize("mode", HOOKS)
def test_a_group_kill_is_one_episode_with_every_member(
    v2_lines: tuple[Line, ...], mode: str
) -> None:
    line = of(v2_lines, "whole_group", mode)
    kills = line["told"]

    assert {kill["process.pid"] for kill in kills} == set(line["made"]["pids"])
    assert len(kills) == 4
    assert {kill["oom.group"] for kill in kills} == {True}
    # So far: on a busy machine a record may be sent before the last member is marked.
    assert max(kill["oom.episode.kills"] for kill in kills) == 4
    assert len({kill["oom.episode.id"] for kill in kills}) == 1
    roles = sorted(kill["oom.episode.role"] for kill in kills)
    assert roles == ["group_member"] * 3 + ["primary"]
    assert line["made"]["counted"] in (4, 5)


def test_somebody_outside_lowers_the_limit(v2_lines: tuple[Line, ...]) -> None:
    line = of(v2_lines, "limit_lowered")
    kill = only(line)

    assert kill["process.pid"] == line["made"]["pid"]
    assert kill["oom.trigger.process.pid"] == line["made"]["writer"]
    assert kill["oom.trigger.cgroup"] != kill["process.linux.cgroup"]
    assert kill["oom.limit.bytes"] == 8 * MIB


def test_the_leader_has_exited(lines: tuple[Line, ...]) -> None:
    line = of(lines, "leader_gone")

    assert only(line)["process.pid"] == line["made"]["pid"]


def test_attempts_are_no_kills(lines: tuple[Line, ...]) -> None:
    line = of(lines, "unkillable")

    assert line["made"]["kills"] == 0
    # The test ends the process while it asks for memory: the kernel may then mark it, so that it
    # gets the reserves it needs to die. That is told, and told apart.
    assert killed(line) == []


@pytest.mark.parametrize("mode", HOOKS)
def test_a_mark_of_a_dying_process_is_no_kill(lines: tuple[Line, ...], mode: str) -> None:
    """It had its SIGKILL from elsewhere: the kernel counts no kill, and neither do we."""
    line = of(lines, "dying", mode)
    mark, books = of_the_dying(line), line["identities"]

    assert mark["oom.trigger.process.pid"] == line["made"]["trigger"]
    assert mark["oom.exit.confirmed"] is True
    assert books["reported"] == books["marks"] - books["repeats"]
    assert line["made"]["kills"] == books["kernel"] == len(of_the_others(line))
    if is_unknown(mark):
        assert (line["mark"], mode) == ("pid", "none")
        assert (books["dying"], books["most"] - books["least"]) == (0, 1)
        assert books["least"] == books["kernel"]
    else:
        assert mark["oom.episode.role"] == "already_dying"
        assert mark["oom.episode.kills"] == 0
        assert books["dying"] == 1
        assert books["least"] == books["kernel"] == books["most"] == line["metric"]


def test_a_kernel_thread_asks_for_the_host(lines: tuple[Line, ...]) -> None:
    kill = only(of(lines, "sysrq"))

    assert kill["oom.trigger.is_kernel_thread"] is True
    assert kill["oom.constraint"] == "none"
    assert kill["oom.allocation.order"] == -1
    assert "oom.limit.cgroup" not in kill


def test_a_storm_is_told_whole(lines: tuple[Line, ...]) -> None:
    line = of(lines, "storm")

    assert line["made"]["expected"] == 60
    assert sum(kill.get("oom.missed.count", 1) for kill in line["told"]) == 60
