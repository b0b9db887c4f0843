"""When a node and its API server told of each container, as a bystander sees it.

    with container_news.watching(cluster.api, namespace) as news:
        ...
    print(news.of(container_id, pod_uid, since_s=killed_s))

By inotify on the links that the kubelet makes for readers of logs, and by a watch of the pods: two
ways by which an agent can learn a container's name. Seconds are those of the clock of the day, as
records have them.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import os
import pathlib
import re
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

from doubles import kube_client

LINKS = pathlib.Path("/var/log/containers")
_CREATE, _MOVED_TO, _DELETE = 0x100, 0x80, 0x200
_EVENT = struct.Struct("iIII")
_ID = re.compile(r"[0-9a-f]{64}")
_LOOK_S = 0.2


@dataclasses.dataclass
class News:
    """When each container id was first told of, and when its link went."""

    linked: dict[str, float] = dataclasses.field(default_factory=dict)
    unlinked: dict[str, float] = dataclasses.field(default_factory=dict)
    named: dict[str, float] = dataclasses.field(default_factory=dict)
    deleted: dict[str, float] = dataclasses.field(default_factory=dict)
    """By pod UID: when it was gone from the API server."""

    def of(self, container_id: str, pod_uid: str, *, since_s: float) -> str:
        """How long after a moment each came; `never` if it did not."""
        told = {
            "link": self.linked.get(container_id),
            "status": self.named.get(container_id),
            "link's end": self.unlinked.get(container_id),
            "pod's end": self.deleted.get(pod_uid),
        }
        return ", ".join(
            f"{what} {f'{at - since_s:+.3f} s' if at else 'never'}" for what, at in told.items()
        )


@contextlib.contextmanager
def watching(api: kube_client.Client, namespace: str) -> Iterator[News]:
    """Watch in threads of our own until left."""
    news, stop = News(), threading.Event()
    links = threading.Thread(target=_links, args=(news, stop))
    with _watch(api, namespace) as lines:
        statuses = threading.Thread(target=_statuses, args=(news, lines))
        links.start()
        statuses.start()
        try:
            yield news
        finally:
            stop.set()
            links.join()
    statuses.join()


def _links(news: News, stop: threading.Event) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    LINKS.mkdir(parents=True, exist_ok=True)
    fd = libc.inotify_init1(os.O_CLOEXEC)
    watch = libc.inotify_add_watch(fd, bytes(LINKS), _CREATE | _MOVED_TO | _DELETE)
    assert watch >= 0, os.strerror(ctypes.get_errno())
    try:
        while not stop.is_set():
            if select.select([fd], [], [], _LOOK_S)[0]:
                for mask, name in _events(os.read(fd, 1 << 16)):
                    _note(news.unlinked if mask & _DELETE else news.linked, name)
    finally:
        os.close(fd)


def _events(raw: bytes) -> Iterator[tuple[int, str]]:
    at = 0
    while at < len(raw):
        _, mask, _, length = _EVENT.unpack_from(raw, at)
        at += _EVENT.size + length
        yield mask, raw[at - length : at].rstrip(b"\0").decode()


def _note(into: dict[str, float], text: str) -> None:
    for container_id in _ID.findall(text):
        into.setdefault(container_id, time.time())


def _statuses(news: News, lines: BinaryIO) -> None:
    """Until the connection is shut."""
    for line in lines:
        if line.startswith(b"{"):  # else of the answer's head
            _told(news, json.loads(line))


@contextlib.contextmanager
def _watch(api: kube_client.Client, namespace: str) -> Iterator[BinaryIO]:
    """A watch of the pods, an event a line; its reader ends when this is left."""
    tls = ssl.create_default_context(cafile=str(api.ca))
    path = f"/api/v1/namespaces/{namespace}/pods?watch=true"
    head = f"GET {path} HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer {api.token}\r\n\r\n"
    with (
        socket.create_connection(("localhost", api.port)) as plain,
        tls.wrap_socket(plain, server_hostname="localhost") as connection,
        connection.makefile("rb") as lines,
    ):
        connection.sendall(head.encode())
        try:
            yield lines
        finally:
            connection.shutdown(socket.SHUT_RDWR)


def _told(news: News, event: dict[str, Any]) -> None:
    pod = event["object"]
    _note(news.named, json.dumps(pod["status"]))
    if event["type"] == "DELETED":
        news.deleted[pod["metadata"]["uid"]] = time.time()
