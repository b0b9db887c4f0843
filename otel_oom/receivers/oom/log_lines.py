r"""What the kernel's log says of OOM kills, line by line (mm/oom_kill.c, Linux 5.10 to 7.x).

A record of /dev/kmsg is `level,sequence,microseconds,flags[,...];text`, in which what is not
printable ASCII, and the backslash, stands as `\xNN` (Documentation/ABI/testing/dev-kmsg). So one
record is one line, whatever bytes a process's name holds; and only the kernel itself can write
one of facility 0. Names are read from the fixed ends of their lines, because they may hold
anything, also what looks like the rest of the line.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import NamedTuple

from otel_oom import errors

_FACILITY_SHIFT = 3
_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
_CONSTRAINTS = {
    "NONE": "none",
    "CPUSET": "cpuset",
    "MEMORY_POLICY": "memory_policy",
    "MEMCG": "memcg",
}


class LogRecord(NamedTuple):
    """One record. `time_us` is of the kernel's own clock; `text` is still escaped.

    `is_continuation`: it goes on a line that another writer had cut.
    """

    sequence: int
    time_us: int
    is_kernel: bool
    is_continuation: bool
    text: str


class Header(NamedTuple):
    """Who asked, and for what: the first line of a report."""

    name: str
    gfp_flags: str
    order: int


class Asking(NamedTuple):
    """The thread that asked, by its id."""

    tid: int


class Usage(NamedTuple):
    """Of the cgroup whose limit was hit, in KiB."""

    usage_kib: int
    limit_kib: int


class Columns(NamedTuple):
    """What the columns of the table of processes are; kernels differ."""

    names: tuple[str, ...]


class Row(NamedTuple):
    """A process that could have been chosen: the cells of its row, its name last."""

    cells: tuple[str, ...]


class Chosen(NamedTuple):
    """The kernel's summary of its decision; `rest` is all of it that names cgroups, escaped."""

    constraint: str
    pid: int
    rest: str

    def cgroups(self, name: str) -> tuple[str | None, str] | None:
        """The limit's cgroup (None: no cgroup's limit) and the victim's, whose name is `name`.

        None if cgroups have names with which the line can be read in more ways than one.
        """
        found = set(_readings(self.rest, name)) or set(_readings(self.rest, None))
        return found.pop() if len(found) == 1 else None


class Killed(NamedTuple):
    """A kill. Sizes are in KiB; `pid` is a thread's if the process's first thread has exited."""

    is_memcg: bool
    pid: int
    name: str
    virtual_kib: int
    anon_kib: int
    file_kib: int
    shmem_kib: int
    uid: int | None = None
    page_tables_kib: int | None = None
    score_adj: int | None = None


class GroupKill(NamedTuple):
    """memory.oom.group of this cgroup: all of it is killed with the one that was chosen."""

    cgroup: str


class Exiting(NamedTuple):
    """The chosen process was gone before it could be killed: no kill, nothing is counted."""

    pid: int


Line = Header | Asking | Usage | Columns | Row | Chosen | Killed | GroupKill | Exiting

UNFINISHED = ("oom-kill:", "Tasks in ")
"""Lines that the kernel writes in pieces, between which another processor may write its own."""


def decode(raw: bytes) -> LogRecord:
    """One record as it was read; `BadRecord` if the kernel cannot have written it."""
    prefix, separator, rest = raw.partition(b";")
    fields = prefix.split(b",")
    try:
        level, sequence, time_us, flags = int(fields[0]), int(fields[1]), int(fields[2]), fields[3]
        text = rest.split(b"\n", 1)[0].decode("ascii")
    except (ValueError, IndexError) as error:
        raise errors.BadRecord(f"no record of the kernel's log: {raw[:80]!r}") from error
    if not separator:
        raise errors.BadRecord(f"a record of the kernel's log has no text: {raw[:80]!r}")
    return LogRecord(sequence, time_us, level >> _FACILITY_SHIFT == 0, flags == b"c", text)


def understand(text: str) -> Line | None:
    """What a line says; None if it is not about an OOM kill."""
    for sign, pattern, make in _KINDS:
        if sign in text and (found := pattern.match(text)):
            return make(found)
    return None


@functools.lru_cache(256)
def unescape(text: str) -> str:
    """A name as records spell it: what is no UTF-8 is kept as backslash, x and two digits."""
    raw = _ESCAPE.sub(lambda found: bytes([int(found[1], 16)]), text.encode())
    return raw.decode("utf-8", "backslashreplace")


