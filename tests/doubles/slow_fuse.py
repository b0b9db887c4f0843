"""A file whose reads, writes and fsyncs take as long as a test says; slow_fuse.c serves it.

    with slow_fuse.file(1 << 30, depth=1) as slow:
        slow.delay(read_s=0.02)      # from now on
        ...
        assert slow.served("read") > 0

A loop device over it is a slow disk that serves `depth` requests at once. Needs root.
"""

from __future__ import annotations

import contextlib
import mmap
import pathlib
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence

from doubles import compiled

_KINDS = ("read", "write", "fsync")
_CONTROL = struct.Struct("=QQQ")  # delay_ns, error, served: struct control of slow_fuse.c
_CONTROL_BYTES = 4096
_END_S = 10.0
_MEMORY = pathlib.Path("/dev/shm")


class SlowFile:
    """The file, as long as its server lives."""

    def __init__(self, path: pathlib.Path, control: mmap.mmap) -> None:
        self.path = path
        self._control = control

    def delay(self, *, read_s: float = 0, write_s: float = 0, fsync_s: float = 0) -> None:
        """Let each request take this much longer; what is not named is at once."""
        for kind, delay_s in zip(_KINDS, (read_s, write_s, fsync_s), strict=True):
            struct.pack_into("=Q", self._control, self._at(kind), round(delay_s * 1e9))

    def fail(self, kind: str, error: int) -> None:
        """Answer `read`, `write` or `fsync` with this errno instead; 0 for the work again."""
        struct.pack_into("=Q", self._control, self._at(kind) + 8, error)

    def served(self, kind: str) -> int:
        """Requests of this kind that came so far."""
        served: int = _CONTROL.unpack_from(self._control, self._at(kind))[2]
        return served

    def _at(self, kind: str) -> int:
        return _KINDS.index(kind) * _CONTROL.size


@contextlib.contextmanager
def file(size_bytes: int, *, depth: int = 1, processors: Sequence[int] = ()) -> Iterator[SlowFile]:
    """A sparse file of this size, which serves `depth` requests at once, on these processors.

    Its data is in memory.
    """
    where = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="slow-fuse-", dir=where) as name:
        folder = pathlib.Path(name)
        for file_name, bytes_ in {"data": size_bytes, "control": _CONTROL_BYTES, "file": 0}.items():
            with (folder / file_name).open("wb") as made:
                made.truncate(bytes_)
        with (folder / "control").open("r+b") as opened, _serving(folder, depth, processors):
            slow = SlowFile(folder / "file", mmap.mmap(opened.fileno(), _CONTROL_BYTES))
            # A loop device of Linux 6.1 takes the size that was asked for last.
            slow.path.stat()
            try:
                yield slow
            finally:
                slow.delay()  # whoever still waits is served now
                subprocess.run(["umount", "--lazy", slow.path], check=True)


@contextlib.contextmanager
def _serving(folder: pathlib.Path, depth: int, processors: Sequence[int]) -> Iterator[None]:
    """The server, which ends by itself when its file is unmounted and no longer used."""
    arguments = [folder / "data", folder / "file", folder / "control", str(depth)]
    pinned = ["taskset", "-c", ",".join(map(str, processors))] if processors else []
    command = [*pinned, compiled.binary("slow_fuse"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        if server.stdout.readline() != "ready\n":
            raise OSError(f"slow_fuse ended with {server.wait()}")
        try:
            yield
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(_END_S)
        finally:
            server.kill()  # whoever still uses the file gets an error now
