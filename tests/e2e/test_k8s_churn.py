"""Kills while pods come and go: none without a name, none with another's.

A victim's command is its pod's and its container's name, so a kill's record and span carry the truth
beside what was found out. `make chaos` makes 1,000 kills, `make test` some of them. Of one that is
not named right the test says when its node and its API server told of the container.
"""

from __future__ import annotations

import collections
import itertools
import math
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
from doubles import (
    agent_process,
    collected,
    container_news,
    kube_node,
    kube_objects,
    kubeconfig,
    kubelet,
    real_collector,
)

from otel_oom.kubernetes import paths

pytestmark = [pytest.mark.root, pytest.mark.containerd, pytest.mark.go]

NAMESPACE = "churn"
PODS_AT_ONCE = 5
CONTAINERS = ("a", "b", "c", "d", "e")
PATIENCE_S = 60.0
LATE_S = 2.0
"""The default of `late_timeout`."""
_RECORD = '"eventName":"oom.kill"'


@pytest.fixture(scope="module")
def cluster(
    kubernetes_binaries: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[kube_node.Cluster]:
    with kube_node.running(tmp_path_factory.mktemp("cluster")) as made:
        made.api.apply(kube_objects.namespace(NAMESPACE))
        yield made


@pytest.mark.parametrize("source", ["api_server", "kubelet"])
def test_every_kill_is_named_and_named_right(
    *,
    source: str,
    cluster: kube_node.Cluster,
    collector: real_collector.Collector,
    tmp_path: pathlib.Path,
    request: pytest.FixtureRequest,
    capsys: pytest.CaptureFixture[str],
) -> None:
    kills = request.config.getoption("--kills")
    token = cluster.api.token_of("default", kube_node.READER)
    within, environment = kubeconfig.as_in_a_pod(tmp_path, cluster.api, token)
    config = agent_process.config(
        tmp_path,
        agent_process.plain_grpc(collector.grpc_endpoint),
        processors={"k8s_attributes": _options(cluster, source)},
    )
    with (
        container_news.watching(cluster.api, NAMESPACE) as news,
        agent_process.running(config, tmp_path, within=within, environment=environment) as agent,
    ):
        _churn(cluster, collector, kills)
        stopped = agent.stop()

    records = [each for each in collected.logs(collector) if _is_ours(cluster, each)]
    spans = [each for each in collected.spans(collector) if _is_ours(cluster, each)]
    assert len(records) >= kills
    faults = list(filter(None, (_fault(each, news) for each in records + spans)))
    told = f"{source}: {len(records)} records, {len(spans)} spans, {len(faults)} not named right"
    with capsys.disabled():
        print(f"\n  {told}; told of within {LATE_S:g} s of the kill:", end=" ")
        print(
            f"by links {_told(records, news.linked)}, statuses {_told(records, news.named)}", end=""
        )
    assert not faults, f"{told}: {faults}"
    assert stopped.every_mark_is_reported(), stopped.stderr
    for signal in ("logs", "traces"):
        assert stopped.sums[signal]["delivered"] == stopped.sums[signal]["produced"]


def _options(cluster: kube_node.Cluster, source: str) -> dict[str, Any]:
    own = {"endpoint": cluster.node.url, "ca_file": str(cluster.node.ca)}
    metadata = ["k8s.pod.name", "k8s.pod.uid", "k8s.container.name", "container.id"]
    return {
        "source": source,
        "extract": {"metadata": metadata},
        "filter": {"node": "node-1"},
        **({"kubelet": own} if source == "kubelet" else {}),
    }


def _churn(cluster: kube_node.Cluster, collector: real_collector.Collector, kills: int) -> None:
    """Replace the oldest pod by a new one until there are so many records."""
    pods: collections.deque[dict[str, Any]] = collections.deque()
    for number in itertools.count():
        if _has_come(cluster, collector, kills):
            break
        pods.append(cluster.run(_pod(number)))
        if len(pods) == PODS_AT_ONCE:
            _end(cluster, pods.popleft())
    for pod in pods:
        _end(cluster, pod)


def _has_come(cluster: kube_node.Cluster, collector: real_collector.Collector, kills: int) -> bool:
    """Whether there are so many records of ours; all are read only when there are enough at all."""
    if not collector.output.exists() or collector.output.read_text().count(_RECORD) < kills:
        return False
    return len([each for each in collected.logs(collector) if _is_ours(cluster, each)]) >= kills


def _pod(number: int) -> dict[str, Any]:
    """Of every four, one whose dead containers are started again."""
    name = f"p{number}-{time.monotonic_ns() % 10**6}"
    eaters = (kubelet.container(one, "hog", f"comm={name}-{one}", "eat=100M") for one in CONTAINERS)
    policy = "Never" if number % 4 else "Always"
    parts = {"metadata": {"namespace": NAMESPACE}, "spec": {"restartPolicy": policy}}
    return kubelet.pod(name, *eaters, **parts)


def _end(cluster: kube_node.Cluster, pod: dict[str, Any]) -> None:
    """Delete it as `kubectl delete` does, once each of its containers has died."""
    deadline = time.monotonic() + PATIENCE_S
    while not _died(cluster.now(pod)):
        assert time.monotonic() < deadline, f"{pod['metadata']['name']} lives"
        time.sleep(0.1)
    cluster.api.request("DELETE", cluster.api.path_of(pod))


def _died(pod: dict[str, Any]) -> bool:
    statuses = pod["status"].get("containerStatuses", [])
    return bool(statuses) and all("terminated" in str(one) for one in statuses)


def _is_ours(cluster: kube_node.Cluster, found: collected.Found) -> bool:
    return str(found.attributes.get("process.linux.cgroup")).startswith(f"{cluster.node.cgroup}/")


def _fault(found: collected.Found, news: container_news.News) -> str:
    """What is wrong with the names of a record or a span; empty if nothing is."""
    truth = found.attributes["process.executable.name"]
    workload = paths.parse(found.attributes["process.linux.cgroup"])
    named = "-".join(str(found.resource.get(f"k8s.{each}.name")) for each in ("pod", "container"))
    ids = found.resource.get("k8s.pod.uid"), found.resource.get("container.id")
    if (named, *ids) == (truth, workload.pod_uid, workload.container_id):
        return ""
    how = f"{found.resource.get('k8s.match')}, {found.resource.get('k8s.miss')}"
    killed_s = _marked_ns(found.item) / 1e9
    when = news.of(workload.container_id, workload.pod_uid, since_s=killed_s)
    return f"{truth} is named {named} ({how}; ids {ids}); told of: {when}"


def _told(records: list[collected.Found], told_s: dict[str, float]) -> str:
    """Of how many containers it was told within LATE_S of the kill, and when of the last."""
    ids = [paths.parse(each.attributes["process.linux.cgroup"]).container_id for each in records]
    killed_s = [_marked_ns(each.item) / 1e9 for each in records]
    late_s = [told_s.get(one, math.inf) - kill_s for one, kill_s in zip(ids, killed_s, strict=True)]
    last_s = max((each for each in late_s if math.isfinite(each)), default=math.nan)
    return f"{sum(each < LATE_S for each in late_s)} (the last after {last_s:.1f} s)"


def _marked_ns(item: Any) -> int:
    """When the kernel marked the victim: a record's time, a span's start."""
    return int(getattr(item, "start_time_unix_nano", 0) or item.time_unix_nano)
