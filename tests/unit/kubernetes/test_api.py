"""The client on real sockets: answers, watches, and every way in which a server can fail one."""

import asyncio
import contextlib
import pathlib
import ssl
from collections.abc import AsyncIterator

import pytest
from doubles import certificates

from otel_oom import errors
from otel_oom.kubernetes.api import Api, Limits
from otel_oom.kubernetes.credentials import FileCredentials

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LIMITS = Limits(answer_s=0.5, silence_s=0.5, answer_bytes=100, line_bytes=100)


class Server:
    """Answers each request with `answer`, from a byte on ever so slowly, then closes or is silent."""

    def __init__(self) -> None:
        self.answer = b""
        self.silent = False
        self.slow_from: int | None = None
        self.requests: list[str] = []
        self.port = 0
        self.tasks: list[asyncio.Task[None]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.tasks.append(asyncio.current_task())
        try:
            while True:
                self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
                await self._write(writer)
                if self.silent:
                    await reader.read()
                if b"Content-Length" not in self.answer:
                    break
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _write(self, writer: asyncio.StreamWriter) -> None:
        fast = len(self.answer) if self.slow_from is None else self.slow_from
        writer.write(self.answer[:fast])
        for byte in self.answer[fast:]:
            await asyncio.sleep(0.02)
            writer.write(bytes([byte]))
        await writer.drain()


@contextlib.asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    double = Server()
    server = await asyncio.start_server(double.serve, "localhost", 0, ssl=tls)
    double.port = server.sockets[0].getsockname()[1]
    async with server:
        yield double
        for task in double.tasks:
            task.cancel()
        await asyncio.gather(*double.tasks, return_exceptions=True)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with serving() as double:
        yield double


def api_of(server: Server, **options) -> Api:
    credentials = FileCredentials(f"http://localhost:{server.port}", **options)
    return Api(credentials, user_agent="otel-oom/test", limits=LIMITS)


@pytest.fixture
def api(server: Server) -> AsyncIterator[Api]:
    return api_of(server)


def answer(body: bytes, code: int = 200, **headers: str) -> bytes:
    fields = {"Content-Length": str(len(body))} | headers
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {code} X\r\n{lines}\r\n".encode() + body


def chunks(*pieces: bytes, end: bool = True) -> bytes:
    coded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
    return CHUNKED + coded + (b"0\r\n\r\n" if end else b"")


async def lines(api: Api, found: list[bytes] | None = None) -> list[bytes]:
    found = [] if found is None else found
    async with api.watch("/watch", accept="application/json") as watch:
        while (line := await watch.next()) is not None:
            found.append(line)
    return found


async def test_answers_come_over_one_connection_with_the_token_of_the_moment(
    server: Server, tmp_path: pathlib.Path
):
    token = tmp_path / "token"
    api = api_of(server, token_file=token)
    server.answer = answer(b"{}")
    for text in ("one", "two"):
        token.write_text(text)
        assert await api.get("/api/v1/pods?limit=1", accept="application/json;as=X") == b"{}"
    api.close()

    first, second = server.requests
    assert first.splitlines() == [
        "GET /api/v1/pods?limit=1 HTTP/1.1", f"host: localhost:{server.port}", "accept: application/json;as=X",
        "user-agent: otel-oom/test", "authorization: Bearer one", ""]  # fmt: skip
    assert "authorization: Bearer two" in second


@pytest.mark.parametrize(
    ("reply", "reason", "text"),
    [
        (answer(b"", 401), "unauthorized", "401"),
        (
            answer(b'{"code": 403, "reason": "Forbidden", "message": "no"}', 403),
            "forbidden",
            "403 Forbidden no",
        ),
        (answer(b"", 410), "gone", "410"),
        (answer(b"oops", 500), "server_error", "500 oops"),
        (
            answer(b"", 302, Location="http://elsewhere/"),
            "refused",
            "redirect to 'http://elsewhere/' is not",
        ),
        (answer(b"x" * 101), "too_large", "longer than 100 bytes"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "connection", "does not speak HTTP"),
        (b"", "connection", "the server closed it"),
        (CHUNKED + b"5\r\nab", "connection", "ended within the answer"),
    ],
)
async def test_an_answer_that_is_none(
    server: Server, api: Api, reply: bytes, reason: str, text: str
):
    server.answer = reply
    with pytest.raises(errors.KubernetesError, match=text) as raised:
        await api.get("/")
    assert raised.value.reason == reason
    api.close()


@pytest.mark.parametrize(
    ("asked", "delay_s"), [("7", 7.0), ("99999", 300.0), ("soon", None), ("", None)]
)
async def test_the_wait_that_a_server_asks_for(
    server: Server, api: Api, asked: str, delay_s: float | None
):
    server.answer = answer(b"", 429, Retry_After=asked)
    with pytest.raises(errors.KubernetesError) as raised:
        await api.get("/")
    assert (raised.value.reason, raised.value.delay_s) == ("throttled", delay_s)
    api.close()


@pytest.mark.parametrize("slowly", [False, True])
async def test_a_peer_that_does_not_answer_in_time(server: Server, api: Api, slowly: bool):
    server.silent, server.slow_from = not slowly, 0
    server.answer = answer(b"x" * 90) if slowly else b""
    for ask in (api.get("/"), lines(api)):
        with pytest.raises(errors.KubernetesError, match=r"no answer within 0\.5 s") as raised:
            await ask
        assert raised.value.reason == "timeout"


async def test_nobody_listens():
    api = Api(FileCredentials("http://localhost:1"), user_agent="x", limits=LIMITS)
    for ask in (api.get("/"), lines(api)):
        with pytest.raises(errors.KubernetesError, match="cannot connect to localhost:1") as raised:
            await ask
        assert raised.value.reason == "connection"


async def test_the_lines_of_a_watch_are_put_together(server: Server, api: Api):
    server.answer = chunks(b'{"a": 1}\n{"b"', b": 2}", b"\n", b"\n")

    assert await lines(api) == [b'{"a": 1}', b'{"b": 2}', b""]


@pytest.mark.parametrize(
    ("reply", "reason", "text"),
    [
        (answer(b"no", 403), "forbidden", "403 no"),
        (chunks(b"{}\n", b"half"), "connection", "ended within an event"),
        (chunks(b"{}\n", end=False), "connection", "the server closed it"),
        (CHUNKED + b"what\r\n", "connection", "no number"),
        (chunks(b"x" * 200, b"\n"), "too_large", "longer than 100 bytes"),
    ],
)
async def test_a_watch_that_fails(server: Server, api: Api, reply: bytes, reason: str, text: str):
    server.answer = reply
    with pytest.raises(errors.KubernetesError, match=text) as raised:
        await lines(api)
    assert raised.value.reason == reason


@pytest.mark.parametrize("drip", [False, True])
async def test_a_watch_that_falls_silent_or_drips(server: Server, api: Api, drip: bool):
    """A byte now and then is silence too: only a whole line is news."""
    server.answer = chunks(b"." * 50 if drip else b"{}\n", end=False)
    server.silent, server.slow_from = True, len(CHUNKED) if drip else None
    found: list[bytes] = []
    with pytest.raises(errors.KubernetesError, match=r"no event and no bookmark for") as raised:
        await lines(api, found)
    assert raised.value.reason == "timeout"
    assert found == [b"{}"][drip:]


async def test_a_cancelled_watch_closes_its_connection(server: Server, api: Api):
    server.answer, server.silent = CHUNKED, True
    task = asyncio.create_task(lines(api))
    while not server.requests:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_only_the_cluster_s_root_is_trusted_and_a_renewed_one_is_used(tmp_path: pathlib.Path):
    good, other = (
        certificates.Authority(tmp_path, "good"),
        certificates.Authority(tmp_path, "other"),
    )
    pair = good.issue("server")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pair.cert, pair.key)
    roots = tmp_path / "ca.crt"
    roots.write_bytes(other.root.cert.read_bytes())
    async with serving(tls) as server:
        server.answer = answer(b"{}")
        credentials = FileCredentials(f"https://localhost:{server.port}", ca_file=roots)
        api = Api(credentials, user_agent="x", limits=LIMITS)

        with pytest.raises(errors.KubernetesError, match="certificate is not accepted") as raised:
            await api.get("/")
        assert raised.value.reason == "connection"
        assert not server.requests

        roots.write_bytes(good.root.cert.read_bytes())
        assert await api.get("/") == b"{}"
        api.close()
