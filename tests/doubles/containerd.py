"""A real containerd with runc, started by hand in a folder of its own, and its containers.

    with containerd.running(tmp_path) as runtime:
        with runtime.container("/kubepods/pod1/abc", "hog", "eat=100M", limit_bytes=32 << 20) as one:
            assert one.wait() == 137

Its one image has busybox and the hog of hog.c. It is made on the spot: nothing is pulled.
With `cri=True` it serves a kubelet too. Everything is gone at the end, whoever made it.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence

from doubles import cgroup_tree, memory_cgroup, oci_image

IMAGE = "otel-oom.test/hog:1"
NAMESPACE = "k8s.io"
"""Where the CRI plugin keeps its own."""
KILLED = 128 + signal.SIGKILL
_PATIENCE_S = 60.0
_POLL_S = 0.05
_CONFIG = """
version = 2
root = "{folder}/root"
state = "{folder}/state"
{disabled}
[grpc]
  address = "{folder}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{image}"
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{folder}/no-cni"
    conf_dir = "{folder}/no-cni"
"""
_WITHOUT_CRI = 'disabled_plugins = ["io.containerd.grpc.v1.cri"]'


class Containerd:
    """A running daemon, spoken to with its own client `ctr`."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.socket = folder / "containerd.sock"
        self.log = folder / "containerd.log"

    def command(self, *arguments: str) -> list[str]:
        """`ctr` with these arguments, to this daemon."""
        return ["ctr", "--address", str(self.socket), "--namespace", NAMESPACE, *arguments]

    def ask(self, *arguments: str) -> str:
        """What `ctr` says; a failure is an AssertionError with its reason."""
        done = subprocess.run(
            self.command(*arguments), capture_output=True, text=True, check=False, timeout=300
        )
        assert done.returncode == 0, f"ctr {arguments}: {done.stderr}"
        return done.stdout

    def tasks(self) -> dict[str, tuple[int, str]]:
        """Pid and state (`RUNNING`, `STOPPED`) of each container's first process, by id."""
        rows = [line.split() for line in self.ask("tasks", "ls").splitlines()[1:]]
        return {name: (int(pid), state) for name, pid, state in rows}

    @contextlib.contextmanager
    def container(
        self, cgroup: str, *command: str, limit_bytes: int, container_id: str
    ) -> Iterator[Container]:
        """One that runs in this cgroup; it and what it leaves are removed at the end.

        The cgroup's parents that hold nothing else are removed with it.
        """
        limit = ["--memory-limit", str(limit_bytes)]
        run = ["run", "--detach", "--null-io", *limit, "--cgroup", cgroup, IMAGE, container_id]
        try:
            self.ask(*run, *command)
            yield Container(self, container_id)
        finally:
            self.discard(container_id)
            cgroup_tree.remove_empty(cgroup, up_to="/" + cgroup.split("/")[1])

    def discard(self, container_id: str) -> None:
        """Kill and remove a container, in whatever state it is."""
        for steps in (["tasks", "delete", "--force"], ["containers", "delete"]):
            subprocess.run(
                self.command(*steps, container_id), capture_output=True, check=False, timeout=60
            )

    def discard_all(self) -> None:
        """Leave no container of this daemon."""
        for container_id in self.ask("containers", "ls", "--quiet").split():
            self.discard(container_id)


class Container:
    """A container that was started."""

    def __init__(self, runtime: Containerd, container_id: str) -> None:
        self.id = container_id
        self._runtime = runtime

    @property
    def pid(self) -> int:
        """Of its first process, as the host counts."""
        return self._runtime.tasks()[self.id][0]

    def is_running(self) -> bool:
        """Whether its first process lives."""
        return self._runtime.tasks()[self.id][1] == "RUNNING"

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a second process in it, as `kubectl exec` does."""
        name = secrets.token_hex(4)
        command = ("tasks", "exec", "--exec-id", name, self.id, *command)
        return subprocess.Popen(
            self._runtime.command(*command), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )

    def wait(self) -> None:
        """Return when its first process has ended."""
        deadline = time.monotonic() + _PATIENCE_S
        while self.is_running():
            assert time.monotonic() < deadline, f"{self.id} still runs"
            time.sleep(_POLL_S)


@contextlib.contextmanager
def running(*, cri: bool = False) -> Iterator[Containerd]:
    """A daemon with the image, ready when yielded.

    Its folder is a short one of its own: a socket's path has at most 107 bytes.
    """
    folder = pathlib.Path(tempfile.mkdtemp(prefix="containerd-"))
    runtime = Containerd(folder)
    config = folder / "config.toml"
    disabled = "" if cri else _WITHOUT_CRI
    config.write_text(_CONFIG.format(folder=folder, image=IMAGE, disabled=disabled))
    with runtime.log.open("wb") as log:
        process = subprocess.Popen(
            ["containerd", "--config", str(config)], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        _wait_until_ready(process, runtime)
        _import_image(runtime)
        yield runtime
    finally:
        _stop(process, runtime)


def _wait_until_ready(process: subprocess.Popen[bytes], runtime: Containerd) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    ask = runtime.command("version")
    while subprocess.run(ask, capture_output=True, check=False).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"containerd did not start:\n{runtime.log.read_text()}")
        time.sleep(_POLL_S)


def _import_image(runtime: Containerd) -> None:
    busybox = shutil.which("busybox")
    assert busybox is not None, "apt-get install busybox-static"
    programs = {name: pathlib.Path(busybox) for name in ("busybox", "sh", "sleep")}
    programs["hog"] = memory_cgroup.hog_binary()
    tar = runtime.folder / "image.tar"
    oci_image.write(tar, IMAGE, programs, ["hog", "pause"])
    runtime.ask("images", "import", str(tar))


def _stop(process: subprocess.Popen[bytes], runtime: Containerd) -> None:
    """Containers first, which ends their shims; then the daemon, its mounts and its folder."""
    try:
        if process.poll() is None:
            runtime.discard_all()
    finally:
        process.terminate()
        process.wait(_PATIENCE_S)
        _end_shims(runtime)
        unmount_below(runtime.folder)
        shutil.rmtree(runtime.folder)


def _end_shims(runtime: Containerd) -> None:
    """Those that outlived their container: their command line has this daemon's socket."""
    address = f"\0-address\0{runtime.socket}\0".encode()
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if address in (process / "cmdline").read_bytes():
                os.kill(int(process.name), signal.SIGKILL)


def unmount_below(folder: pathlib.Path) -> None:
    """Unmount all that is mounted somewhere in this folder."""
    mounts = pathlib.Path("/proc/self/mounts").read_text().splitlines()
    found = [where for _, where, *_ in map(str.split, mounts) if where.startswith(f"{folder}/")]
    for where in reversed(found):
        subprocess.run(["umount", "--lazy", where], check=True)


def missing() -> Sequence[str]:
    """Debian's packages that this double lacks."""
    tools = {"containerd": "containerd", "ctr": "containerd", "runc": "runc"}
    lacking = {package for tool, package in tools.items() if shutil.which(tool) is None}
    return sorted(lacking | ({"busybox-static"} if shutil.which("busybox") is None else set()))
