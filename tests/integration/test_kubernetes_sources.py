"""The sources of Kubernetes' objects, over a real API server and a real kubelet."""

from __future__ import annotations

import asyncio
import contextlib
import json
import pathlib
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from doubles import containerd, kube_apiserver, kube_objects, kube_sink, kubelet

from otel_oom.kubernetes import kubeconfig
from otel_oom.kubernetes.api import Api, Limits
from otel_oom.kubernetes.credentials import FileCredentials
from otel_oom.kubernetes.kubelet import Kubelet
from otel_oom.kubernetes.reflector import Reflector
from otel_oom.kubernetes.source import Kind, Source
from otel_oom.kubernetes.targets import Selection

pytestmark = pytest.mark.go

PATIENCE_S = 60.0


@contextlib.asynccontextmanager
async def told(source: Source) -> AsyncIterator[kube_sink.Kept]:
    """What the source tells."""
    sink = kube_sink.Kept()
    task = asyncio.create_task(source.run(sink))
    try:
        yield sink
    finally:
        task.cancel()
        await asyncio.wait([task])


async def until(condition: Callable[[], Any]) -> Any:
    async with asyncio.timeout(PATIENCE_S):
        while not (found := condition()):
            await asyncio.sleep(0.02)
    return found


def client(
    server: kube_apiserver.ApiServer, folder: pathlib.Path, token: str, limits: Limits | None = None
) -> Api:
    path = folder / f"token-{uuid.uuid4().hex}"
    path.write_text(token)
    credentials = FileCredentials(server.url, token_file=path, ca_file=server.ca)
    return Api(credentials, user_agent="otel-oom/test", limits=limits)


@pytest.fixture
def admin(api_server: kube_apiserver.ApiServer, tmp_path: pathlib.Path) -> Api:
    return client(api_server, tmp_path, kube_apiserver.ADMIN)


def workload(kind: str, name: str, namespace: str) -> dict[str, Any]:
    """An object of each kind of owner, as small as it may be."""
    pod = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "i"}]},
    }
    selector = {"matchLabels": {"app": name}}
    job = {"template": {**pod, "spec": {**pod["spec"], "restartPolicy": "Never"}}}
    specs: dict[str, tuple[str, dict[str, Any]]] = {
        "ReplicaSet": ("apps/v1", {"selector": selector, "template": pod}),
        "Deployment": ("apps/v1", {"selector": selector, "template": pod}),
        "StatefulSet": ("apps/v1", {"selector": selector, "template": pod, "serviceName": "s"}),
        "DaemonSet": ("apps/v1", {"selector": selector, "template": pod}),
        "Job": ("batch/v1", job),
        "CronJob": ("batch/v1", {"schedule": "0 0 * * *", "jobTemplate": {"spec": job}}),
    }
    version, spec = specs[kind]
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


async def test_pods_of_a_node_are_listed_and_followed(
    api_server: kube_apiserver.ApiServer, namespace: str, admin: Api
) -> None:
    node = f"node-{namespace}"
    pods = [kube_objects.pod(f"pod-{n}", namespace, node=node) for n in range(3)]
    await asyncio.to_thread(
        api_server.apply, *pods[:2], kube_objects.pod("elsewhere", namespace, node="other")
    )
    source = Reflector(admin, {Kind.POD: Selection(fields=f"spec.nodeName={node}")})
    async with told(source) as sink:
        await until(source.is_synced)
        assert set(sink.versions()) == {"pod-0", "pod-1"}
        await asyncio.to_thread(api_server.apply, pods[2])
        await asyncio.to_thread(
            api_server.set_status,
            pods[0],
            kube_objects.running(container_id="b" * 64, restarts=1, last_id="a" * 64),
        )
        await asyncio.to_thread(api_server.delete, pods[1])
        await until(lambda: set(sink.versions()) == {"pod-0", "pod-2"})

        found = sink.objects[Kind.POD]["pod-0"].status.container_statuses[0]
        assert found.container_id == "containerd://" + "b" * 64
        assert found.last_state.terminated.container_id == "containerd://" + "a" * 64
    assert source.counts.requests == {("pods", "list"): 1, ("pods", "watch"): 1}
    assert not source.counts.errors


async def test_every_kind_is_read_with_what_makes_it_small(
    api_server: kube_apiserver.ApiServer, namespace: str, admin: Api
) -> None:
    kinds = {
        Kind.REPLICA_SET: "ReplicaSet",
        Kind.DEPLOYMENT: "Deployment",
        Kind.STATEFUL_SET: "StatefulSet",
        Kind.DAEMON_SET: "DaemonSet",
        Kind.JOB: "Job",
        Kind.CRON_JOB: "CronJob",
    }
    one = Selection(fields=f"metadata.name={namespace}")
    which = dict.fromkeys(kinds, Selection(namespace=namespace)) | {Kind.NAMESPACE: one}
    source = Reflector(admin, {**which, Kind.NODE: one})
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": namespace}}
    async with told(source) as sink:
        await until(source.is_synced)
        for kind in kinds.values():
            await asyncio.to_thread(api_server.apply, workload(kind, "it", namespace))
        await asyncio.to_thread(api_server.apply, node)
        for kind in kinds:
            await until(lambda kind=kind: "it" in sink.versions(kind))
            assert sink.objects[kind]["it"].metadata.namespace == namespace
        await until(lambda: namespace in sink.versions(Kind.NODE))
        assert set(sink.versions(Kind.NAMESPACE)) == {namespace}
    await asyncio.to_thread(api_server.delete, node)
    assert not source.counts.errors


