"""Where an API server or a kubelet is, whom to trust there, and who we say we are.

Names and meaning of `auth_type` are the collector's. Tokens and roots are files that are
renewed while we run: a token is read for each request, roots when a connection is made.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from otel_oom import errors

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod has the token of its service account and the cluster's roots."""


class Credentials(Protocol):
    """What a client needs beside the path."""

    url: str
    """Base URL, without a slash at its end."""

    server_name: str | None
    """Name that the certificate must have, if it is not the URL's host."""

    def context(self) -> ssl.SSLContext:
        """TLS for a new connection; `errors.KubernetesError` if a file cannot be used now."""

    async def authorization(self) -> str | None:
        """The header's value, or None; `errors.KubernetesError` if it cannot be had now."""


class FileCredentials:
    """Token and roots in files, as every pod has them."""

    server_name: str | None = None

    def __init__(
        self,
        url: str,
        *,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        verify: bool = True,
    ) -> None:
        """Without `ca_file` the system's roots are trusted; without `verify` anyone is."""
        self.url = url.rstrip("/")
        self._token_file = token_file
        self._ca_file = ca_file
        self._verify = verify
        self._stamp: object = None
        self._context: ssl.SSLContext | None = None

    def check(self) -> None:
        """Raise `errors.ComponentError` if a file cannot be used: at the start that is fatal."""
        try:
            self._token()
            self.context()
        except errors.KubernetesError as failure:
            raise errors.ComponentError(str(failure)) from failure

    def context(self) -> ssl.SSLContext:
        """TLS with the roots as they are now."""
        now = _stamp(self._ca_file)
        if self._context is None or now != self._stamp:
            self._context, self._stamp = tls_context(self._ca_file, verify=self._verify), now
        return self._context

    async def authorization(self) -> str | None:
        """The token as it is now."""
        token = self._token()
        return f"Bearer {token}" if token else None

    def _token(self) -> str | None:
        if self._token_file is None:
            return None
        try:
            token = self._token_file.read_text("ascii").strip()
        except (OSError, UnicodeDecodeError) as failure:
            raise _unusable(self._token_file, "token", failure) from failure
        if not token or not token.isprintable() or " " in token:
            raise _unusable(self._token_file, "token", ValueError("it holds no token"))
        return token


def service_account(
    environment: Mapping[str, str] = os.environ, folder: Path = SERVICE_ACCOUNT
) -> FileCredentials:
    """Those of the pod that we run in, or `errors.ComponentError` that says what is missing."""
    host = environment.get("KUBERNETES_SERVICE_HOST")
    port = environment.get("KUBERNETES_SERVICE_PORT")
    if not host or not port:
        raise errors.ComponentError(
            "auth_type serviceAccount: not in a Kubernetes pod (KUBERNETES_SERVICE_HOST and "
            "KUBERNETES_SERVICE_PORT are not set); outside a cluster use auth_type kubeConfig, "
            "without a cluster auth_type none"
        )
    where = f"[{host}]" if ":" in host else host
    found = FileCredentials(
        f"https://{where}:{port}", token_file=folder / "token", ca_file=folder / "ca.crt"
    )
    found.check()
    return found


def tls_context(
    ca_file: str | Path | None,
    *,
    verify: bool = True,
    certificate: tuple[str, str | None] | None = None,
) -> ssl.SSLContext:
    """TLS with these roots, and with the PEM files of a client's `certificate` and its key.

    Not `ssl.create_default_context`: from Python 3.13 on it refuses roots that lack what
    RFC 5280 wants of them, as those of many clusters do.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    try:
        if certificate:
            context.load_cert_chain(*certificate)
        if ca_file:
            context.load_verify_locations(cafile=ca_file)
        elif verify:
            context.load_default_certs()
    except OSError as failure:  # which ssl.SSLError is too
        path = Path(ca_file or (certificate or ("the certificate",))[0])
        raise _unusable(path, "PEM file", failure) from failure
    return context


def _unusable(path: Path, what: str, failure: Exception) -> errors.KubernetesError:
    reason = getattr(failure, "strerror", None) or getattr(failure, "reason", None) or failure
    text = f"{path}: {reason}; give a {what} that this user can read"
    return errors.KubernetesError(text, "credentials")


def _stamp(path: Path | None) -> object:
    """Changes when the file is replaced, also by way of a symbolic link, or rewritten."""
    try:
        found = path.stat() if path else None
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size) if found else None
