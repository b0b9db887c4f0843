"""What the real Tempo and the real Loki have in common: a build, a process, questions over HTTP.

Both are built by tests/peers/grafana/build.sh from Go modules, listen on loopback, tell nobody of
their use, and know each tenant by the header `X-Scope-OrgID`.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import pathlib
import subprocess
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Any

_BUILD = pathlib.Path(__file__).parents[1] / "peers" / "grafana" / "build.sh"
_READY_S = 90.0
TENANT_HEADER = "X-Scope-OrgID"


class BuildFailed(Exception):
    """A backend could not be built; the text ends with what the builder said last."""


class Refused(Exception):
    """An answer that is not 200: its status and what it says."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text}")
        self.status = status


def build(name: str) -> pathlib.Path:
    """The binary of `tempo` or `loki`; minutes the first time, then from the cache."""
    done = subprocess.run([_BUILD, name], capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildFailed((done.stderr.strip().splitlines() or ["no message"])[-1])
    return pathlib.Path(done.stdout.strip())


class Backend:
    """Questions to a backend that runs, each in the name of a tenant."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(
        self, path: str, tenant: str, headers: Mapping[str, str] | None = None, **query: Any
    ) -> bytes:
        """The body of the answer. Raises Refused."""
        return self.request("GET", f"{path}?{urllib.parse.urlencode(query)}", tenant, None, headers)

    def get_json(self, path: str, tenant: str, **query: Any) -> Any:
        """The answer as JSON."""
        return json.loads(self.get(path, tenant, **query))

    def request(
        self,
        method: str,
        path: str,
        tenant: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """The body of the answer; `tenant` may be empty. Raises Refused."""
        own = {TENANT_HEADER: tenant} if tenant else {}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, {**own, **(headers or {})})
            answer = connection.getresponse()
            text = answer.read()
        if answer.status // 100 != 2:
            raise Refused(answer.status, text.decode(errors="replace").strip())
        return text


@contextlib.contextmanager
def running(name: str, config: str, folder: pathlib.Path, backend: Backend) -> Iterator[None]:
    """A process of the backend, ready when yielded; its log is NAME.log in `folder`."""
    path, log = folder / f"{name}.yaml", folder / f"{name}.log"
    path.write_text(config)
    with log.open("wb") as said:
        process = subprocess.Popen(
            [build(name), f"-config.file={path}"], stdout=said, stderr=said, cwd=folder
        )
    try:
        _wait_until(lambda: backend.get("/ready", ""), process, log)
        yield
    finally:
        process.kill()  # they take half a minute to stop, and nobody wants what they keep
        process.wait()


def _wait_until(
    ready: Callable[[], Any], process: subprocess.Popen[bytes], log: pathlib.Path
) -> None:
    deadline = time.monotonic() + _READY_S
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException, Refused):
            ready()
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"it did not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.1)