async def test_a_list_of_many_comes_in_pages(
    api_server: kube_apiserver.ApiServer, namespace: str, admin: Api
) -> None:
    configured = [kube_objects.pod(f"pod-{n:03}", namespace) for n in range(110)]
    await asyncio.to_thread(api_server.apply, *configured)
    source = Reflector(admin, {Kind.POD: Selection(namespace=namespace)})
    async with told(source) as sink:
        await until(source.is_synced)
    assert len(sink.versions()) == 110
    assert source.counts.requests[Kind.POD, "list"] == 2


async def test_a_server_that_was_restored_from_a_backup_is_listed_again(
    api_server: kube_apiserver.ApiServer, namespace: str, tmp_path: pathlib.Path
) -> None:
    """It is silent, without bookmarks, until it comes to the version that we had."""
    await asyncio.to_thread(api_server.apply, kube_objects.pod("pod", namespace))
    api = client(api_server, tmp_path, kube_apiserver.ADMIN, Limits(silence_s=1.0))
    source = Reflector(api, {Kind.POD: Selection(namespace=namespace)})
    source._followers[0]._version = "999999999"
    async with told(source) as sink:
        await until(lambda: set(sink.versions()) == {"pod"})
    assert source.counts.errors == {(Kind.POD, "timeout"): 2}


@pytest.mark.parametrize("missing", ["list", "watch"])
async def test_a_missing_right_is_named_and_may_be_granted_later(
    api_server: kube_apiserver.ApiServer, namespace: str, tmp_path: pathlib.Path, missing: str
) -> None:
    verbs = ["list", "watch"]
    verbs.remove(missing)
    await asyncio.to_thread(api_server.apply, *_account(namespace, *verbs))
    token = await asyncio.to_thread(api_server.token_of, namespace, "agent")
    source = Reflector(
        client(api_server, tmp_path, token), {Kind.POD: Selection(namespace=namespace)}
    )
    async with told(source) as sink:
        await until(lambda: f"grant `{missing}` on `pods`" in source.describe())
        assert f'cannot {missing} resource "pods"' in source.describe()
        assert source.is_synced() is (missing == "watch")
        await asyncio.to_thread(api_server.apply, *_account(namespace, "list", "watch"))
        await until(lambda: source.describe().endswith("pods watched"))
        assert sink.versions() == {}
    assert set(source.counts.errors) == {(Kind.POD, "forbidden")}


def _account(namespace: str, *verbs: str) -> list[dict[str, Any]]:
    rbac = "rbac.authorization.k8s.io"
    meta = {"name": "agent", "namespace": namespace}
    rules = [{"apiGroups": [""], "resources": ["pods"], "verbs": list(verbs)}]
    role = {"apiVersion": f"{rbac}/v1", "kind": "Role", "metadata": meta, "rules": rules}
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "RoleBinding",
        "metadata": meta,
        "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "agent"},
        "subjects": [{"kind": "ServiceAccount", **meta}],
    }
    return [{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}, role, binding]


async def test_a_kubeconfig_opens_the_real_server(
    api_server: kube_apiserver.ApiServer, namespace: str, tmp_path: pathlib.Path
) -> None:
    cluster = {"server": api_server.url, "certificate-authority": str(api_server.ca)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "it", "user": {"token": kube_apiserver.ADMIN}}],
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
    }
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    api = Api(await kubeconfig.load(str(path), None), user_agent="otel-oom/test")
    one = Selection(fields=f"metadata.name={namespace}")
    source = Reflector(api, {Kind.NAMESPACE: one})
    async with told(source) as sink:
        await until(source.is_synced)
    assert set(sink.versions(Kind.NAMESPACE)) == {namespace}


@pytest.mark.root
@pytest.mark.containerd
async def test_a_kubelet_s_pod_is_known_with_its_containers_past_and_present(
    kubernetes_binaries: None,
) -> None:
    container = kubelet.container("main", "hog", "eat=100M")
    with containerd.running(cri=True) as runtime, kubelet.running(runtime) as node:
        credentials = FileCredentials(node.url, ca_file=node.ca)
        source = Kubelet(Api(credentials, user_agent="otel-oom/test"), interval_s=1.0)
        async with told(source) as sink:
            await until(source.is_synced)
            assert sink.versions() == {}
            node.run(kubelet.pod("eater", container))
            ended = await until(lambda: _killed_before(sink))
        assert not source.counts.errors
    assert ended.last_state.terminated.reason == "OOMKilled"
    assert ended.last_state.terminated.container_id not in {"", ended.container_id}


def _killed_before(sink: kube_sink.Kept) -> Any:
    statuses = [
        one
        for pod in sink.objects[Kind.POD].values()
        for one in pod.status.container_statuses
        if one.last_state and one.last_state.terminated and one.restart_count
    ]
    return statuses[0] if statuses else None
