"""A command that finds a service account where a pod has one, without touching this machine's /run."""

from __future__ import annotations

import pathlib
import shlex

from doubles import kube_client

_ACCOUNT = "/run/secrets/kubernetes.io/serviceaccount"


def wrapper(
    folder: pathlib.Path, server: kube_client.Client, token: str, *command: object
) -> tuple[pathlib.Path, pathlib.Path]:
    """An executable that runs the command with its arguments, and the file where it writes its pid.

    In a mount namespace of its own, with the variables that a pod has. It stays the same process.
    Needs root.
    """
    folder.mkdir()
    (folder / "token").write_text(token)
    (folder / "ca.crt").write_bytes(server.ca.read_bytes())
    inner = (
        f"mkdir {folder}/kept && mount --bind {folder} {folder}/kept && mount -t tmpfs tmpfs /run && "
        f"mkdir -p {_ACCOUNT} && cp {folder}/kept/token {folder}/kept/ca.crt {_ACCOUNT} && "
        f'exec {shlex.join(map(str, command))} "$@"'
    )
    script, pid_file = folder / "run", folder / "pid"
    script.write_text(
        "#!/bin/sh\n"
        f"echo $$ > {pid_file}\n"
        f"export KUBERNETES_SERVICE_HOST=127.0.0.1 KUBERNETES_SERVICE_PORT={server.port}\n"
        f'exec unshare --mount sh -c {shlex.quote(inner)} sh "$@"\n'
    )
    script.chmod(0o755)
    return script, pid_file
