"""A kill, or a loss of power, at each change that a small life makes to its files.

The oracle is outside: who is told by a pipe what was accepted and what came. After each of them
another life starts on what is left: all that was accepted comes.
"""

from __future__ import annotations

import asyncio
import collections
import logging
import os
import pathlib
import random
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator

import pytest
from doubles import disk_life, disk_power, disk_tracer

NAMES = ["a", "b" * 5000, "c", "d"]
DELIVERED = 2
AFTER_A_KILL = 1
"""Deliveries that may come again: the destination had it, and nobody knew."""

_MEMORY = pathlib.Path("/dev/shm")


@pytest.fixture
def folder() -> Iterator[pathlib.Path]:
    """In memory: what a sync costs is no matter here, and which writes were synced is known."""
    if not disk_tracer.WRITES:
        pytest.skip("knows the system calls of x86-64 and arm64 only: add this machine's")
    logging.disable()
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as name:
        yield pathlib.Path(name)
    logging.disable(logging.NOTSET)


def fresh(folder: pathlib.Path) -> list[str]:
    """A first life: the files are made in it."""
    return []


def stopped(folder: pathlib.Path) -> list[str]:
    """What an earlier life left, in good order."""
    disk_life.live(folder, ["before 1", "before 2"], os.open(os.devnull, os.O_WRONLY), 0)
    return ["before 1", "before 2"]


def damaged(folder: pathlib.Path) -> list[str]:
    """A file that must be made anew: its header is damaged."""
    left = stopped(folder)
    with (folder / "queue.db").open("r+b") as file:
        file.write(b"?")
    return left


LEFT = pytest.mark.parametrize("left", [fresh, stopped, damaged])


class Told:
    """What the outsider heard: the lines that were written into the pipe until the end."""

    def __init__(self, left: list[str]) -> None:
        self._reader, self.pipe = os.pipe()
        self._left = left

    def read(self) -> tuple[set[str], list[str]]:
        """What was accepted, and what came."""
        os.close(self.pipe)
        with os.fdopen(self._reader) as reader:
            return said(reader.read().splitlines(), self._left)


def said(lines: list[str], left: list[str]) -> tuple[set[str], list[str]]:
    words = [line.partition(" ") for line in lines]
    accepted = {name for word, _, name in words if word == "accepted"}
    return accepted | set(left), [name for word, _, name in words if word == "came"]


def killed_at(number: int, folder: pathlib.Path, told: Told) -> bool:
    """Kill a life at its change of this number; False if it has not so many."""
    left = number

    def on_call(call: disk_tracer.Call) -> bool:
        nonlocal left
        left -= changes(call, str(folder))
        return left >= 0

    status = disk_tracer.run(lambda: disk_life.live(folder, NAMES, told.pipe, DELIVERED), on_call)
    assert status in (0, -signal.SIGKILL)
    return status != 0


def changes(call: disk_tracer.Call, folder: str) -> bool:
    """Whether it changes a file there, or tells the outsider."""
    if call.name.startswith(("open", "unlink", "rename", "mkdir")):
        path = call.text(1 if call.name.endswith("at") else 0)
        return path.startswith(folder) and (call.name != "openat" or _makes(call))
    return call.path().startswith((folder, "pipe:"))


def _makes(call: disk_tracer.Call) -> bool:
    return bool(call.arguments[2] & os.O_CREAT)


@LEFT
def test_a_kill_at_each_change_loses_nothing(left: Callable, folder: pathlib.Path, capsys) -> None:
    number, goes_on, again = 0, True, 0
    while goes_on:
        place = folder / str(number)
        place.mkdir()
        told = Told(left(place))
        goes_on = killed_at(number, place, told)
        accepted, came = told.read()
        then, damage = asyncio.run(disk_life.deliver(place))
        assert accepted <= {*came, *then}, f"killed at its change {number}"
        twice = sum(
            (collections.Counter(came + then) - collections.Counter({*came, *then})).values()
        )
        assert twice <= AFTER_A_KILL
        assert damage == 0, "a kill is no damage"
        again += twice
        shutil.rmtree(place)
        number += 1
    with capsys.disabled():
        print(f"\nkilled at each of {number - 1} changes: {again} came twice, none was lost")
    assert number > 40


@LEFT
def test_a_loss_of_power_at_each_change_loses_nothing(
    left: Callable, folder: pathlib.Path, is_long: bool, capsys
) -> None:
    place = folder / "live"
    place.mkdir()
    kept = left(place)
    before = {path.name: path.read_bytes() for path in place.iterdir()}
    told, recording = Told(kept), disk_power.Recording(place)
    life = lambda: disk_life.live(place, NAMES, told.pipe, DELIVERED)  # noqa: E731
    assert disk_tracer.run(life, recording.note) == 0
    dice = random.Random(5)
    images = 0
    for cut in range(len(recording.events) + 1):
        events = recording.events[:cut]
        lines = [event.data.decode().strip() for event in events if event.kind == "told"]
        accepted, came = said(lines, kept)
        for odds in [0, 1] + [0.5] * 20 if is_long else [(0.5, 0, 0.5, 1)[cut % 4]]:
            state = disk_power.image(events, before, dice, odds)
            then, _ = asyncio.run(disk_life.deliver(restored(folder / "image", state)))
            assert accepted <= {*came, *then}, (cut, odds, state.keys())
            shutil.rmtree(folder / "image")
            images += 1
    with capsys.disabled():
        print(f"\npower lost at each of {len(recording.events)} changes: {images} images")


def restored(folder: pathlib.Path, state: dict[str, bytes]) -> pathlib.Path:
    folder.mkdir()
    for name, data in state.items():
        (folder / name).write_bytes(data)
    return folder
