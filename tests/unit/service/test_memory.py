"""The agent's memory: one arena for all threads."""

import platform
import re
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, threading
from otel_oom.service import memory
{call}
barrier = threading.Barrier(4)
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
def work():
    barrier.wait()
    libc.malloc(1000)
threads = [threading.Thread(target=work) for _ in range(3)]
[thread.start() for thread in threads]
work()
[thread.join() for thread in threads]
out = ctypes.c_void_p(libc.fopen(b"/proc/self/fd/1", b"w"))
libc.malloc_info(0, out)
libc.fclose(out)
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="only glibc has arenas: run it on Debian, for one"
)
@pytest.mark.parametrize(("call", "expected"), [("", {2, 3, 4}), ("memory.share_one_arena()", {1})])
def test_threads_share_one_arena_once_asked(call, expected):
    said = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(call=call)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )

    assert len(re.findall("<heap nr=", said.stdout)) in expected
