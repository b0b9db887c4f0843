"""The manifests are what a real API server takes, and grant what the agent needs and no more."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import os
import pathlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import yaml
from doubles import kube_apiserver, kube_client, kube_sink, kustomize, real_collector

from otel_oom.kubernetes import api as kubernetes_api
from otel_oom.kubernetes import credentials, reflector
from otel_oom.kubernetes.source import Kind
from otel_oom.kubernetes.targets import Selection
from otel_oom.pipeline import component
from otel_oom.processors.k8s_attributes import selections
from otel_oom.service import config as configs

pytestmark = pytest.mark.go

NAMESPACE = "otel-oom"
ROOT = kustomize.DEPLOY.parents[1]
PATIENCE_S = 30.0
OVERLAYS_WITH_COLLECTOR = ["gateway", "sidecar"]


def _daemonset(folder: str) -> Any:
    [found] = kustomize.of_kind(folder, "DaemonSet")
    return found


def _agent(folder: str) -> Any:
    [found] = [one for one in _pod_spec(folder)["containers"] if one["name"] == "otel-oom"]
    return found


def _pod_spec(folder: str) -> Any:
    return _daemonset(folder)["spec"]["template"]["spec"]


@pytest.mark.parametrize("folder", kustomize.FOLDERS)
def test_the_api_server_takes_every_object(
    folder: str, api_server: kube_apiserver.ApiServer
) -> None:
    """With unknown and double fields as errors."""
    stored = api_server.apply(*kustomize.render(folder))

    assert {one["kind"] for one in stored} >= {"DaemonSet", "ServiceAccount", "ClusterRole"}


def test_an_object_with_a_typing_error_is_not_taken(
    api_server: kube_apiserver.ApiServer,
) -> None:
    api_server.apply(*kustomize.of_kind("base", "Namespace"))
    broken = copy.deepcopy(_daemonset("base"))
    broken["spec"]["template"]["spec"]["hostPids"] = True

    with pytest.raises(kube_client.Refused, match="hostPids: field not declared in schema"):
        api_server.apply(broken, dry_run=True)


@pytest.mark.parametrize("folder", kustomize.FOLDERS)
def test_its_pod_is_admitted_and_critical_for_the_node(
    folder: str, api_server: kube_apiserver.ApiServer
) -> None:
    """By the real admission of Pod Security and of priorities; no controller makes the pod here."""
    api_server.apply(*kustomize.render(folder))
    template = _daemonset(folder)["spec"]["template"]
    meta = {**template["metadata"], "name": "admitted", "namespace": NAMESPACE}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}

    [admitted] = api_server.apply(pod, dry_run=True)

    assert admitted["spec"]["priority"] == 2000001000


@pytest.mark.parametrize("folder", kustomize.FOLDERS)
def test_the_agent_has_no_right_on_the_host_but_these(folder: str) -> None:
    security = _agent(folder)["securityContext"]
    added = ["BPF", "PERFMON"]
    if folder == "overlays/linux-5.10":
        added.append("SYS_RESOURCE")

    assert security == {
        "runAsUser": 0,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"], "add": added},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert {"hostNetwork", "hostIPC"}.isdisjoint(_pod_spec(folder))


@pytest.mark.parametrize("folder", kustomize.FOLDERS)
def test_only_its_state_is_writable(folder: str) -> None:
    mounts = _agent(folder)["volumeMounts"]

    assert [one["mountPath"] for one in mounts if not one.get("readOnly")] == ["/var/lib/otel-oom"]


def test_no_object_names_what_is_not_there() -> None:
    """Config maps and the service account, by the names that kustomize gave them."""
    for folder in kustomize.FOLDERS:
        spec = _pod_spec(folder)
        there = {one["metadata"]["name"] for one in kustomize.of_kind(folder, "ConfigMap")}
        named = {one["configMap"]["name"] for one in spec["volumes"] if "configMap" in one}
        named |= {one["configMapRef"]["name"] for one in _agent(folder)["envFrom"]}

        assert named <= there, folder
        assert all(
            one["metadata"].get("namespace", NAMESPACE) == NAMESPACE
            for one in kustomize.render(folder)
        )


@pytest.mark.parametrize("folder", kustomize.FOLDERS)
def test_the_agent_takes_its_configuration(folder: str, tmp_path: pathlib.Path) -> None:
    """With the environment that the pod gives it, and so without a warning."""
    maps = kustomize.of_kind(folder, "ConfigMap")
    [text] = [one["data"]["agent.yaml"] for one in maps if "agent.yaml" in one["data"]]
    [environment] = [one["data"] for one in maps if "OTEL_EXPORTER_OTLP_ENDPOINT" in one["data"]]
    config = tmp_path / "agent.yaml"
    config.write_text(text)
    command = [sys.executable, "-P", "-m", "otel_oom", "validate", "--config", config]
    done = subprocess.run(
        command,
        env={**environment, "NODE_NAME": "node-1"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "the configuration is valid\n")


def test_the_agents_configuration_is_that_of_the_example() -> None:
    """Kustomize reads no file from outside its folder."""
    example = (ROOT / "configs" / "daemonset.yaml").read_bytes()

    assert (kustomize.DEPLOY / "base" / "agent.yaml").read_bytes() == example


@pytest.mark.parametrize("overlay", OVERLAYS_WITH_COLLECTOR)
def test_the_real_collector_takes_its_configuration(overlay: str) -> None:
    try:
        binary = real_collector.build("k8sattributes")
    except real_collector.BuildFailed as error:
        pytest.skip(f"needs the collector's Go modules, which did not come: {error}; check GOPROXY")
    config = kustomize.DEPLOY / "overlays" / overlay / "collector.yaml"
    command = [binary, "validate", "--config", f"file:{config}"]
    done = subprocess.run(
        command, env={"POD_IP": "10.0.0.1"}, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("overlay", "endpoint"),
    [("gateway", "http://otel-collector:4317"), ("sidecar", "http://localhost:4317")],
)
def test_the_agent_sends_to_where_the_collector_listens(overlay: str, endpoint: str) -> None:
    folder = f"overlays/{overlay}"
    [environment] = [
        one["data"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
        for one in kustomize.of_kind(folder, "ConfigMap")
        if "OTEL_EXPORTER_OTLP_ENDPOINT" in one["data"]
    ]
    services = {one["metadata"]["name"] for one in kustomize.of_kind(folder, "Service")}

    assert environment == endpoint
    assert services == ({"otel-collector"} if overlay == "gateway" else set())


def _role() -> Any:
    """Read without kubectl, because it names the tests below."""
    text = (kustomize.DEPLOY / "base" / "rbac.yaml").read_text()
    [role] = [one for one in yaml.safe_load_all(text) if one["kind"] == "ClusterRole"]
    return role


RIGHTS = [
    (kind, verb)
    for rule in _role()["rules"]
    for kind in rule["resources"]
    for verb in rule["verbs"]
]
"""Each kind that the role grants, with each verb."""


def _role_without(kind: str, verb: str) -> Any:
    role = _role()
    for rule in role["rules"]:
        if kind in rule["resources"]:
            rule["verbs"].remove(verb)
    return role


@contextlib.asynccontextmanager
async def _following(
    server: kube_apiserver.ApiServer, folder: pathlib.Path
) -> AsyncIterator[reflector.Reflector]:
    """The agent's reflector as the manifest's service account, of every kind that it grants."""
    token_file = folder / "token"
    token_file.write_text(server.token_of(NAMESPACE, "otel-oom"))
    who = credentials.FileCredentials(server.url, token_file=token_file, ca_file=server.ca)
    own = Selection(fields=f"spec.nodeName={kube_apiserver.NODE}")
    kinds = {Kind(kind): own if kind == Kind.POD else Selection() for kind, _ in RIGHTS}
    source = reflector.Reflector(kubernetes_api.Api(who, user_agent="test"), kinds)
    task = asyncio.create_task(source.run(kube_sink.Kept()))
    try:
        yield source
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _until_said(source: reflector.Reflector, words: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while words not in source.describe():
            await asyncio.sleep(0.02)


@pytest.fixture
def deployed(api_server: kube_apiserver.ApiServer) -> Iterator[kube_apiserver.ApiServer]:
    """The server with the base applied, and its role as it was at the end."""
    api_server.apply(*kustomize.render("base"))
    yield api_server
    api_server.apply(_role())


def test_its_rights_are_those_that_its_configuration_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NODE_NAME", kube_apiserver.NODE)
    config = configs.load([str(kustomize.DEPLOY / "base" / "agent.yaml")], env=os.environ)
    [processor] = [
        one.config
        for id_, one in config.components(component.Kind.PROCESSOR).items()
        if str(id_) == "k8s_attributes"
    ]

    assert {kind for kind, _ in RIGHTS} == {str(kind) for kind in selections.kinds(processor)}
    assert {verb for _, verb in RIGHTS} == {"list", "watch"}


async def test_its_rights_are_enough(
    deployed: kube_apiserver.ApiServer, tmp_path: pathlib.Path
) -> None:
    async with _following(deployed, tmp_path) as source:
        for kind, _ in RIGHTS:
            await _until_said(source, f"{kind} watched")

        assert source.is_synced()
        assert not source.counts.errors


@pytest.mark.parametrize(("kind", "verb"), RIGHTS)
async def test_one_right_less_and_it_says_which(
    deployed: kube_apiserver.ApiServer, tmp_path: pathlib.Path, kind: str, verb: str
) -> None:
    deployed.apply(_role_without(kind, verb))

    async with _following(deployed, tmp_path) as source:
        await _until_said(source, f"grant `{verb}` on `{kind}`")

        assert source.counts.errors[kind, "forbidden"]
