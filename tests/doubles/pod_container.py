"""A container of a pod's manifest, run with runc as a kubelet and containerd would have it run.

Of the manifest it takes the command, user, capabilities, mounts and what of the host it sees. The
volumes `config`, `state` and `container-logs`, which only a kubelet's host has, are folders of the
test; every other is the host's own path.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

from doubles import container


@contextlib.contextmanager
def running(
    image: str, pod: Mapping[str, Any], folder: pathlib.Path, *more_arguments: str
) -> Iterator[container.Container]:
    """The first container of a pod's spec; `folder` has its `config`, and gets its `state`."""
    spec = pod["containers"][0]
    state, links = folder / "state", folder / "container-logs"
    state.mkdir()
    links.mkdir()
    sources = {
        volume["name"]: volume["hostPath"]["path"]
        for volume in pod["volumes"]
        if "hostPath" in volume
    } | {"config": str(folder / "config"), "state": str(state), "container-logs": str(links)}
    mounts = [_mount(sources[mount["name"]], mount) for mount in spec["volumeMounts"]]
    with container.root_of(image) as (root, config):
        environment = [*config["Env"], "NODE_NAME=node-1"]
        process = {
            "user": {"uid": spec["securityContext"]["runAsUser"], "gid": 0},
            "args": [*config["Entrypoint"], *spec["args"], *more_arguments],
            "env": environment,
            "cwd": config["WorkingDir"],
            "capabilities": _capabilities(spec["securityContext"]["capabilities"]),
            "noNewPrivileges": not spec["securityContext"]["allowPrivilegeEscalation"],
        }
        with container.run(_bundle(root, spec, pod, process, mounts), folder, state) as found:
            yield found


def execute(folder: pathlib.Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a probe's command in the container that runs in `folder`."""
    entered = ["runc", "--root", f"{folder}/runc", "exec", container.name(), *command]
    return subprocess.run(entered, capture_output=True, text=True, check=False, timeout=60)


def _bundle(
    root: pathlib.Path,
    spec: Mapping[str, Any],
    pod: Mapping[str, Any],
    process: dict[str, Any],
    mounts: list[dict[str, Any]],
) -> dict[str, Any]:
    """With the file systems and namespaces that every container of containerd has."""
    own = [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid"]},
    ]
    namespaces = [{"type": kind} for kind in ("mount", "ipc", "uts", "network")]
    if not pod.get("hostPID"):
        namespaces.append({"type": "pid"})
    return {
        "ociVersion": "1.0.2",
        "hostname": f"otel-oom-{os.getpid()}",
        "process": process,
        "root": {
            "path": str(root),
            "readonly": spec["securityContext"]["readOnlyRootFilesystem"],
        },
        "mounts": own + mounts,
        "linux": {"namespaces": namespaces},
    }


def _capabilities(asked: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """As containerd gives them: no ambient ones, so a user that is not root has none."""
    assert asked["drop"] == ["ALL"]
    names = [f"CAP_{name}" for name in asked["add"]]
    return dict.fromkeys(("bounding", "effective", "permitted"), names)


def _mount(source: str, mount: Mapping[str, Any]) -> dict[str, Any]:
    options = ["rbind", "ro" if mount.get("readOnly") else "rw"]
    return {
        "destination": mount["mountPath"],
        "type": "bind",
        "source": source,
        "options": options,
    }
