"""Whom the options ask, for what, and no more than that."""

from __future__ import annotations

import subprocess
import sys

import pytest
from doubles.enriching import config

from otel_oom import errors
from otel_oom.kubernetes.source import Kind
from otel_oom.kubernetes.targets import Selection
from otel_oom.processors.k8s_attributes import selections, sources


def asked(environment=None, **options):
    return selections.kinds(config(**options), environment or {})


def test_by_default_pods_alone_are_asked_for():
    assert asked() == {Kind.POD: Selection()}


def test_the_server_does_the_filtering():
    chosen = {
        "node_from_env_var": "NODE",
        "namespace": "shop",
        "fields": [{"key": "status.phase", "value": "a,b=c", "op": "not-equals"}],
        "labels": [
            {"key": "a", "value": "1"},
            {"key": "b", "value": "2", "op": "not-equals"},
            {"key": "c", "op": "exists"},
            {"key": "d", "op": "does-not-exist"},
        ],
    }
    assert asked({"NODE": "node-1"}, filter=chosen) == {
        Kind.POD: Selection(
            namespace="shop",
            fields=r"spec.nodeName=node-1,status.phase!=a\,b\=c",
            labels="a=1,b!=2,c,!d",
        )
    }


@pytest.mark.parametrize(
    ("extract", "kinds"),
    [
        ({"metadata": ["k8s.deployment.name", "k8s.cronjob.name"]}, set()),
        ({"metadata": ["k8s.deployment.uid"]}, {Kind.REPLICA_SET}),
        ({"metadata": ["k8s.cronjob.uid"]}, {Kind.JOB}),
        ({"metadata": ["k8s.node.uid"]}, {Kind.NODE}),
        ({"metadata": ["k8s.cluster.uid"]}, {Kind.NAMESPACE}),
        ({"labels": [{"key": "a", "from": "namespace"}]}, {Kind.NAMESPACE}),
        (
            {"annotations": [{"key": "a", "from": "deployment"}]},
            {Kind.REPLICA_SET, Kind.DEPLOYMENT},
        ),
        ({"labels": [{"key": "a", "from": "statefulset"}]}, {Kind.STATEFUL_SET}),
        ({"labels": [{"key": "a", "from": "daemonset"}]}, {Kind.DAEMON_SET}),
        ({"labels": [{"key": "a", "from": "job"}]}, {Kind.JOB}),
        ({"labels": [{"key": "a", "from": "cronjob"}]}, {Kind.JOB, Kind.CRON_JOB}),
    ],
)
def test_other_kinds_are_asked_for_only_if_needed(extract, kinds):
    assert asked(extract=extract).keys() == {Kind.POD, *kinds}


def test_of_nodes_and_namespaces_only_the_one_is_asked_for():
    metadata = ["k8s.cluster.uid", "k8s.node.uid"]
    found = asked(extract={"metadata": metadata}, filter={"node": "node-1"})
    assert found[Kind.NODE] == Selection(fields="metadata.name=node-1")
    assert found[Kind.NAMESPACE] == Selection(fields="metadata.name=kube-system")


def test_a_variable_that_is_not_set_is_told():
    with pytest.raises(errors.ComponentError, match=r"NODE is not set.*spec\.nodeName"):
        asked(filter={"node_from_env_var": "NODE"})


def test_only_annotations_that_are_needed_are_kept():
    extract = {
        "annotations": [{"key": "one"}, {"key_regex": "two/.*"}],
        "otel_annotations": True,
    }
    keep = selections.needed_annotations(config(extract=extract))
    needed = [
        "one",
        "two/x",
        "resource.opentelemetry.io/service.name",
        "kubernetes.io/config.hash",
        "opentelemetry.io/k8s-processor/ignore",
    ]
    assert all(map(keep, needed))
    assert not keep("kubectl.kubernetes.io/last-applied-configuration")
    assert not selections.needed_annotations(config())("resource.opentelemetry.io/a")


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)


@pytest.mark.parametrize("options", [{}, {"auth_type": "none"}, {"passthrough": True}])
async def test_without_a_cluster_nobody_is_asked(options):
    assert await sources.make(config(**options), "1") is None


async def test_a_kubelet_is_asked_where_the_options_say():
    options = {"source": "kubelet", "kubelet": {"endpoint": "http://127.0.0.1:10255"}}
    found = await sources.make(config(**options), "1")
    assert found.describe() == "kubelet http://127.0.0.1:10255: pods not asked yet"
    options = {"source": "kubelet", "filter": {"node": "node-1"}}
    found = await sources.make(config(**options), "1")
    assert found.describe().startswith("kubelet https://node-1:10250")


async def test_a_kubelet_of_no_node_is_an_error():
    with pytest.raises(errors.ComponentError, match=r"filter\.node_from_env_var"):
        await sources.make(config(source="kubelet"), "1")


async def test_a_kubeconfig_that_is_not_there_is_an_error(tmp_path):
    pytest.importorskip("kubernetes", reason="needs the extra: pip install 'otel-oom[kubernetes]'")
    options = {"auth_type": "kubeConfig", "kube_config_path": str(tmp_path / "none")}
    with pytest.raises(errors.ComponentError, match="kubeconfig"):
        await sources.make(config(**options), "1")


def test_who_asks_nobody_does_not_pay_for_the_client():
    code = (
        "import sys, otel_oom.processors.k8s_attributes\n"
        "print([m for m in ('otel_oom.http', 'otel_oom.kubernetes.api', 'yaml', 'click')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
