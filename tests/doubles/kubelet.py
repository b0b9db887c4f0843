"""A real kubelet over a real containerd: pods that really run, restart and are OOMKilled.

    with containerd.running(cri=True) as runtime, kubelet.running(runtime, tmp_path) as node:
        node.run(kubelet.pod("shop", "hog", "eat=100M"))

Built by tests/peers/kubernetes/build.sh from Go modules. Alone it runs the static pods of a
folder; given a real API server it joins it as a node. Its pods use the host's network, so that no
CNI plugin is needed, and their cgroups stand below one of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import pathlib
import shutil
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

from doubles import (
    cache,
    certificates,
    cgroup_tree,
    containerd,
    kube_apiserver,
    kubeconfig,
    real_collector,
)

_READY_S = 60.0
_POLL_S = 0.05
_STATE = pathlib.Path("/var/lib/kubelet")
_LOG_LINKS = pathlib.Path("/var/log/containers")
_KERNEL_FLAGS = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
)
"""What a kubelet sets on its node, and this double sets back."""


class Kubelet:
    """A running kubelet and its server."""

    def __init__(self, folder: pathlib.Path, port: int) -> None:
        """Keep all state in `folder`."""
        self.folder, self.port = folder, port
        self.log = folder / "kubelet.log"
        authority = certificates.Authority(folder, "kubelet-ca")
        self.ca = authority.root.cert
        self.pair = authority.issue("kubelet", host="localhost,IP:127.0.0.1")
        self.static = folder / "static"
        self.static.mkdir()
        self._tls = ssl.create_default_context(cafile=str(self.ca))

    @property
    def cgroup(self) -> str:
        """Above `kubepods`: other kubelets' pods are not its own."""
        return f"/otel-oom-{self.folder.name}"

    @property
    def url(self) -> str:
        """Where it serves /pods."""
        return f"https://localhost:{self.port}"

    def run(self, pod: dict[str, Any]) -> None:
        """Run a static pod: its file is there at once or not at all."""
        path = self.static / f"{pod['metadata']['name']}.json"
        new = self.folder / path.name
        new.write_text(json.dumps(pod))
        new.rename(path)

    def stop_pod(self, name: str) -> None:
        """Take a static pod's file away."""
        (self.static / f"{name}.json").unlink()

    def pods(self, token: str | None = None) -> list[dict[str, Any]]:
        """Its /pods, decoded."""
        connection = http.client.HTTPSConnection(
            "localhost", self.port, timeout=30, context=self._tls
        )
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        with contextlib.closing(connection):
            connection.request("GET", "/pods", headers=headers)
            answer = connection.getresponse()
            text = answer.read()
        assert answer.status == http.client.OK, (answer.status, text)
        return json.loads(text)["items"] or []

    def command(self, runtime: containerd.Containerd, kubeconfig: pathlib.Path | None) -> list[str]:
        """How it is started."""
        config = self.folder / "kubelet.json"
        config.write_text(json.dumps(self._config(runtime, joined=kubeconfig is not None)))
        options = {
            "config": config,
            "root-dir": self.folder / "root",
            "cert-dir": self.folder / "certificates",
            "hostname-override": kube_apiserver.NODE,
            "v": 2,
        }
        if kubeconfig is not None:
            options["kubeconfig"] = kubeconfig
        binary = kube_apiserver.build("kubelet")
        return [str(binary), *(f"--{key}={value}" for key, value in options.items())]

    def _config(self, runtime: containerd.Containerd, *, joined: bool) -> dict[str, Any]:
        """A KubeletConfiguration. Alone it lets anyone read; joined it asks the API server who may."""
        (health,) = real_collector.free_ports(1)
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": "127.0.0.1",
            "port": self.port,
            "healthzPort": health,
            "tlsCertFile": str(self.pair.cert),
            "tlsPrivateKeyFile": str(self.pair.key),
            "authentication": {
                "anonymous": {"enabled": not joined},
                "webhook": {"enabled": joined},
            },
            "authorization": {"mode": "Webhook" if joined else "AlwaysAllow"},
            "containerRuntimeEndpoint": f"unix://{runtime.socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.cgroup,
            "failCgroupV1": False,
            "failSwapOn": False,
            "staticPodPath": str(self.static),
            "podLogsDir": str(self.folder / "logs"),
            "fileCheckFrequency": "1s",
            "syncFrequency": "1s",
            # The machine is shared: its disk and its firewall are not this node's affair.
            "evictionHard": dict.fromkeys(_EVICTIONS, "0%"),
            "imageGCHighThresholdPercent": 100,
            "localStorageCapacityIsolation": False,
            "makeIPTablesUtilChains": False,
            # A container that dies again and again is started again each second.
            "featureGates": {"KubeletCrashLoopBackOffMax": True},
            "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
        }


