"""What the agent needs of a host: time to start, memory, CPU while nothing happens.

Each configuration runs as the real command, sends to a real server in this process, idles,
and then records real kills. Memory is from /proc/PID/status: anonymous pages are the agent's
own; file pages are its programs and libraries, which every process that uses them shares, and
among them the kernel's ring, mapped twice in a row, as far as it was touched. CPU is by the
process's clock, which counts nanoseconds and also the threads that have ended: a tick of
/proc/PID/stat is 10 ms, more than an idle agent takes in a second. Run by `make bench`, as root.
"""

from __future__ import annotations

import asyncio
import dataclasses
import pathlib
import signal
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import agent_process, memory_cgroup, otlp_server, skips

IDLE_S = 60.0  # in which the metric is sent once, as in every minute
IDLE_TRIES = 4
SETTLE_S = 10.0
SAMPLE_S = 0.5
KILLS = 50
LIMIT_BYTES = 16 << 20

YAML = """
receivers: {{oom: {{state_directory: {folder}}}}}
processors: {{batch: {{timeout: 200ms}}}}
exporters: {{{exporter}: {{endpoint: "{endpoint}"}}}}
service:
  pipelines:
    logs: {{receivers: [oom], processors: [batch], exporters: [{exporter}]}}
    traces: {{receivers: [oom], processors: [batch], exporters: [{exporter}]}}
    metrics: {{receivers: [oom], processors: [batch], exporters: [{exporter}]}}
"""


@dataclasses.dataclass(frozen=True)
class Memory:
    """Resident memory by kind, in MiB."""

    rss: float
    anon: float
    file: float
    shmem: float

    @classmethod
    def of(cls, pid: int) -> Memory:
        """Of a process, now."""
        lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
        kib = {
            name: text.split()[0]
            for name, _, text in (line.partition(":") for line in lines)
            if text.endswith("kB")
        }
        names = ("VmRSS", "RssAnon", "RssFile", "RssShmem")
        return cls(*(int(kib[name]) / 1024 for name in names))

    def __str__(self) -> str:
        return f"{self.rss:.1f} | {self.anon:.1f} | {self.file:.1f} | {self.shmem:.1f}"


@dataclasses.dataclass(frozen=True)
class Case:
    """A configuration."""

    name: str
    exporter: str
    server: type[otlp_server.GrpcServer | otlp_server.HttpServer]


CASES = (
    Case("oom, batch, otlp_grpc", "otlp_grpc", otlp_server.GrpcServer),
    Case("oom, batch, otlp_http", "otlp_http", otlp_server.HttpServer),
)


def cpu_s(pid: int) -> float:
    """Time on a CPU so far, by the clock that clock_getcpuclockid(3) makes of a pid."""
    return time.clock_gettime_ns(~pid << 3 | 2) / 1e9


def threads(pid: int) -> int:
    """How many threads it has now."""
    return sum(1 for _ in pathlib.Path(f"/proc/{pid}/task").iterdir())


def kill_some(count: int) -> None:
    """Real kills, one after the other."""
    with memory_cgroup.temporary(LIMIT_BYTES) as group:
        for _ in range(count):
            hog = group.hog("eat=64M")
            if hog.wait() != -signal.SIGKILL:
                raise SystemExit(f"the hog was not killed but ended with {hog.returncode}")


def host_kills() -> int:
    """OOM kills of the whole host so far."""
    lines = pathlib.Path("/proc/vmstat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


async def idle(pid: int) -> str:
    """CPU and threads while the host has no kill; of the last try, and said so, if there are."""
    for _ in range(IDLE_TRIES):
        kills, before_s = host_kills(), cpu_s(pid)
        counts = []
        for _ in range(int(IDLE_S / SAMPLE_S)):
            await asyncio.sleep(SAMPLE_S)
            counts.append(threads(pid))
        percent = (cpu_s(pid) - before_s) / IDLE_S * 100
        text = f"{percent:.3f} | {statistics.mean(counts):.1f}"
        others = host_kills() - kills
        if not others:
            return text
    return f"{text} (not idle: {others} kills of others)"


async def measure(case: Case) -> str:
    """One row of the table."""
    with tempfile.TemporaryDirectory() as folder:
        async with otlp_server.serving(case.server()) as server:
            text = YAML.format(
                exporter=case.exporter,
                endpoint=getattr(server, "url", "") or f"http://{server.address}",
                folder=folder,
            )
            start_s = time.monotonic()
            with agent_process.started(text, pathlib.Path(folder)) as agent:
                await asyncio.to_thread(agent.wait_until_running)
                attached_s = time.monotonic() - start_s
                pid = agent.process.pid
                await asyncio.sleep(SETTLE_S)
                memory = Memory.of(pid)
                cpu = await idle(pid)
                await asyncio.to_thread(kill_some, KILLS)
                await asyncio.sleep(2)
                after = Memory.of(pid)
                stopped = await asyncio.to_thread(agent.stop)
    if stopped.status != 0 or stopped.sums["logs"]["delivered"] < KILLS:
        raise SystemExit(stopped.stderr)
    return f"| {case.name} | {attached_s:.2f} | {memory} | {after} | {cpu} |"


def main() -> None:
    """Print the table, or why there is none."""
    if sentence := skips.root():
        print(f"left out: {sentence}")
        return
    kinds = "RSS | anon | file | shmem"
    print(
        f"MiB idle, then MiB after {KILLS} kills; CPU in % of a core and mean number of threads over {IDLE_S:.0f} s idle\n"
    )
    print(f"| components | start to attached, s | {kinds} | {kinds} | idle CPU | threads |")
    print("|---|" + "---:|" * 11)
    for case in CASES:
        print(asyncio.run(measure(case)), flush=True)


if __name__ == "__main__":
    main()
