"""A real Kubernetes API server with its etcd, as controllers' tests start them: no nodes, no kubelets.

Built by tests/peers/kubernetes/build.sh from Go modules. It authenticates by tokens and service
accounts and authorises by RBAC. No controller runs: what others would make (pods of a Deployment,
the default service account) a test applies itself.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import pathlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

from doubles import certificates, kube_client, real_collector

_BUILD = pathlib.Path(__file__).parents[1] / "peers" / "kubernetes" / "build.sh"
_READY_S = 60.0
ADMIN = "admin-token"
"""Of a user in `system:masters`."""
KUBELET = "kubelet-token"
"""Of the kubelet of the node `NODE`."""
NODE = "node-1"
_TOKENS = f"{ADMIN},admin,1,system:masters\n{KUBELET},system:node:{NODE},2,system:nodes\n"
_HOSTS = "localhost,DNS:kubernetes.default.svc,IP:127.0.0.1"
"""What its certificate names."""


class BuildFailed(Exception):
    """A binary could not be built; the text ends with what the builder said last."""


def build(name: str) -> pathlib.Path:
    """The binary of `etcd`, `kube-apiserver` or `kubelet`; minutes the first time, then cached."""
    done = subprocess.run([_BUILD, name], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildFailed((done.stderr.strip().splitlines() or ["no message"])[-1])
    return pathlib.Path(done.stdout.strip())


class ApiServer(kube_client.Client):
    """A running API server. It can be stopped and started again: etcd keeps the objects."""

    def __init__(self, folder: pathlib.Path, port: int, etcd_port: int) -> None:
        """Keep all state in `folder`."""
        self.authority = certificates.Authority(folder, "ca")
        super().__init__(port, self.authority.root.cert, ADMIN)
        self.folder, self._etcd_port = folder, etcd_port
        self.process: subprocess.Popen[bytes] | None = None
        self.authority.issue("server", host=_HOSTS)
        (folder / "tokens.csv").write_text(_TOKENS)

    def compact(self) -> int:
        """Forget the past: a watch from before, of a server started since, is 410. The revision."""
        revision = int(self._etcd("/v3/kv/range", {"key": "AA=="})["header"]["revision"])
        self._etcd("/v3/kv/compaction", {"revision": str(revision), "physical": True})
        return revision

    def start(self) -> None:
        """Start the API server over its etcd; it is ready on return."""
        with (self.folder / "kube-apiserver.log").open("ab") as log:
            self.process = subprocess.Popen(self._command(), stdout=log, stderr=log)
        _wait_until(self._is_ready, self.process, self.folder / "kube-apiserver.log")

    def stop(self, *, kill: bool = False) -> None:
        """Stop it; with `kill` its connections end as those of a machine that fell."""
        if self.process is not None:
            _stop(self.process, kill=kill)
            self.process = None

    def _etcd(self, path: str, body: Any) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self._etcd_port, timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", path, json.dumps(body))
            return json.loads(connection.getresponse().read())

    def _is_ready(self) -> bool:
        return self.request("GET", "/readyz") == {"message": "ok"}

    def _command(self) -> list[str]:
        options = {
            "etcd-servers": f"http://127.0.0.1:{self._etcd_port}",
            "bind-address": "127.0.0.1",
            "advertise-address": "127.0.0.1",
            "secure-port": self.port,
            "tls-cert-file": self.folder / "ca" / "server.pem",
            "tls-private-key-file": self.folder / "ca" / "server.key",
            "cert-dir": self.folder / "certificates",
            "token-auth-file": self.folder / "tokens.csv",
            "authorization-mode": "RBAC,Node",
            "service-account-issuer": "https://kubernetes.default.svc",
            "service-account-signing-key-file": self.folder / "ca" / "server.key",
            "service-account-key-file": self.folder / "ca" / "server.pem",
            "service-cluster-ip-range": "10.0.0.0/24",
            "disable-admission-plugins": "ServiceAccount",  # no controller makes `default`
            "allow-privileged": "true",
            "endpoint-reconciler-type": "none",
            "shutdown-delay-duration": "0s",
        }
        return [
            str(build("kube-apiserver")),
            *(f"--{key}={value}" for key, value in options.items()),
        ]


@contextlib.contextmanager
def running(folder: pathlib.Path) -> Iterator[ApiServer]:
    """An API server with its state in `folder`, ready when yielded. Raises BuildFailed."""
    port, etcd_port, peer_port = real_collector.free_ports(3)
    server = ApiServer(folder, port, etcd_port)
    with _etcd(folder, etcd_port, peer_port):
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def _etcd(folder: pathlib.Path, port: int, peer_port: int) -> Iterator[None]:
    """An etcd of one member that never waits for a disk."""
    here, peers = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer_port}"
    command = [
        build("etcd"), "--data-dir", folder / "etcd", "--unsafe-no-fsync", "--log-level", "warn",
        "--listen-client-urls", here, "--advertise-client-urls", here,
        "--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers,
        "--initial-cluster", f"default={peers}",
    ]  # fmt: skip
    with (folder / "etcd.log").open("wb") as log:
        process = subprocess.Popen([*map(str, command)], stdout=log, stderr=log)
    try:
        yield
    finally:
        _stop(process, kill=True)


def _wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes], log: pathlib.Path
) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException, kube_client.Refused):
            if ready():
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"it did not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes], *, kill: bool) -> None:
    process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
    try:
        process.wait(_READY_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