_EVICTIONS = ("memory.available", "nodefs.available", "nodefs.inodesFree", "imagefs.available")


def container(name: str, *command: str, memory: str = "32Mi") -> dict[str, Any]:
    """A container of the one image that is there."""
    return {
        "name": name,
        "image": containerd.IMAGE,
        "imagePullPolicy": "Never",
        "command": list(command),
        "resources": {"requests": {"memory": "16Mi"}, "limits": {"memory": memory}},
    }


def pod(name: str, *containers: dict[str, Any], **parts: Any) -> dict[str, Any]:
    """v1 Pod in the host's network; `metadata` and `spec` are merged over what it has."""
    metadata = {"name": name, "namespace": "default", **parts.get("metadata", {})}
    spec = {
        "nodeName": kube_apiserver.NODE,
        "hostNetwork": True,
        "terminationGracePeriodSeconds": 1,
        "containers": list(containers),
        **parts.get("spec", {}),
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@contextlib.contextmanager
def running(
    runtime: containerd.Containerd, api: kube_apiserver.ApiServer | None = None
) -> Iterator[Kubelet]:
    """A kubelet, ready when yielded. Its pods and all that it made are gone at the end."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="kubelet-"))
    with _alone(), _kernel_flags(), _own_state():
        (port,) = real_collector.free_ports(1)
        node = Kubelet(folder, port)
        cgroup_tree.make(node.cgroup)
        try:
            with _process(node, node.command(runtime, _join(folder, api))):
                yield node
        finally:
            runtime.discard_all()
            containerd.unmount_below(folder)
            cgroup_tree.remove(node.cgroup)
            _remove_links(folder)
            shutil.rmtree(folder)


def _join(folder: pathlib.Path, api: kube_apiserver.ApiServer | None) -> pathlib.Path | None:
    """The kubeconfig of the node's kubelet."""
    if api is None:
        return None
    path = folder / "kubeconfig.json"
    kubeconfig.write(path, api, kube_apiserver.KUBELET)
    return path


@contextlib.contextmanager
def _process(node: Kubelet, command: list[str]) -> Iterator[None]:
    with node.log.open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _wait_until(lambda: _answers(node), process, node)
        yield
    finally:
        process.terminate()
        process.wait(_READY_S)


def _wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], node: Kubelet) -> None:
    deadline = time.monotonic() + _READY_S
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"the kubelet did not start:\n{node.log.read_text()[-4000:]}")
        time.sleep(_POLL_S)


def _answers(node: Kubelet) -> bool:
    """Whether it serves, to whomever."""
    with contextlib.suppress(OSError, AssertionError):
        node.pods(token=kube_apiserver.ADMIN)
        return True
    return False


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One kubelet at a time: another would take this one's kernel flags for the machine's own."""
    with (cache.folder("kubelet") / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _kernel_flags() -> Iterator[None]:
    """Set back what a kubelet sets for the whole machine."""
    root = pathlib.Path("/proc/sys")
    before = {name: (root / name).read_text() for name in _KERNEL_FLAGS}
    try:
        yield
    finally:
        for name, value in before.items():
            (root / name).write_text(value)


@contextlib.contextmanager
def _own_state() -> Iterator[None]:
    """Leave no folder for plugins that was not there before."""
    had_state = _STATE.exists()
    try:
        yield
    finally:
        if not had_state:
            shutil.rmtree(_STATE, ignore_errors=True)


def _remove_links(folder: pathlib.Path) -> None:
    """Those that it makes for readers of logs, and their folder if it is empty then."""
    for link in _LOG_LINKS.glob("*.log"):
        if link.readlink().is_relative_to(folder):
            link.unlink()
    with contextlib.suppress(OSError):
        _LOG_LINKS.rmdir()
