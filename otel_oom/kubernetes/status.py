"""Errors as the API server and the kubelet tell them: meta/v1 Status, or plain text."""

from __future__ import annotations

import msgspec

from otel_oom import errors

_MOST_CHARS = 400
_SERVER_ERRORS = 500
_REASONS = {
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    410: "gone",
    429: "throttled",
}
"""Words for the counter of errors, by the status of HTTP."""


class Status(msgspec.Struct, frozen=True, gc=False):
    """meta/v1 Status: an error, as an answer or within a watch."""

    code: int = 0
    reason: str = ""
    message: str = ""


_STATUSES = msgspec.json.Decoder(Status)


def read(body: bytes, code: int = 0) -> Status:
    """Read the body of an answer with the status `code`; text that is no Status is its message."""
    try:
        found = _STATUSES.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = Status(message=body.decode("utf-8", "replace"))
    return Status(code or found.code, found.reason, found.message)


def failed(found: Status, *, delay_s: float | None = None) -> errors.KubernetesError:
    """The error that a Status tells of; `delay_s` is the server's wish, in seconds."""
    other = "server_error" if found.code >= _SERVER_ERRORS else "refused"
    text = " ".join(filter(None, (str(found.code), found.reason, _one_line(found.message))))
    return errors.KubernetesError(text, _REASONS.get(found.code, other), delay_s=delay_s)


def _one_line(text: str) -> str:
    printable = "".join(char if char.isprintable() else " " for char in text[:_MOST_CHARS])
    return " ".join(printable.split())
