"""Puts a new database in the place of another, so that a kill at any instant leaves one of them.

A database is two files, which no single rename replaces. So the new one is made beside it, and is
the valid one from the moment it is called `.ready`; what is left to do then, the next start does.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import logging
import os
import pathlib

_log = logging.getLogger(__name__)

_MOST_KEPT = 3
"""Damaged files that are kept to be looked at; the oldest goes when there is one more."""


_LOGS = ("-wal", "-journal")
"""What SQLite keeps beside a database; the second one while it is made only."""


def log_of(path: pathlib.Path) -> pathlib.Path:
    """The write-ahead log of a database."""
    return path.with_name(path.name + _LOGS[0])


def unfinished(path: pathlib.Path) -> pathlib.Path:
    """Where a new database is made; what an earlier life left there is removed."""
    new = path.with_name(path.name + ".new")
    _remove(new)
    return new


def offer(path: pathlib.Path) -> None:
    """Let the finished new database, which is synced, be the valid one; then `finish`."""
    path.with_name(path.name + ".new").rename(_ready(path))
    sync_folder(path)


def discard(path: pathlib.Path) -> None:
    """Remove an old database that is not needed any more, once a new one is offered."""
    _remove(path)


def finish(path: pathlib.Path) -> None:
    """Put what is offered in its place; the old one is kept beside it, if it is still there."""
    if _ready(path).exists():
        _set_aside(path)
        _ready(path).rename(path)
        sync_folder(path)
    _remove(path.with_name(path.name + ".new"))


def sync_folder(path: pathlib.Path) -> None:
    """Let the names of the files be on the disk, too."""
    fd = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _set_aside(path: pathlib.Path) -> None:
    """Keep the old files under the time's name, and no more of them than a few."""
    now = dt.datetime.now(dt.UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    kept = path.with_name(f"{path.name}.damaged-{now}")
    for old, new in zip(_files(path), _files(kept), strict=True):
        with contextlib.suppress(FileNotFoundError):
            old.rename(new)
    for oldest in damaged(path)[:-_MOST_KEPT]:
        _log.warning("%s is removed: %d damaged files are kept", oldest, _MOST_KEPT)
        _remove(oldest)


def damaged(path: pathlib.Path) -> list[pathlib.Path]:
    """The damaged files that were set aside, the oldest first."""
    found = path.parent.glob(f"{path.name}.damaged-*")
    return sorted(one for one in found if not one.name.endswith(_LOGS))


def _ready(path: pathlib.Path) -> pathlib.Path:
    return path.with_name(path.name + ".ready")


def _files(path: pathlib.Path) -> list[pathlib.Path]:
    """A database's logs, and itself."""
    return [path.with_name(path.name + end) for end in (*_LOGS, "")]


def _remove(path: pathlib.Path) -> None:
    """The logs first: alone they are nothing, and beside another database they would be damage."""
    for one in _files(path):
        one.unlink(missing_ok=True)
