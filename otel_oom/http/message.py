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


MAX_PIECE_BYTES = 64 * 1024
"""Longest piece of a body that is handed on at once."""


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


def request_head(
    method: str, url: Url, headers: Mapping[str, str], body_bytes: int | None = None
) -> bytes:
    """The head of a request, with a body of `body_bytes` if any; `headers` may replace `Host`."""
    fields = {"host": url.authority, **headers}
    if body_bytes is not None:
        fields["content-length"] = str(body_bytes)
    lines = [f"{method} {url.target} HTTP/1.1", *(f"{name}: {fields[name]}" for name in fields)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


MaxBytes = Callable[[int], int]
"""How many bytes of an answer's body are read, by its status."""


async def read_response(reader: asyncio.StreamReader, max_bytes: MaxBytes) -> Response:
    """Read an answer, of its body at most what `max_bytes(status)` allows.

    Raises `HttpError` for what is no HTTP/1.1 and for an answer that ends early; and what the
    reader raises (`EOFError`, `OSError`) when the connection ends before any answer.
    """
    status, headers = await read_head(reader)
    return await read_rest(reader, status, headers, max_bytes(status))


async def read_rest(
    reader: asyncio.StreamReader, status: int, headers: Mapping[str, str], limit: int
) -> Response:
    """Read the body of an answer whose head was read, at most `limit` bytes of it."""
    try:
        body, whole = await _read_body(Body(reader, status, headers), limit + 1)
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


async def read_head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Read an answer's status and headers, and skip interim ones."""
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


class Body:
    """The body of an answer, read as it comes.

    Reading raises `HttpError` for a framing that is none, and `EOFError` when the connection ends
    before the body is whole.
    """

    def __init__(
        self, reader: asyncio.StreamReader, status: int, headers: Mapping[str, str]
    ) -> None:
        self._reader = reader
        self._chunked = "transfer-encoding" in headers
        self._left: int | None = None  # of the chunk or the body; None: to the connection's end
        if self._chunked:
            _refuse_coding(headers["transfer-encoding"])
            self._left = 0
        elif status in {204, 304}:
            self._left = 0
        elif "content-length" in headers:
            self._left = _number(headers["content-length"], r"[0-9]{1,18}", 10)

    async def read(self, at_most: int = MAX_PIECE_BYTES) -> bytes:
        """What has arrived, at least a byte; nothing at the end."""
        if self._chunked and not self._left:
            await self._next_chunk()
        if self._left is None:
            return await self._reader.read(at_most)
        piece = await self._reader.read(min(at_most, self._left)) if self._left else b""
        if self._left and not piece:
            raise asyncio.IncompleteReadError(b"", self._left)
        self._left -= len(piece)
        if self._chunked and piece and not self._left:
            await _read_line(self._reader)
        return piece

    def is_framed_end(self) -> bool:
        """Whether the body was read to an end that the message itself tells."""
        return self._left == 0 and not self._chunked

    async def _next_chunk(self) -> None:
        size = (await _read_line(self._reader)).partition(";")[0]
        self._left = _number(size, r"[0-9a-fA-F]{1,15}", 16)
        if not self._left:
            await _skip_trailers(self._reader)
            self._chunked = False


async def _read_body(body: Body, at_most: int) -> tuple[bytes, bool]:
    """The body up to `at_most` bytes, and whether the answer was read to its end."""
    found = bytearray()
    while len(found) < at_most and (piece := await body.read(at_most - len(found))):
        found += piece
    return bytes(found), body.is_framed_end()


def _refuse_coding(coding: str) -> None:
    if coding.lower() != "chunked":
        raise HttpError(f"the answer has the transfer coding {coding!r}, which nobody asked for")


async def _skip_trailers(reader: asyncio.StreamReader) -> None:
    for _ in range(MAX_TRAILERS):
        if not await _read_line(reader):
            return
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
