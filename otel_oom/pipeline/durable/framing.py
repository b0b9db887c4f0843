"""Messages on the socket of a storage: eight bytes of length, then JSON."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pathlib
from collections.abc import Iterator
from typing import Any

SOCKET = "control.sock"
REQUEST_BYTES = 1 << 20
"""The most that an agent reads of a request."""

_LENGTH_BYTES = 8


class Malformed(ValueError):
    """What came is no message, or longer than the reader takes."""


@contextlib.contextmanager
def address(folder: pathlib.Path) -> Iterator[str]:
    """The socket's path, short enough wherever the folder is: Linux allows 107 bytes."""
    fd = os.open(folder, os.O_DIRECTORY | os.O_PATH | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{SOCKET}"
    finally:
        os.close(fd)


def framed(message: Any) -> bytes:
    """A message as it travels."""
    body = json.dumps(message).encode()
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


async def read(reader: asyncio.StreamReader, most_bytes: int) -> dict[str, Any] | None:
    """The next message, None at the end."""
    try:
        head = await reader.readexactly(_LENGTH_BYTES)
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise
    length = int.from_bytes(head, "big")
    if length > most_bytes:
        raise Malformed(f"a message of {length} bytes")
    message = json.loads(await reader.readexactly(length))
    if not isinstance(message, dict):
        raise Malformed("a message that is no mapping")
    return message
