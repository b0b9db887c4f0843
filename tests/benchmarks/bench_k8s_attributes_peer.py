"""The agent with `k8s_attributes` beside the real collector with contrib's: memory and CPU of both.

One real API server, one node of so many pods, both processes as the same service account with the same
options (`filter.node`, the default `extract`). Each is run without and with the processor, in turn.
*Start* is the CPU time until it is ready, with the list; *churn* that of the watch while containers are
replaced. Needs root and Go. Run by `make bench`; arguments are
other numbers of pods.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import in_cluster, kube_apiserver, kube_client, kube_objects, real_collector, skips

CHANGES = 300
SETTLE_S = 3.0
MIB = 1 << 20
BLOCK = f"""
  k8s_attributes:
    wait_for_metadata: true
    filter: {{node: {kube_apiserver.NODE}}}
"""
AGENT = """
receivers: {{oom: {{state_directory: "{folder}/state"}}}}
processors: {processors}
exporters: {{file: {{path: "{folder}/out.jsonl"}}}}
extensions: {{health_check: {{endpoint: "127.0.0.1:{health}"}}}}
service:
  extensions: [health_check]
  pipelines: {{logs: {{receivers: [oom], processors: {named}, exporters: [file]}}}}
"""


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one process: CPU time in seconds, resident memory in MiB."""

    start_s: float
    rss_mib: float
    churn_s: float
    churned_mib: float


def cpu_s(pid: int) -> float:
    """User and system time (proc(5), stat)."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mib(pid: int) -> float:
    """Resident memory (proc(5), statm)."""
    pages = int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def fill(server: kube_apiserver.ApiServer, have: int, want: int) -> None:
    """Pods on the node until there are so many."""
    for number in range(have, want):
        pod = kube_objects.pod(f"pod-{number}", "bench", labels={"app": f"app-{number % 40}"})
        server.apply(pod)
        server.set_status(pod, kube_objects.running(container_id=f"{number:064x}"))


def churn(server: kube_apiserver.ApiServer, pods: int) -> None:
    """Containers are replaced, one after the other."""
    for number in range(CHANGES):
        pod = kube_objects.pod(f"pod-{number % pods}", "bench")
        new, old = f"{number + time.time_ns():064x}", f"{number:064x}"
        server.set_status(pod, kube_objects.running(container_id=new, restarts=number, last_id=old))


def measure(server: kube_apiserver.ApiServer, pid_file: pathlib.Path, pods: int) -> Cost:
    """What the process costs that is ready now."""
    pid = int(pid_file.read_text())
    start_s = cpu_s(pid)
    time.sleep(SETTLE_S)
    rss, before = rss_mib(pid), cpu_s(pid)
    churn(server, pods)
    time.sleep(SETTLE_S)
    return Cost(start_s, rss, cpu_s(pid) - before, rss_mib(pid))


@contextlib.contextmanager
def agent(
    folder: pathlib.Path, server: kube_client.Client, token: str, *, with_: bool
) -> Iterator[pathlib.Path]:
    """The agent, ready; where its pid is."""
    [health] = real_collector.free_ports(1)
    command = (sys.executable, "-P", "-m", "otel_oom", "run", "--config", folder / "agent.yaml")
    script, pid_file = in_cluster.wrapper(folder, server, token, *command)
    (folder / "agent.yaml").write_text(
        AGENT.format(
            folder=folder,
            health=health,
            processors=BLOCK if with_ else "{}",
            named="[k8s_attributes]" if with_ else "[]",
        )
    )
    with (folder / "agent.log").open("wb") as log:
        process = subprocess.Popen([script], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while not healthy(health):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((folder / "agent.log").read_text())
            time.sleep(0.05)
        yield pid_file
    finally:
        process.terminate()
        process.wait(60)


@contextlib.contextmanager
def collector(
    folder: pathlib.Path, server: kube_client.Client, token: str, *, with_: bool
) -> Iterator[pathlib.Path]:
    """The collector, ready; where its pid is."""
    binary = real_collector.build("k8sattributes")
    script, pid_file = in_cluster.wrapper(folder, server, token, binary)
    named = "[k8s_attributes, batch]" if with_ else "[batch]"
    more = f"service: {{pipelines: {{logs: {{processors: {named}}}}}}}\n"
    with real_collector.running(
        script, folder, more=f"processors: {BLOCK}{more}" if with_ else more
    ):
        yield pid_file


def healthy(port: int) -> bool:
    """Whether the health answer is 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == http.client.OK
    except OSError:
        return False
    finally:
        connection.close()


def row(name: str, cost: Cost) -> str:
    """A line of the table."""
    figures = f"{cost.rss_mib:.1f} | {cost.churned_mib:.1f} | {cost.start_s:.2f}"
    return f"| {name} | {figures} | {cost.churn_s:.2f} |"


def main() -> None:
    """Print a table for each number of pods."""
    if sentence := skips.go() or skips.root():
        print(sentence)
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        kube_apiserver.running(pathlib.Path(folder)) as server,
    ):
        compare(server, pathlib.Path(folder), [int(one) for one in sys.argv[1:]] or [110, 1000])


def compare(server: kube_apiserver.ApiServer, folder: pathlib.Path, sizes: list[int]) -> None:
    """Both, without and with the processor, for each number of pods."""
    server.apply(kube_objects.namespace("bench"), *kube_objects.cluster_reader("bench", "reader"))
    token = server.token_of("bench", "reader")
    have = 0
    for pods in sizes:
        fill(server, have, pods)
        have = pods
        print(f"\n{pods} pods on the node, {CHANGES} containers replaced\n")
        print("| process | RSS, MiB | RSS after, MiB | CPU to start, s | CPU of churn, s |")
        print("| --- | --- | --- | --- | --- |")
        for with_ in (False, True):
            for name, side in (("agent", agent), ("collector", collector)):
                title = f"{name}{', with `k8s_attributes`' if with_ else ''}"
                at = folder / f"{name}-{pods}-{with_}"
                with side(at, server, token, with_=with_) as pid_file:
                    print(row(title, measure(server, pid_file, pods)), flush=True)


if __name__ == "__main__":
    main()
