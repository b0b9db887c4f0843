"""What a hostile backend answers, byte by byte, as faults of `fault_proxy`: HTTP/1.1 and HTTP/2.

Every one reads the request's beginning first, so that it is an answer.
"""

from __future__ import annotations

import asyncio
import functools
import struct
import zlib

from doubles.fault_proxy import Connection, Fault

GIB = 1 << 30
_PIECE = b"x" * (1 << 16)


def http_body(status: int, *, headers: str = "", size: int = GIB, piece: bytes = _PIECE) -> Fault:
    """A body of `size` bytes, told in advance."""
    return _http(f"HTTP/1.1 {status} X\r\nContent-Length: {size}\r\n{headers}\r\n", piece, size)


def http_chunks(status: int, *, headers: str = "") -> Fault:
    """A body in chunks that never ends."""
    head = f"HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n{headers}\r\n"
    return _http(head, b"%x\r\n%b\r\n" % (len(_PIECE), _PIECE), None)


def http_to_the_end(status: int) -> Fault:
    """A body without a length, that never ends."""
    return _http(f"HTTP/1.1 {status} X\r\n\r\n", _PIECE, None)


def http_headers() -> Fault:
    """Headers that never end."""
    return _http("HTTP/1.1 200 OK\r\n", b"X-More: " + b"x" * 1000 + b"\r\n", None)


def http_interim() -> Fault:
    """Interim answers that never end."""
    return _http("", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, None)


def http_chunk_line() -> Fault:
    """The line that tells a chunk's length never ends."""
    return _http("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0" * (1 << 16), None)


def http_trailers() -> Fault:
    """Trailers that never end."""
    head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n"
    return _http(head, b"X-More: x\r\n" * 1000, None)


def http_slow(status: int, pause_s: float = 1.0) -> Fault:
    """A byte of the body a second."""

    async def fault(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        connection.writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 100000\r\n\r\n" % status)
        while True:
            connection.writer.write(b"x")
            await connection.writer.drain()
            await asyncio.sleep(pause_s)

    return fault


def http_redirect(status: int, location: str) -> Fault:
    """Go elsewhere, it says."""
    head = f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
    return _http(head, b"", 0)


def http_bomb(status: int) -> Fault:
    """A gibibyte of zeros as gzip has it: one megabyte."""
    bomb = gzip_bomb()
    kind = "Content-Encoding: gzip\r\nContent-Type: application/x-protobuf\r\n"
    return http_body(status, headers=kind, size=len(bomb), piece=bomb)


@functools.cache
def gzip_bomb() -> bytes:
    """What gunzips to a gibibyte."""
    packer = zlib.compressobj(9, wbits=31)
    zeros = bytes(1 << 24)
    return b"".join([*(packer.compress(zeros) for _ in range(GIB >> 24)), packer.flush()])


def _http(head: str, piece: bytes, size: int | None) -> Fault:
    async def fault(connection: Connection) -> None:
        await connection.reader.readuntil(b"\r\n\r\n")
        connection.writer.write(head.encode())
        left = size
        while left is None or left > 0:
            connection.writer.write(piece if left is None else piece[:left])
            await connection.writer.drain()
            left = None if left is None else left - len(piece)
        await connection.writer.drain()
        while await connection.reader.read(1 << 16):
            pass

    return fault


def http2_garbage() -> Fault:
    """No HTTP/2 at all, without end."""

    async def fault(connection: Connection) -> None:
        while True:
            connection.writer.write(b"\xff\x00garbage\x13" * 5000)
            await connection.writer.drain()

    return fault


def http2_answer(*frames: bytes, again: bytes = b"") -> Fault:
    """Greet as HTTP/2 does, wait for the call, then say these frames on it, and `again` for ever."""

    async def fault(connection: Connection) -> None:
        connection.writer.write(frame(_SETTINGS, b""))
        await connection.reader.readexactly(len(_PREFACE))
        stream = await _call(connection)
        for one in frames:
            connection.writer.write(_on(one, stream))
            await connection.writer.drain()
        while again:
            connection.writer.write(_on(again, stream))
            await connection.writer.drain()
        while await connection.reader.read(1 << 16):
            pass

    return fault


_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS, _PING, _CONTINUATION = 0, 1, 4, 6, 9
_ACK = _END_STREAM = 1
_END_HEADERS = 4


def frame(kind: int, payload: bytes, flags: int = 0, stream: int = 0) -> bytes:
    """A frame of HTTP/2 (RFC 9113 §4.1)."""
    return (
        struct.pack(">I", len(payload))[1:]
        + bytes([kind, flags])
        + struct.pack(">I", stream)
        + payload
    )


def _on(one: bytes, stream: int) -> bytes:
    """A frame on the stream of the call; a ping is of the whole connection."""
    return one if one[3] == _PING else one[:5] + struct.pack(">I", stream) + one[9:]


async def _call(connection: Connection) -> int:
    """Read frames, answering settings and pings, until a call has come whole; its stream."""
    while True:
        head = await connection.reader.readexactly(9)
        payload = await connection.reader.readexactly(int.from_bytes(head[:3], "big"))
        kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
        if kind in (_SETTINGS, _PING) and not flags & _ACK:
            echo = payload if kind == _PING else b""
            connection.writer.write(frame(kind, echo, _ACK))
        elif kind == _DATA and flags & _END_STREAM:
            return stream


def _fields(*pairs: tuple[bytes, bytes]) -> bytes:
    """Headers as HPACK's literals without indexing (RFC 7541 §6.2.2); each text below 127 bytes."""
    return b"".join(
        b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in pairs
    )


def _answer_head(*more: tuple[bytes, bytes]) -> bytes:
    found = ((b":status", b"200"), (b"content-type", b"application/grpc"), *more)
    return frame(_HEADERS, _fields(*found), _END_HEADERS)


def grpc_bomb() -> Fault:
    """A message that says it is gzip, and unpacks to a gibibyte."""
    return grpc_reply(gzip_bomb(), encoding=b"gzip")


def grpc_reply(message: bytes, encoding: bytes = b"identity") -> Fault:
    """A success with these bytes as its message."""
    data = bytes([encoding != b"identity"]) + struct.pack(">I", len(message)) + message
    pieces = [frame(_DATA, data[at : at + 16384]) for at in range(0, len(data), 16384)]
    end = frame(_HEADERS, _fields((b"grpc-status", b"0")), _END_HEADERS | _END_STREAM)
    return http2_answer(_answer_head((b"grpc-encoding", encoding)), *pieces, end)


def grpc_message() -> Fault:
    """A message that says it has a gibibyte, and begins."""
    begin = frame(_DATA, b"\x00" + struct.pack(">I", GIB))
    return http2_answer(_answer_head(), begin, again=frame(_DATA, bytes(16384)))


def grpc_headers() -> Fault:
    """Headers of an answer that never end."""
    more = _fields(*((b"x-more-%d" % number, b"x" * 100) for number in range(100)))
    return http2_answer(
        frame(_HEADERS, _fields((b":status", b"200"))), again=frame(_CONTINUATION, more)
    )


def grpc_pings() -> Fault:
    """Pings without end, each of which wants an answer."""
    return http2_answer(again=frame(_PING, bytes(8)))
