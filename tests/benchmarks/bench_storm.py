"""2,000 OOM kills as fast as the kernel makes them: is each one told, and what does telling cost.

Twenty cgroups kill at once, a hundred processes each; first without an agent, then with one that
writes to a file, with the ring of the default size and with a quarter of it, for how much there is
to spare. The oracle is the cgroups' own counters. A kill that found no room in the ring is told from the counters
(`oom.missed.count`), so the sum must still be whole. Beside it, a plain reader of the kernel log
sees what it can. It fails if a kill is missing or told twice. Run by `make bench`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import agent_process, kernel_log, memory_cgroup, otlp_json_reader, skips
from opentelemetry.proto.logs.v1.logs_pb2 import LogsData

from otel_oom.pipeline import otlp

CGROUPS = 20
KILLS_EACH = 100
MIB = 1 << 20
SETTLED_S = 3.0  # what found no room in the ring is told within 2 s
RING_SIZES = ("1MiB", "256KiB")  # the first is the default


Stage = tuple[memory_cgroup.MemoryCgroup, list[memory_cgroup.MemoryCgroup]]


@dataclasses.dataclass
class Storm:
    """What was made: kills as the kernel counted them in our cgroups, and how long it took."""

    kills: int
    seconds: float
    parent: str

    @property
    def rate(self) -> float:
        return self.kills / self.seconds


@dataclasses.dataclass
class Found:
    """What was told of a storm, and what it took."""

    storm: Storm
    uids: list[str]
    counted: int
    in_log: int
    cpu_s: float
    before_mib: float
    peak_mib: float
    stopped: agent_process.Stopped

    @property
    def missing(self) -> int:
        return max(0, self.storm.kills - len(set(self.uids)) - self.counted)

    @property
    def twice(self) -> int:
        return len(self.uids) - len(set(self.uids))


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """A cgroup and its children, in which a storm can be made."""
    with memory_cgroup.temporary() as parent:
        yield parent, [parent.child(f"c{index}", 8 * MIB) for index in range(CGROUPS)]


def make_storm(
    parent: memory_cgroup.MemoryCgroup, groups: list[memory_cgroup.MemoryCgroup]
) -> Storm:
    """All cgroups at once; each parent makes its next child when the one before has died."""
    start = time.monotonic()
    hogs = [group.hog(f"fork={KILLS_EACH}", "eat=16M") for group in groups]
    for hog in hogs:
        hog.wait()
    seconds = time.monotonic() - start
    return Storm(sum(group.oom_kills() for group in groups), seconds, parent.name)


def told(path: pathlib.Path, parent: str) -> tuple[list[str], set[int], int]:
    """Of the kills below `parent`: uids and pids of the records, kills told by a counter alone.

    While a storm lasts the agent may tell a loss before it knows of which cgroup; that is ours.
    """
    uids, pids, counted = [], set(), 0
    for line in path.read_text().splitlines():
        if not line.startswith('{"resourceLogs"'):
            continue
        for resource in otlp_json_reader.parse(line.encode(), LogsData).resource_logs:
            for record in resource.scope_logs[0].log_records:
                has = otlp.attributes(record.attributes)
                if not str(has.get("process.linux.cgroup", parent)).startswith(parent):
                    continue
                if has["oom.capture.mode"] == "counter":
                    counted += int(has["oom.missed.count"])
                else:
                    uids.append(str(has["log.record.uid"]))
                    pids.add(int(has["process.pid"]))
    return uids, pids, counted


def config(folder: str, ring_size: str) -> str:
    """The agent with a file."""
    pipeline = {"receivers": ["oom"], "exporters": ["file"]}
    return json.dumps(
        {
            "receivers": {"oom": {"state_directory": folder, "ring_size": ring_size}},
            "exporters": {"file": {"path": f"{folder}/oom.jsonl"}},
            "service": {"pipelines": {"logs": pipeline, "traces": pipeline, "metrics": pipeline}},
        }
    )


def cpu_s(pid: int) -> float:
    """User and system time of a process (proc(5), /proc/PID/stat, fields 14 and 15)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mib(pid: int, key: str) -> float:
    """Resident memory: `VmRSS` now, `VmHWM` the most that it ever was (proc(5))."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    found = re.search(rf"{key}:\s+(\d+) kB", text)
    assert found
    return int(found[1]) / 1024


def with_agent(ring_size: str) -> Found:
    """One storm, watched by the agent and by a reader of the kernel log."""
    log = subprocess.Popen(
        [sys.executable, "-P", kernel_log.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert log.stdout
    log.stdout.readline()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        with agent_process.running(config(name, ring_size), folder) as agent, stage() as made:
            pid = agent.process.pid
            pathlib.Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is the storm's
            before_s, before_mib = cpu_s(pid), memory_mib(pid, "VmRSS")
            storm = make_storm(*made)
            time.sleep(SETTLED_S)
            used_s, peak_mib = cpu_s(pid) - before_s, memory_mib(pid, "VmHWM")
            stopped = agent.stop()
        uids, pids, counted = told(folder / "oom.jsonl", storm.parent)
    seen = {int(each) for each in json.loads(log.communicate(timeout=60)[0])["seen"]}
    return Found(storm, uids, counted, len(seen & pids), used_s, before_mib, peak_mib, stopped)


def rows(alone: Storm, found: list[Found]) -> dict[str, list[str]]:
    """The table: a row's name, and a cell for each storm."""
    return {
        "kills, by the cgroups' own counters": [f"{each.storm.kills}" for each in found],
        "records of one kill each": [f"{len(set(each.uids))}" for each in found],
        "told from the counters alone (no room in the ring)": [f"{each.counted}" for each in found],
        "missing": [f"{each.missing}" for each in found],
        "told twice": [f"{each.twice}" for each in found],
        "of the recorded, seen by a kernel log reader": [f"{each.in_log}" for each in found],
        "kills a second": [f"{each.storm.rate:.0f}" for each in found],
        "ratio to the storm without agent and log reader": [
            f"{each.storm.rate / alone.rate:.2f}" for each in found
        ],
        "the agent's CPU time a kill": [
            f"{each.cpu_s / each.storm.kills * 1e6:.0f} us" for each in found
        ],
        "its resident memory before": [f"{each.before_mib:.1f} MiB" for each in found],
        "the most that it had in the storm": [f"{each.peak_mib:.1f} MiB" for each in found],
        "the identities hold": [
            "yes" if each.stopped.identities_hold() else "NO" for each in found
        ],
    }


def main() -> None:
    """Print the table; fail if the sum is not whole."""
    if sentence := skips.root():
        print(f"left out: {sentence}")
        return
    with stage() as made:
        alone = make_storm(*made)
    found = [with_agent(size) for size in RING_SIZES]
    print(
        f"Linux {os.uname().release}, {os.cpu_count()} cores, {CGROUPS} cgroups at once; "
        f"without an agent {alone.rate:.0f} kills a second\n"
    )
    print(f"| | {' | '.join(f'ring of {size}' for size in RING_SIZES)} |")
    print("|---|" + "---:|" * len(found))
    for name, cells in rows(alone, found).items():
        print(f"| {name} | {' | '.join(cells)} |")
    for each in found:
        if not each.stopped.identities_hold():
            print(f"\n{each.stopped.stderr.splitlines()[-1]}")
        if each.missing or each.twice or each.stopped.status or not each.stopped.sums:
            raise SystemExit(each.stopped.stderr)


if __name__ == "__main__":
    main()
