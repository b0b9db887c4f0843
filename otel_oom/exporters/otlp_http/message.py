"""HTTP/1.1 messages as a client sees them: a URL and a request's head out, an answer in.

Sources: RFC 9110 (semantics), RFC 9112 (syntax and framing).
"""

from __future__ import annotations

import asyncio
import dataclasses
import re
import urllib.parse
from collections.abc import Callable, Mapping

MAX_HEAD_BYTES = 64 * 1024
"""Longest status line with headers, and longest line of a chunked body, that is read."""

MAX_INTERIM = 10
"""Interim answers (1xx) that are skipped before the exchange counts as broken."""

MAX_TRAILERS = 100
"""Trailer lines after a chunked body that are skipped before it counts as broken."""


class HttpError(Exception):
    """The exchange failed before there was an answer; the text says how."""


@dataclasses.dataclass(frozen=True, slots=True)
class Url:
    """Where to: `target` is the path and query of the request line."""

    tls: bool
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, text: str) -> Url:
        """Read an http or https URL; `ValueError` says what is wrong with it."""
        if not text.isascii() or any(char <= " " or char == "\x7f" for char in text):
            raise ValueError(f"{text!r} must not have spaces or characters beyond ASCII")
        parts = urllib.parse.urlsplit(text)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"{text!r} must read http://host:port or https://host:port")
        if parts.username is not None:
            raise ValueError("the URL must not carry a user or password; use 'headers'")
        tls = parts.scheme == "https"
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(tls, parts.hostname, parts.port or (443 if tls else 80), target)

    @property
    def authority(self) -> str:
        """Host and port as the `Host` header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


@dataclasses.dataclass(frozen=True, slots=True)
class Response:
    """An answer. `headers` have lower-case names; of a repeated one the last counts.

    `truncated`: the body is longer than what was allowed, and cut there. `reusable`: the
    connection can carry another request.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    truncated: bool
    reusable: bool


def post_head(url: Url, headers: Mapping[str, str], body_bytes: int) -> bytes:
    """The head of a POST; `headers` may replace `Host`."""
    fields = {"host": url.authority, **headers, "content-length": str(body_bytes)}
    lines = [f"POST {url.target} HTTP/1.1", *(f"{name}: {fields[name]}" for name in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def read_response(reader: asyncio.StreamReader, max_bytes: Callable[[int], int]) -> Response:
    """Read an answer, of its body at most what `max_bytes(status)` allows.

    Raises `HttpError` for what is no HTTP/1.1 and for an answer that ends early; and what the
    reader raises (`EOFError`, `OSError`) when the connection ends before any answer.
    """
    status, headers = await _read_head(reader)
    limit = max_bytes(status)
    try:
        body, whole = await _read_body(reader, status, headers, limit + 1)
    except (EOFError, OSError) as failure:
        raise HttpError(f"the connection ended within the answer ({status})") from failure
    alive = headers.get("connection", "").lower() != "close" and headers[":version"] == "1.1"
    return Response(
        status=status,
        headers=headers,
        body=body[:limit],
        truncated=len(body) > limit,
        reusable=whole and alive,
    )


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    for _ in range(MAX_INTERIM):
        try:
            raw = await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError as failure:
            raise HttpError(
                f"the answer has no end of headers in {MAX_HEAD_BYTES} bytes"
            ) from failure
        status, headers = _parse_head(raw.decode("latin-1"))
        if status >= 200:  # noqa: PLR2004  # 1xx are interim answers
            return status, headers
    raise HttpError("the server sends interim answers without end")


def _parse_head(text: str) -> tuple[int, dict[str, str]]:
    first, *lines = text.rstrip("\r\n").split("\r\n")
    found = re.fullmatch(r"HTTP/(1\.[01]) ([1-5][0-9]{2})(?: .*)?", first)
    if not found:
        raise HttpError(f"the server does not speak HTTP/1.1: {first[:80]!r}")
    headers = {":version": found[1]}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(found[2]), headers


async def _read_body(
    reader: asyncio.StreamReader, status: int, headers: Mapping[str, str], at_most: int
) -> tuple[bytes, bool]:
    """The body up to `at_most` bytes, and whether the answer was read to its end."""
    if status in {204, 304}:
        return b"", True
    if "transfer-encoding" in headers:
        return await _read_chunks(reader, headers["transfer-encoding"], at_most)
    if "content-length" in headers:
        length = _number(headers["content-length"], r"[0-9]{1,18}", 10)
        return await reader.readexactly(min(length, at_most)), length <= at_most
    return await _read_to_end(reader, at_most), False


async def _read_to_end(reader: asyncio.StreamReader, at_most: int) -> bytes:
    body = bytearray()
    while len(body) < at_most and (piece := await reader.read(at_most - len(body))):
        body += piece
    return bytes(body)


async def _read_chunks(
    reader: asyncio.StreamReader, coding: str, at_most: int
) -> tuple[bytes, bool]:
    if coding.lower() != "chunked":
        raise HttpError(f"the answer has the transfer coding {coding!r}, which nobody asked for")
    body = bytearray()
    while size := _number((await _read_line(reader)).partition(";")[0], r"[0-9a-fA-F]{1,15}", 16):
        take = min(size, at_most - len(body))
        body += await reader.readexactly(take)
        if take < size:
            return bytes(body), False
        await _read_line(reader)
    for _ in range(MAX_TRAILERS):
        if not await _read_line(reader):
            return bytes(body), True
    raise HttpError("the answer has trailers without end")


async def _read_line(reader: asyncio.StreamReader) -> str:
    try:
        return (await reader.readuntil(b"\r\n"))[:-2].decode("latin-1")
    except asyncio.LimitOverrunError as failure:
        raise HttpError("the answer has a chunk line without end") from failure


def _number(text: str, pattern: str, base: int) -> int:
    if not re.fullmatch(pattern, text.strip()):
        raise HttpError(f"the answer has the length {text[:20]!r}, which is no number")
    return int(text, base)
