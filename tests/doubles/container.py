"""Runs the project's image with runc, as a container runtime would, without an engine."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

_BUILD = pathlib.Path(__file__).parents[2] / "tools" / "image" / "build.sh"
_NOBODY = 65534
_STOP_S = 30.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Container:
    """A running container. `state` is its writable folder, seen from outside."""

    process: subprocess.Popen[str]
    state: pathlib.Path


def build() -> str:
    """The image's name, built unless it is up to date."""
    subprocess.run([_BUILD], check=True, stdout=subprocess.DEVNULL)
    return "otel-oom"


@contextlib.contextmanager
def root_of(image: str) -> Iterator[tuple[pathlib.Path, dict[str, Any]]]:
    """The image's root file system, mounted, and its config (Entrypoint, Env, WorkingDir)."""
    container = _buildah("from", "--pull-never", image)
    try:
        told = json.loads(_buildah("inspect", container))
        yield pathlib.Path(_buildah("mount", container)), told["OCIv1"]["config"]
    finally:
        _buildah("rm", container)


@contextlib.contextmanager
def running(
    image: str, arguments: Sequence[str], capabilities: Sequence[str], folder: pathlib.Path
) -> Iterator[Container]:
    """The image's entry point as `nobody`, with these capabilities only and the host's PIDs.

    Its root and /sys are read-only; the image's working folder is writable. Stopped at the end
    with SIGTERM, as a runtime does it.
    """
    state = folder / "state"
    state.mkdir()
    os.chown(state, _NOBODY, _NOBODY)
    with root_of(image) as (root, config):
        spec = _spec(root, config, arguments, capabilities, state)
        with run(spec, folder, state) as found:
            yield found


@contextlib.contextmanager
def run(spec: dict[str, Any], folder: pathlib.Path, state: pathlib.Path) -> Iterator[Container]:
    """A container of this OCI spec, whose bundle is `folder`. Stopped as above."""
    (folder / "config.json").write_text(json.dumps(spec))
    command = ["runc", "--root", f"{folder}/runc", "run", "--bundle", str(folder), name()]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield Container(process=process, state=state)
    finally:
        process.terminate()  # runc hands it on to the container
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_STOP_S)
        process.kill()


def name() -> str:
    """What runc calls the container of this test run."""
    return f"otel-oom-test-{os.getpid()}"


def _buildah(*arguments: str) -> str:
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot", "STORAGE_DRIVER": "vfs"}
    done = subprocess.run(
        ["buildah", *arguments], env=environment, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def _spec(
    root: pathlib.Path,
    config: dict[str, Any],
    arguments: Sequence[str],
    capabilities: Sequence[str],
    state: pathlib.Path,
) -> dict[str, Any]:
    """The least that the OCI runtime specification asks for."""
    kinds = ("bounding", "effective", "inheritable", "permitted", "ambient")
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": _NOBODY, "gid": _NOBODY},
            "args": [*config["Entrypoint"], *arguments],
            "env": config["Env"],
            "cwd": config["WorkingDir"],
            "capabilities": {kind: list(capabilities) for kind in kinds},
            "noNewPrivileges": True,
        },
        "root": {"path": str(root), "readonly": True},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid"]},
            {"destination": "/sys", "type": "none", "source": "/sys", "options": ["rbind", "ro"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"},
            _bind(state, config["WorkingDir"]),
        ],
        "linux": {"namespaces": [{"type": "mount"}]},
    }


def _bind(source: pathlib.Path, destination: str) -> dict[str, Any]:
    return {
        "destination": destination,
        "type": "none",
        "source": str(source),
        "options": ["bind", "rw"],
    }
