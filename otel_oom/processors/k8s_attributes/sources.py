"""Whom the options ask: an API server, the node's kubelet, or nobody.

What talks to a cluster is imported only if there is one.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from otel_oom import errors
from otel_oom.kubernetes.source import Source
from otel_oom.processors.k8s_attributes import selections
from otel_oom.processors.k8s_attributes.config import Config

if TYPE_CHECKING:
    from otel_oom.kubernetes.credentials import Credentials, FileCredentials

_LOG = logging.getLogger(__name__)
_KUBELET_PORT = 10250


async def make(config: Config, version: str) -> Source | None:
    """The source, or None if nobody is to be asked; `errors.ComponentError` if it cannot work."""
    if config.passthrough or config.auth_type == "none":
        return None
    user_agent = f"otel-oom/{version}"
    if config.source == "kubelet":
        return _kubelet(config, user_agent)
    if config.auth_type == "serviceAccount" and not os.environ.get("KUBERNETES_SERVICE_HOST"):
        _LOG.info(
            "k8s_attributes: not in a cluster (KUBERNETES_SERVICE_HOST is not set): records say "
            "what the path of their cgroup tells"
        )
        return None
    return await _api_server(config, user_agent)


async def _api_server(config: Config, user_agent: str) -> Source:
    from otel_oom.kubernetes.api import Api  # noqa: PLC0415  # see above
    from otel_oom.kubernetes.reflector import Reflector  # noqa: PLC0415
    from otel_oom.kubernetes.trim import Trim  # noqa: PLC0415

    api = Api(await _credentials(config), user_agent=user_agent)
    trim = Trim(selections.needed_annotations(config))
    return Reflector(api, selections.kinds(config), trim=trim)


async def _credentials(config: Config) -> Credentials:
    from otel_oom.kubernetes import credentials, kubeconfig  # noqa: PLC0415  # see above

    if config.auth_type == "kubeConfig":
        return await kubeconfig.load(config.kube_config_path or None, config.context or None)
    return credentials.service_account()


def _kubelet(config: Config, user_agent: str) -> Source:
    from otel_oom.kubernetes.api import Api  # noqa: PLC0415  # see above
    from otel_oom.kubernetes.kubelet import Kubelet  # noqa: PLC0415
    from otel_oom.kubernetes.trim import Trim  # noqa: PLC0415

    return Kubelet(
        Api(_of_kubelet(config), user_agent=user_agent),
        interval_s=config.kubelet.poll_interval,
        trim=Trim(selections.needed_annotations(config)),
    )


def _of_kubelet(config: Config) -> FileCredentials:
    """Over TLS with the service account's files, as far as they are there."""
    from otel_oom.kubernetes import credentials  # noqa: PLC0415  # see above

    url = config.kubelet.endpoint or _default_endpoint(config)
    if url.startswith("http://"):
        return credentials.FileCredentials(url)
    token, roots = credentials.SERVICE_ACCOUNT / "token", credentials.SERVICE_ACCOUNT / "ca.crt"
    found = credentials.FileCredentials(
        url,
        token_file=_if_there(token),
        ca_file=Path(config.kubelet.ca_file) if config.kubelet.ca_file else _if_there(roots),
        verify=not config.kubelet.insecure_skip_verify,
    )
    found.check()
    return found


def _if_there(path: Path) -> Path | None:
    return path if path.exists() else None


def _default_endpoint(config: Config) -> str:
    node = selections.node_name(config.filter)
    if not node:
        raise errors.ComponentError(
            "`source: kubelet`: it is not known where the kubelet is; name the node in "
            "`filter.node` or `filter.node_from_env_var`, or set `kubelet.endpoint`"
        )
    return f"https://{node}:{_KUBELET_PORT}"
