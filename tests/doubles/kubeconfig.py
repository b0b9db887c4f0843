"""Credentials as files: a kubeconfig, and what a pod finds of its service account."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence

from doubles import kube_client

_SERVICE_ACCOUNT = "secrets/kubernetes.io/serviceaccount"


def write(path: pathlib.Path, api: kube_client.Client, token: str) -> None:
    """A kubeconfig with one context, of whoever has this token."""
    cluster = {"server": api.url, "certificate-authority": str(api.ca)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "it", "cluster": cluster}],
        "users": [{"name": "me", "user": {"token": token}}],
        "contexts": [{"name": "here", "context": {"cluster": "it", "user": "me"}}],
        "current-context": "here",
    }
    path.write_text(json.dumps(config))


def as_in_a_pod(
    folder: pathlib.Path, api: kube_client.Client, token: str
) -> tuple[Sequence[str], Mapping[str, str]]:
    """The command that runs another one with this token in /run, and its environment.

    The directory is the real one's place in a mount namespace of the command's own.
    """
    secrets = folder / "run" / _SERVICE_ACCOUNT
    secrets.mkdir(parents=True)
    (secrets / "token").write_text(token)
    (secrets / "ca.crt").write_text(api.ca.read_text())
    enter = 'mount --bind "$0" /run && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", enter, str(folder / "run")]
    where = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(api.port)}
    return command, where
