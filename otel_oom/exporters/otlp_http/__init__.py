"""OTLP over HTTP/1.1, as binary protobuf or as JSON.

For where gRPC does not get through, and for the smallest agent: nothing here imports grpc.
"""

from __future__ import annotations

import asyncio
import logging
import os
import zlib

from otel_oom import errors
from otel_oom.exporters.otlp_http.config import Config
from otel_oom.http import client as http_client
from otel_oom.http import message as http_message
from otel_oom.pipeline import component, tls
from otel_oom.pipeline.data import Signal
from otel_oom.pipeline.otlp import environment as otlp_env
from otel_oom.pipeline.otlp import json as otlp_json
from otel_oom.pipeline.otlp import status as otlp_status
from otel_oom.pipeline.sending import chain as sending
from otel_oom.pipeline.sending import limits
from otel_oom.pipeline.sending.request import Answer, Request

_log = logging.getLogger(__name__)

IN_THREAD_BYTES = 256 * 1024
"""Bodies from this size on are compressed in the loop's thread pool, not to hold up the loop."""


class Push:
    """One POST, and the judgement of its answer."""

    def __init__(self, config: Config, settings: component.Settings) -> None:
        self._name = settings.name
        self._urls = {signal: config.url(signal) for signal in Signal}
        self._json = config.encoding == "json"
        self._level = None if config.compression == "none" else config.compression_params.level
        self._headers = self._fixed_headers(config, settings.version)
        self._tls = tls.Reloading(config.tls)
        self._client = http_client.HttpClient(
            context=self._tls.context,
            server_name=config.tls.server_name_override,
            max_bytes=lambda status: (
                limits.MAX_RESPONSE_BYTES if _is_success(status) else limits.MAX_ERROR_BODY_BYTES
            ),
        )

    async def open(self) -> None:
        """Read the TLS files once, so that a wrong one stops the start."""
        if any(url.tls for url in self._urls.values()):
            self._tls.context()
        self._warn_of_proxy()

    async def send(self, request: Request) -> Answer:
        """Send one request."""
        body = await self._compressed(request.body)
        try:
            response = await self._client.post(self._urls[request.signal], self._headers, body)
        except (http_message.HttpError, errors.ComponentError) as failure:
            raise errors.Retryable(str(failure)) from failure
        return self._judge(request.signal, response)

    async def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _warn_of_proxy(self) -> None:
        """Say that proxy variables are not followed, where they are set."""
        schemes = {"https_proxy" if url.tls else "http_proxy" for url in self._urls.values()}
        for name in sorted(schemes):
            if os.environ.get(name) or os.environ.get(name.upper()):
                _log.warning(
                    "exporter %s connects directly: %s is set, but proxies are not supported",
                    self._name,
                    name,
                )

    def _fixed_headers(self, config: Config, version: str) -> dict[str, str]:
        own = {
            "user-agent": f"otel-oom/{version}",
            "content-type": otlp_status.JSON if self._json else otlp_status.PROTOBUF,
        }
        encoding = {} if self._level is None else {"content-encoding": "gzip"}
        return {**own, **encoding, **{name.lower(): v for name, v in config.headers.items()}}

    async def _compressed(self, body: bytes) -> bytes:
        if self._level is None:
            return body
        if len(body) < IN_THREAD_BYTES:
            return _gzip(body, self._level)
        return await asyncio.get_running_loop().run_in_executor(None, _gzip, body, self._level)

    def _judge(self, signal: Signal, response: http_message.Response) -> Answer:
        kind = response.headers.get("content-type", "")
        if not _is_success(response.status):
            raise _failure(response, kind)
        if response.truncated:
            raise errors.Permanent(
                f"the server's answer is larger than {limits.MAX_RESPONSE_BYTES} bytes"
            )
        return self._parse(signal, response.body, otlp_status.media_type(kind))

    def _parse(self, signal: Signal, body: bytes, kind: str) -> Answer:
        """Read the body of a success; empty means that all was taken."""
        if not body:
            return Answer()
        if kind == otlp_status.JSON or (not kind and self._json):
            return otlp_status.parse_json_response(signal, body)
        if kind in {otlp_status.PROTOBUF, ""}:
            return otlp_status.parse_response(signal, body)
        raise errors.Permanent(
            f"the server answered {kind}, which no OTLP server does; check the endpoint: "
            f"{otlp_status.shown(body)}"
        )


def create(settings: component.Settings, config: Config) -> sending.Exporter:
    """The exporter: our chain of senders that ends in `Push`."""
    config = otlp_env.fill(config, os.environ)
    return sending.Exporter(
        settings,
        Push(config, settings),
        queue=config.sending_queue,
        retry=config.retry_on_failure,
        timeout_s=config.timeout_s,
        encode=otlp_json.encode if config.encoding == "json" else limits.protobuf,
    )


def _is_success(status: int) -> bool:
    return 200 <= status <= 299  # noqa: PLR2004  # RFC 9110 §15.3


def _failure(response: http_message.Response, kind: str) -> errors.ExportError:
    if location := response.headers.get("location"):
        return errors.Permanent(
            f"the server answered {response.status} with a redirect to "
            f"{otlp_status.shown(location)}, which is not followed; set 'endpoint' to it"
        )
    retry_after = response.headers.get("retry-after")
    return otlp_status.http_failure(response.status, response.body, kind, retry_after)


def _gzip(body: bytes, level: int) -> bytes:
    return zlib.compress(body, level, wbits=31)


FACTORY = component.Factory(
    type_name="otlp_http",
    aliases=("otlphttp",),
    kind=component.Kind.EXPORTER,
    config=Config,
    create=create,
    signals=dict.fromkeys(Signal, component.Stability.ALPHA),
)
