"""The manifests of configs/deploy as `kubectl apply -k` sends them, rendered by the real kubectl."""

from __future__ import annotations

import functools
import pathlib
import subprocess
from typing import Any

import yaml
from doubles import kube_apiserver

DEPLOY = pathlib.Path(__file__).parents[2] / "configs" / "deploy"
FOLDERS = ["base", *sorted(f"overlays/{one.name}" for one in (DEPLOY / "overlays").iterdir())]
"""What can be applied."""


@functools.cache
def render(folder: str) -> list[Any]:
    """The objects of a folder of configs/deploy. Raises kube_apiserver.BuildFailed."""
    command = [kube_apiserver.build("kubectl"), "kustomize", DEPLOY / folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(folder: str, kind: str) -> list[Any]:
    """Only the objects of this kind."""
    return [found for found in render(folder) if found["kind"] == kind]