def _header(found: re.Match[str]) -> Line:
    return Header(unescape(found["name"]), found["gfp"], int(found["order"]))


def _chosen(found: re.Match[str]) -> Line:
    constraint = _CONSTRAINTS.get(found["constraint"], found["constraint"].lower())
    return Chosen(constraint, int(found["pid"]), found["rest"])


def _readings(rest: str, name: str | None) -> Iterator[tuple[str | None, str]]:
    """Every way of reading `,oom_memcg=LIMIT,task_memcg=CGROUP,task=NAME` that makes sense."""
    for before, after in _cuts(rest, ",task_memcg="):
        limits: list[str | None] = [limit for _, limit in _cuts(before, ",oom_memcg=")]
        if before.endswith(",global_oom"):
            limits.append(None)
        for cgroup, task in _cuts(after, ",task="):
            if name is not None and unescape(task) != name:
                continue
            for limit in limits:
                if limit is None:
                    yield None, unescape(cgroup)
                elif _is_within(cgroup, limit):
                    yield unescape(limit), unescape(cgroup)


def _cuts(text: str, mark: str) -> Iterator[tuple[str, str]]:
    """What is before and after each place where the mark stands."""
    at = text.find(mark)
    while at >= 0:
        yield text[:at], text[at + len(mark) :]
        at = text.find(mark, at + 1)


def _is_within(cgroup: str, limit: str) -> bool:
    return cgroup == limit or cgroup.startswith(limit.rstrip("/") + "/")


def _killed(found: re.Match[str]) -> Line:
    virtual, anon, file, shmem = map(int, found.group(4, 5, 6, 7))
    uid, page_tables, score_adj = (int(x) if x else None for x in found.group(8, 9, 10))
    return Killed(
        is_memcg=found[1].startswith("Memory cgroup out of memory"),
        pid=int(found[2]),
        name=unescape(found[3]),
        virtual_kib=virtual,
        anon_kib=anon,
        file_kib=file,
        shmem_kib=shmem,
        uid=uid,
        page_tables_kib=page_tables,
        score_adj=score_adj,
    )


_KINDS = (
    (
        " invoked oom-killer: ",
        re.compile(
            r"(?P<name>.*) invoked oom-killer: gfp_mask=(?P<gfp>0x[0-9a-f]+)\(.*\), "
            r"(?:nodemask=.*, )?order=(?P<order>-?\d+), oom_score_adj=-?\d+$"
        ),
        _header,
    ),
    (
        ": Killed process ",
        re.compile(
            r"(.*?): Killed process (\d+) \((.*)\) total-vm:(\d+)kB, anon-rss:(\d+)kB, "
            r"file-rss:(\d+)kB, shmem-rss:(\d+)kB"
            r"(?:, UID:(\d+) pgtables:(\d+)kB oom_score_adj:(-?\d+))?"
        ),
        _killed,
    ),
    (
        "oom-kill:",
        re.compile(
            r"oom-kill:constraint=CONSTRAINT_(?P<constraint>\w+),"
            r"(?P<rest>.*),pid=(?P<pid>\d+),uid=\d+$"
        ),
        _chosen,
    ),
    (
        "Tasks in ",
        re.compile(r"Tasks in (.*) are going to be killed due to memory\.oom\.group set$"),
        lambda found: GroupKill(unescape(found[1])),
    ),
    (
        " is already exiting",
        re.compile(r".*?: OOM victim (\d+) \(.*\) is already exiting\. Skip killing the task$"),
        lambda found: Exiting(int(found[1])),
    ),
    ("PID: ", re.compile(r"CPU: \d+ .*?PID: (\d+) Comm: "), lambda found: Asking(int(found[1]))),
    (
        "memory: usage ",
        re.compile(r"memory: usage (\d+)kB, limit (\d+)kB, failcnt \d+$"),
        lambda found: Usage(int(found[1]), int(found[2])),
    ),
    (
        "[  pid  ]",
        re.compile(r"\[  pid  \] +(.*)$"),
        lambda found: Columns(("pid", *found[1].split())),
    ),
    (
        "[",
        re.compile(r"\[ *(\d+)\] +(\d.*)$"),
        lambda found: Row((found[1], found[2])),
    ),
)
"""Signs by which to look, the patterns, and what to make of them."""
