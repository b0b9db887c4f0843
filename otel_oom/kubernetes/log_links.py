"""The container that an id is of, as the kubelet tells it on the node itself: by a link.

For every container that it starts the kubelet makes a link in /var/log/containers whose name ends
in the container's id, to `NAMESPACE_POD_UID/CONTAINER/RESTARTS.log`. It does so as soon as the
container runs; the pod's status has the id seconds later, or never if that instance was short.
Only the link is read, never the log.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

FOLDER = "/var/log/containers"
_TARGET = re.compile(r"(?:^|/)([^/_]+)_([^/_]+)_([^/_]+)/([^/]+)/([0-9]+)\.log$")


class Link(NamedTuple):
    """A container's instance. `pod_uid` is the node's: of a static pod the hash of its file."""

    namespace: str
    pod: str
    pod_uid: str
    container: str
    restart_count: int


def find(container_id: str, folder: str = FOLDER) -> Link | None:
    """The link of this container; None if there is none, no such folder or no right to read it."""
    try:
        links = Path(folder).glob(f"*-{container_id}.log")
        return next((read(str(link.readlink())) for link in links), None)
    except OSError:  # it may be removed while we look
        return None


def read(target: str) -> Link | None:
    """What the target's path tells; None if it is no kubelet's."""
    found = _TARGET.search(target)
    if found is None:
        return None
    namespace, pod, pod_uid, container, restarts = found.groups()
    return Link(namespace, pod, pod_uid, container, int(restarts))
