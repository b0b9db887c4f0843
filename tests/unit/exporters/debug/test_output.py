"""Writing to real pipes, sockets, terminals and files, with readers that are slow or gone."""

import asyncio
import os
import pty
import socket

import pytest

from otel_oom.exporters.debug import output

LARGE = "x" * 300_000


def read_all(descriptor, count):
    """Read exactly that many bytes; a reader that runs beside the writer."""
    taken = b""
    while len(taken) < count:
        taken += os.read(descriptor, 65536)
    return taken


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    ends = [reader, writer]
    yield ends
    for end in ends:
        if end >= 0:
            os.close(end)


def make(descriptor, **options):
    done = []
    return output.Output(descriptor, **options), done


async def test_a_text_is_written_at_once_when_there_is_room(pipe):
    out, done = make(pipe[1])
    out.write("é\n", done.append)

    assert done == [""]
    assert os.read(pipe[0], 100) == "é\n".encode()
    await out.close()


async def test_a_slow_reader_gets_everything_in_order_and_the_loop_goes_on(pipe):
    out, done = make(pipe[1])
    out.write(LARGE, done.append)
    out.write("end", done.append)
    assert done == []  # the pipe is full, and yet we are here

    taken = await asyncio.to_thread(read_all, pipe[0], len(LARGE) + 3)
    await out.close()

    assert taken == (LARGE + "end").encode()
    assert done == ["", ""]


async def test_more_than_the_bound_is_given_up_as_slow(pipe):
    out, done = make(pipe[1], max_bytes=1000)
    out.write(LARGE, done.append)
    out.write("more", done.append)

    assert done == ["output_slow"]
    await asyncio.to_thread(read_all, pipe[0], len(LARGE))
    await out.close()
    assert done == ["output_slow", ""]


async def test_a_reader_that_has_gone_is_told_and_nothing_is_raised(pipe):
    out, done = make(pipe[1])
    out.write(LARGE, done.append)
    os.close(pipe[0])
    pipe[0] = -1
    await asyncio.sleep(0.01)
    out.write("more", done.append)
    await out.close()

    assert done == ["output_closed", "output_closed"]
    assert out.closed


async def test_a_stop_that_is_cancelled_gives_up_what_waits(pipe):
    out, done = make(pipe[1])
    out.write(LARGE, done.append)
    stop = asyncio.create_task(out.close())
    await asyncio.sleep(0)
    stop.cancel()
    await asyncio.wait([stop])

    assert done == ["shutdown"]


async def test_a_closed_descriptor_is_a_closed_output(pipe):
    os.close(pipe[1])
    descriptor, pipe[1] = pipe[1], -1
    out, done = make(descriptor)
    out.write("x", done.append)
    await out.close()

    assert done == ["output_closed"]


async def test_a_file_that_others_also_write_is_appended_to(tmp_path):
    with (tmp_path / "log").open("wb", buffering=0) as file:
        file.write(b"before\n")
        out, done = make(file.fileno())
        out.write("ours\n", done.append)
        file.write(b"after\n")
        await out.close()

    assert (tmp_path / "log").read_bytes() == b"before\nours\nafter\n"


async def test_a_full_socket_as_of_a_journal_does_not_block():
    near, far = socket.socketpair()
    with near, far:
        out, done = make(near.fileno())
        out.write(LARGE * 4, done.append)
        assert done == []
        taken = await asyncio.to_thread(read_all, far.fileno(), len(LARGE) * 4)
        await out.close()

    assert (len(taken), done) == (len(LARGE) * 4, [""])


async def test_a_terminal_that_is_not_read_does_not_block_and_keeps_its_flags():
    master, slave = pty.openpty()
    blocking = os.get_blocking(slave)
    out, done = make(slave)
    out.write(LARGE, done.append)

    assert done == []
    assert os.get_blocking(slave) is blocking
    stop = asyncio.create_task(out.close())
    await asyncio.sleep(0)
    stop.cancel()
    await asyncio.wait([stop])
    os.close(master)
    os.close(slave)


async def test_a_pipe_that_cannot_be_opened_again_is_written_in_sure_steps(pipe, monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(output.os, "open", refuse)
    out, done = make(pipe[1])
    monkeypatch.undo()
    out.write(LARGE, done.append)
    assert done == []

    taken = await asyncio.to_thread(read_all, pipe[0], len(LARGE))
    await out.close()

    assert (len(taken), done) == (len(LARGE), [""])
