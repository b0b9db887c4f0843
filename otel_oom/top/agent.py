"""Asks a running agent for its views."""

from __future__ import annotations

import contextlib
import http.client
import json
from typing import Any

from otel_oom import errors
from otel_oom.extensions import health_check

_PATIENCE_S = 5.0
_MOST_BYTES = 64 << 20


class NoAnswer(errors.OtelOomError):
    """There is no agent, or none that has what was asked for; the text has the remedy."""


def ask(endpoint: str) -> dict[str, Any]:
    """The answer of the agent's health endpoint at `host:port`."""
    status, body = _get(endpoint)
    if status == http.client.FORBIDDEN:
        raise NoAnswer(
            f"the agent at {endpoint} shows its views to its own host only; run `otel-oom top` "
            "there, with a loopback address as --endpoint"
        )
    try:
        answer = json.loads(body) if status == http.client.OK else None
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or not isinstance(answer.get("views"), dict):
        raise NoAnswer(
            f"{endpoint} answers, but not as an agent of this version does (status {status}); "
            "name the agent's `health_check` with --endpoint, or see that its `views` is true"
        )
    return answer


def _get(endpoint: str) -> tuple[int, bytes]:
    host, port = health_check.split_endpoint(endpoint)
    connection = http.client.HTTPConnection(host or "127.0.0.1", port, timeout=_PATIENCE_S)
    with contextlib.closing(connection):
        try:
            connection.request("GET", health_check.VIEWS_PATH)
            response = connection.getresponse()
            return response.status, response.read(_MOST_BYTES)
        except TimeoutError as error:
            raise NoAnswer(
                f"{endpoint} gave no answer within {_PATIENCE_S:.0f} s: the agent is busy or "
                "stopped (its log says), or something else listens there; try again"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise NoAnswer(
                f"no agent answers at {endpoint}: {error or type(error).__name__}; start one with "
                "`otel-oom run`, whose configuration has the extension `health_check`, or name "
                "its endpoint with --endpoint"
            ) from error
