"""A small synchronous client of a Kubernetes API server, for tests: plain JSON over HTTPS."""

from __future__ import annotations

import contextlib
import http.client
import json
import pathlib
import ssl
from collections.abc import Mapping
from typing import Any

MANAGER = "tests"
"""The field manager of what is applied."""
_STRICT = f"?fieldManager={MANAGER}&force=true&fieldValidation=Strict"
_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_TIMEOUT_S = 30.0


class Refused(Exception):
    """The API server did not do it."""

    def __init__(self, status: int, answer: Any) -> None:
        """Keep the HTTP status; `answer` is a `Status` object."""
        super().__init__(f"{status}: {answer.get('message', answer)}")
        self.status = status
        self.answer = answer


class Client:
    """Speaks to `localhost:port` with one token unless told another."""

    def __init__(self, port: int, ca: pathlib.Path, token: str) -> None:
        """Trust the authority of the PEM file `ca`."""
        self.port, self.ca, self.token = port, ca, token
        self._tls = ssl.create_default_context(cafile=str(ca))
        self._resources: dict[tuple[str, str], tuple[str, bool]] = {}

    @property
    def url(self) -> str:
        """Base URL."""
        return f"https://localhost:{self.port}"

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        content_type: str = "application/json",
    ) -> Any:
        """The object of the answer. Raises Refused for any status that is not 2xx."""
        connection = http.client.HTTPSConnection(
            "localhost", self.port, timeout=_TIMEOUT_S, context=self._tls
        )
        headers = {"Authorization": f"Bearer {token or self.token}", "Content-Type": content_type}
        with contextlib.closing(connection):
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            text = answer.read()
        read = json.loads(text) if text[:1] == b"{" else {"message": text.decode()}
        if answer.status >= http.HTTPStatus.MULTIPLE_CHOICES:
            raise Refused(answer.status, read)
        return read

    def apply(self, *objects: Mapping[str, Any], dry_run: bool = False) -> list[Any]:
        """Server-side apply, where an unknown or double field is an error; what is now stored."""
        query = _STRICT + ("&dryRun=All" if dry_run else "")
        return [
            self.request("PATCH", self.path_of(found) + query, found, content_type=_APPLY)
            for found in objects
        ]

    def set_status(self, found: Mapping[str, Any], status: Mapping[str, Any]) -> Any:
        """Merge this into the object's status, as a kubelet or a controller does."""
        path = self.path_of(found) + "/status"
        return self.request("PATCH", path, {"status": status}, content_type=_MERGE)

    def delete(self, *objects: Mapping[str, Any]) -> None:
        """Delete at once: a pod does not wait for a kubelet."""
        for found in objects:
            self.request("DELETE", self.path_of(found) + "?gracePeriodSeconds=0")

    def token_of(self, namespace: str, service_account: str, seconds: int = 3600) -> str:
        """A token of the service account, as a kubelet asks for a pod's."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{service_account}/token"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest"}
        answer = self.request("POST", path, {**asked, "spec": {"expirationSeconds": seconds}})
        return str(answer["status"]["token"])

    def path_of(self, found: Mapping[str, Any]) -> str:
        """Where the object is."""
        version, meta = found["apiVersion"], found["metadata"]
        plural, namespaced = self._resource(version, found["kind"])
        where = f"/namespaces/{meta.get('namespace', 'default')}" if namespaced else ""
        return f"{_base(version)}{where}/{plural}/{meta['name']}"

    def _resource(self, version: str, kind: str) -> tuple[str, bool]:
        """Plural name of a kind, and whether it is namespaced, as the server tells."""
        if (version, kind) not in self._resources:
            for one in self.request("GET", _base(version))["resources"]:
                if "/" not in one["name"]:
                    self._resources[version, one["kind"]] = (one["name"], one["namespaced"])
        return self._resources[version, kind]


def _base(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"
