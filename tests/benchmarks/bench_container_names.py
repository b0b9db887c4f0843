"""How long after its death a container's name can be known: by link, by kubelet, by API server.

Pods of several containers, each killed for memory as soon as it runs, in a real kubelet. An agent
records the kills; meanwhile each place that could tell whose an id is is looked at again and
again. Needs root, containerd and Go. Run by `make bench`.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import agent_process, kube_apiserver, kube_node, kube_objects, kubelet, skips

from otel_oom.kubernetes import log_links, paths

NAMESPACE = "bench"
PODS = 20
PODS_AT_ONCE = 4
CONTAINERS = ("a", "b", "c", "d", "e")
LOOK_S = 0.03
SETTLED_S = 8.0
_ID = re.compile(r"[0-9a-f]{64}")


class Watch:
    """When each container id was first seen in what one place says, in Unix seconds."""

    def __init__(self, look: Callable[[], str]) -> None:
        self.seen: dict[str, float] = {}
        self._look = look
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._ended.wait(LOOK_S):
            for container_id in _ID.findall(self._look()):
                self.seen.setdefault(container_id, time.time())

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._ended.set()
            self._thread.join()


def main() -> None:
    """Make the kills, and print a row a place."""
    if sentence := skips.containerd() or skips.go():
        print(sentence)
        return
    with tempfile.TemporaryDirectory() as name, kube_node.running(pathlib.Path(name)) as cluster:
        folder = pathlib.Path(name)
        cluster.api.apply(kube_objects.namespace(NAMESPACE))
        watches = {each: Watch(look) for each, look in places(cluster).items()}
        with contextlib.ExitStack() as stack:
            for watch in watches.values():
                stack.enter_context(watch.running())
            died_s = kills(cluster, folder)
        report(watches, died_s)


def places(cluster: kube_node.Cluster) -> dict[str, Callable[[], str]]:
    """Who could tell, and how they are asked."""
    links, pods = pathlib.Path(log_links.FOLDER), f"/api/v1/namespaces/{NAMESPACE}/pods"
    return {
        "link to the log": lambda: " ".join(each.name for each in links.glob("*.log")),
        "kubelet's /pods": lambda: json.dumps(cluster.node.pods(kube_apiserver.ADMIN)),
        "API server": lambda: json.dumps(cluster.api.request("GET", pods)),
    }


def kills(cluster: kube_node.Cluster, folder: pathlib.Path) -> dict[str, float]:
    """When the container of each id had its kill, in Unix seconds."""
    records = folder / "records.jsonl"
    config = agent_process.config(folder, {"file": {"path": str(records)}})
    with agent_process.running(config, folder) as agent:
        for first in range(0, PODS, PODS_AT_ONCE):
            pods = [cluster.run(pod(first + number)) for number in range(PODS_AT_ONCE)]
            time.sleep(SETTLED_S)
            for each in pods:
                cluster.api.request("DELETE", cluster.api.path_of(each))
        agent.stop()
    return dict(of_records(records.read_text(), cluster.node.cgroup))


def pod(number: int) -> dict[str, object]:
    """One whose containers die at once and are not started again."""
    eaters = (kubelet.container(one, "hog", "eat=100M") for one in CONTAINERS)
    parts = {"metadata": {"namespace": NAMESPACE}, "spec": {"restartPolicy": "Never"}}
    return kubelet.pod(f"pod-{number}", *eaters, **parts)


def of_records(text: str, cgroup: str) -> Iterator[tuple[str, float]]:
    for line in text.splitlines():
        for resource in json.loads(line).get("resourceLogs", []):
            for record in resource["scopeLogs"][0]["logRecords"]:
                known = {each["key"]: each["value"] for each in record["attributes"]}
                path = known.get("process.linux.cgroup", {}).get("stringValue", "")
                if path.startswith(f"{cgroup}/"):
                    yield paths.parse(path).container_id, int(record["timeUnixNano"]) / 1e9


def report(watches: dict[str, Watch], died_s: dict[str, float]) -> None:
    print(f"{len(died_s)} kills in {PODS} pods; seconds from the kill until its container is told")
    print("| told by | median | 90 % | last | never |\n| --- | ---: | ---: | ---: | ---: |")
    for place, watch in watches.items():
        late = [watch.seen[each] - died for each, died in died_s.items() if each in watch.seen]
        tenths = statistics.quantiles(late, n=10)
        never = len(died_s) - len(late)
        figures = f"{statistics.median(late):.2f} | {tenths[-1]:.2f} | {max(late):.2f} | {never}"
        print(f"| {place} | {figures} |")


if __name__ == "__main__":
    main()
