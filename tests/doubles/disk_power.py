"""What a loss of power may leave of a folder's files: every write that was not synced may be missing.

    recording = disk_power.Recording(folder)
    disk_tracer.run(main, recording.note)
    for cut in range(len(recording.events)): disk_power.image(recording.events[:cut], …)

The rules are POSIX's, stricter than any file system: a sync of a file makes its bytes last and no
name; a sync of the folder makes its names last. Names change in their order; writes that are not
synced may come in any order or not, and the last one in part, by sectors.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import random
from collections.abc import Mapping, Sequence

from doubles.disk_tracer import Call

_SECTOR_BYTES = 512


@dataclasses.dataclass(frozen=True)
class Event:
    """One change, or a line that was told to the outsider (`told`)."""

    kind: str
    name: str
    at: int = 0
    data: bytes = b""
    other: str = ""


class Recording:
    """The changes of the files of one folder, which has no folders in it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = str(folder)
        self.events: list[Event] = []

    def note(self, call: Call) -> bool:
        """Keep what a system call will do; the child goes on."""
        event = self._event(call)
        if event is not None:
            self.events.append(event)
        return True

    def _event(self, call: Call) -> Event | None:
        if call.name in ("openat", "unlink", "unlinkat", "rename", "renameat", "mkdir"):
            return self._of_names(call)
        path, arguments = call.path(), call.arguments
        if call.name == "write" and path.startswith("pipe:"):
            return Event("told", path, data=call.bytes(arguments[1], arguments[2]))
        if not path.startswith(self._folder) or path.endswith(" (deleted)"):
            return None
        name = os.path.relpath(path, self._folder)
        if call.name == "pwrite64":
            return Event("write", name, arguments[3], call.bytes(arguments[1], arguments[2]))
        if call.name == "ftruncate":
            return Event("truncate", name, arguments[1])
        if call.name in ("fsync", "fdatasync"):
            return Event("sync", name)
        raise NotImplementedError(f"{call.name} of {path}")

    def _of_names(self, call: Call) -> Event | None:
        first = 1 if call.name.endswith("at") else 0
        path = call.text(first)
        if not path.startswith(self._folder):
            return None
        name = os.path.relpath(path, self._folder)
        if call.name.startswith("unlink"):
            return Event("unlink", name)
        if call.name.startswith("rename"):
            to = call.text(first + 1 + first)
            return Event("rename", name, other=os.path.relpath(to, self._folder))
        if call.arguments[2] & os.O_CREAT:
            return Event("create", name)
        return None


@dataclasses.dataclass
class _File:
    lasting: bytearray = dataclasses.field(default_factory=bytearray)
    pending: list[Event] = dataclasses.field(default_factory=list)

    def image(self, chosen: Sequence[Event]) -> bytes:
        data = bytearray(self.lasting)
        for event in chosen:
            _apply(data, event)
        return bytes(data)


def image(
    events: Sequence[Event], before: Mapping[str, bytes], dice: random.Random, odds: float
) -> dict[str, bytes]:
    """A possible state of the folder; each change that is not synced lasts with these odds.

    `before` is what was there, and had been synced.
    """
    names = {name: _File(bytearray(data)) for name, data in before.items()}
    since_sync = [names]
    for event in events:
        if event.kind in ("create", "unlink", "rename"):
            names = _renamed(names, event)
            since_sync.append(names)
        elif event.kind == "sync" and event.name == ".":
            since_sync = [names]
        elif event.kind == "sync":
            file = names[event.name]
            file.lasting, file.pending = bytearray(file.image(file.pending)), []
        elif event.kind != "told":
            names[event.name].pending.append(event)
    lasting = since_sync[sum(dice.random() < odds for _ in since_sync[1:])]
    return {name: file.image(_chosen(file.pending, dice, odds)) for name, file in lasting.items()}


def _renamed(names: dict[str, _File], event: Event) -> dict[str, _File]:
    after = dict(names)
    if event.kind == "create":
        after.setdefault(event.name, _File())
    elif event.kind == "unlink":
        after.pop(event.name, None)
    elif event.name in after:
        after[event.other] = after.pop(event.name)
    return after


def _chosen(pending: Sequence[Event], dice: random.Random, odds: float) -> list[Event]:
    """Some of them; the last of these may have been cut off by the power in its middle."""
    chosen = [event for event in pending if dice.random() < odds]
    if chosen and chosen[-1].kind == "write" and dice.random() < odds < 1:
        sectors = dice.randrange(len(chosen[-1].data) // _SECTOR_BYTES + 1)
        whole = chosen.pop()
        chosen.append(dataclasses.replace(whole, data=whole.data[: sectors * _SECTOR_BYTES]))
    return chosen


def _apply(data: bytearray, event: Event) -> None:
    end = event.at + len(event.data)
    if event.kind == "truncate":
        end = event.at
        del data[end:]
    data.extend(bytes(max(end - len(data), 0)))
    data[event.at : end] = event.data
