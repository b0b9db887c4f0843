"""Asking an API server or a kubelet: one answer, or a watch line by line.

All is bounded: the time for an answer, the silence within a watch, the bytes of both. What
goes wrong is one error, `errors.KubernetesError`, with a word for its counter.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator

from otel_oom import errors
from otel_oom.http.client import HttpClient, Stream
from otel_oom.http.message import HttpError, Response, Url
from otel_oom.kubernetes import status
from otel_oom.kubernetes.credentials import Credentials

_OK = 200
_REDIRECTS = range(300, 400)
_ERROR_BYTES = 64 * 1024
_MOST_DELAY_S = 300
_DELAY_DIGITS = 9


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What is waited for and what is taken."""

    answer_s: float = 30.0
    """Time in seconds for a whole answer, and for the head of a watch."""

    silence_s: float = 90.0
    """Time in seconds for the next whole line of a watch; a bookmark comes each minute."""

    answer_bytes: int = 64 << 20
    """Longest answer: a page of 100 pods is 1 MiB, an object at most 1.5 MiB."""

    line_bytes: int = 8 << 20
    """Longest line of a watch, which has one object."""


class Lines:
    """The lines of a watch as they come."""

    def __init__(self, stream: Stream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._rest = bytearray()
        self._searched = 0

    async def next(self) -> bytes | None:
        """The next line without its end, or None when the server has ended the watch."""
        with _told(f"sent no event and no bookmark for {self._limits.silence_s:g} s"):
            async with asyncio.timeout(self._limits.silence_s):
                while (end := self._rest.find(b"\n", self._searched)) < 0:
                    if not await self._read_more():
                        return None
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        self._searched = 0
        return line

    async def _read_more(self) -> bool:
        self._searched = len(self._rest)
        if self._searched > self._limits.line_bytes:
            raise errors.KubernetesError(
                f"an event is longer than {self._limits.line_bytes} bytes", "too_large"
            )
        piece = await self._stream.body.read()
        if not piece and self._rest:
            raise errors.KubernetesError("the watch ended within an event", "connection")
        self._rest += piece
        return bool(piece)


class Api:
    """A client of one server. It follows no redirects: they would carry the token elsewhere."""

    def __init__(
        self, credentials: Credentials, *, user_agent: str, limits: Limits | None = None
    ) -> None:
        self._credentials = credentials
        self._user_agent = user_agent
        self._limits = limits or Limits()
        self._client = HttpClient(
            context=credentials.context,
            server_name=credentials.server_name,
            max_bytes=lambda code: self._limits.answer_bytes if code == _OK else _ERROR_BYTES,
        )

    @property
    def url(self) -> str:
        """Base URL of the server."""
        return self._credentials.url

    async def get(self, target: str, *, accept: str = "application/json") -> bytes:
        """The body of the answer to a path with its query, or `errors.KubernetesError`."""
        with _told(f"gave no answer within {self._limits.answer_s:g} s"):
            async with asyncio.timeout(self._limits.answer_s):
                headers = await self._headers(accept)
                response = await self._client.get(self._at(target), headers)
        if response.status != _OK:
            raise _refused(response)
        if response.truncated:
            raise errors.KubernetesError(
                f"the answer is longer than {self._limits.answer_bytes} bytes", "too_large"
            )
        return response.body

    @contextlib.asynccontextmanager
    async def watch(self, target: str, *, accept: str) -> AsyncIterator[Lines]:
        """The lines of an answer without end; all errors are `errors.KubernetesError`."""
        async with contextlib.AsyncExitStack() as stack:
            stack.enter_context(_told(f"began no answer within {self._limits.answer_s:g} s"))
            async with asyncio.timeout(self._limits.answer_s):
                headers = await self._headers(accept)
                stream = await stack.enter_async_context(
                    self._client.stream(self._at(target), headers)
                )
                if stream.status != _OK:
                    raise _refused(await stream.whole())
            yield Lines(stream, self._limits)

    def close(self) -> None:
        """Close the connections that are not in use."""
        self._client.close()

    def _at(self, target: str) -> Url:
        return Url.parse(self._credentials.url + target)

    async def _headers(self, accept: str) -> dict[str, str]:
        authorization = await self._credentials.authorization()
        headers = {"accept": accept, "user-agent": self._user_agent}
        return headers | ({"authorization": authorization} if authorization else {})


@contextlib.contextmanager
def _told(too_late: str) -> Iterator[None]:
    """Tell of what fails below as our own error."""
    try:
        yield
    except TimeoutError as failure:
        raise errors.KubernetesError(f"the server {too_late}", "timeout") from failure
    except HttpError as failure:
        raise errors.KubernetesError(str(failure), "connection") from failure


def _refused(response: Response) -> errors.KubernetesError:
    if response.status in _REDIRECTS:
        where = response.headers.get("location", "nowhere")[:100]
        text = f"{response.status}: a redirect to {where!r} is not followed"
        return errors.KubernetesError(text, "refused")
    asked = response.headers.get("retry-after", "")
    known = asked.isascii() and asked.isdecimal() and len(asked) <= _DELAY_DIGITS
    delay_s = float(min(int(asked), _MOST_DELAY_S)) if known else None
    return status.failed(status.read(response.body, response.status), delay_s=delay_s)
