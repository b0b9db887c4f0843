"""Credentials of a kubeconfig, by the package `kubernetes` (extra `[kubernetes]`).

It knows all the ways of a kubeconfig: certificates, tokens, programs that make tokens. It is
imported only here, because it takes 40 MiB; and asked in the thread pool, because it blocks.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from otel_oom import errors
from otel_oom.kubernetes import credentials


class KubeConfigCredentials:
    """Those of one context of a kubeconfig."""

    def __init__(self, configuration: Any) -> None:
        """`configuration`: a loaded `kubernetes.client.Configuration`."""
        self._configuration = configuration
        self.url: str = configuration.host.rstrip("/")
        self.server_name: str | None = configuration.tls_server_name or None

    def context(self) -> ssl.SSLContext:
        """TLS with the kubeconfig's roots and client certificate."""
        found = self._configuration
        return credentials.tls_context(
            found.ssl_ca_cert,
            verify=found.verify_ssl,
            certificate=(found.cert_file, found.key_file) if found.cert_file else None,
        )

    async def authorization(self) -> str | None:
        """The token or the password's header; a program that makes tokens is run when one ends."""
        try:
            settings = await asyncio.to_thread(self._configuration.auth_settings)
        except Exception as failure:  # the package's, and those of programs that it runs
            raise errors.KubernetesError(f"kubeconfig: {failure}", "credentials") from failure
        return settings["BearerToken"]["value"] if "BearerToken" in settings else None


async def load(path: str | None, context: str | None) -> KubeConfigCredentials:
    """Read a kubeconfig (default: as kubectl finds it), or raise `errors.ComponentError`."""
    found = await asyncio.to_thread(_load, path, context)
    if found.proxy:
        raise errors.ComponentError(
            f"the kubeconfig's proxy ({found.proxy}) is not supported: use a context whose server "
            "the agent can reach itself"
        )
    return KubeConfigCredentials(found)


def _load(path: str | None, context: str | None) -> Any:
    try:
        from kubernetes import client, config  # noqa: PLC0415  # see the module's text
    except ImportError as failure:
        raise errors.ComponentError(
            "auth_type kubeConfig needs the package `kubernetes`: "
            "pip install 'otel-oom[kubernetes]'; within a cluster use auth_type serviceAccount"
        ) from failure
    found = client.Configuration()
    found.proxy = None  # of the environment; it is not meant for the agent
    try:
        load_kube_config: Any = config.load_kube_config  # it has no types
        load_kube_config(path, context, found)
    except Exception as failure:  # of the package and of its YAML, with what is wrong in words
        raise errors.ComponentError(f"kubeconfig {path or ''}: {failure}") from failure
    return found
