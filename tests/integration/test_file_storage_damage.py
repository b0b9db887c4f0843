"""A queue's files in which one byte is another, or which end anywhere: what is whole is delivered.

The oracle is outside: the bodies that were accepted, which the test keeps. A life is started on each
damaged copy; it must start, deliver nothing that was not accepted, and count what it cannot
deliver. `make chaos` damages each byte of the files and takes each length, `make test` some.
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import logging
import os
import pathlib
import shutil
import tempfile
from collections.abc import Iterator

import pytest
from doubles import exporting, keeping

from otel_oom.pipeline.sending.request import Answer, Request

SHORT = 40
"""Copies of each file that a short test damages, at most."""

DELIVERED = ("first", "second")
KEPT = ("a" * 10, "b" * 1500, "c" * 5000, "d" * 60, "e" * 700)
"""In one page with others, and in a page with a second one that goes on."""

LOG, TALLY = "queue.db-wal", "queue.db.tally"
FILES = ("queue.db", LOG, TALLY)
_MEMORY = pathlib.Path("/dev/shm")


class Destination(keeping.Destination):
    """Takes so many, and is away from then on."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    async def send(self, request: Request) -> Answer:
        self.is_up = len(self.bodies) < self._most
        return await super().send(request)


@dataclasses.dataclass(frozen=True)
class Damage:
    """What is done to a copy of one file."""

    file: str
    at: int
    cut: bool = False

    def do(self, folder: pathlib.Path) -> None:
        path = folder / self.file
        if self.cut:
            os.truncate(path, self.at)
            return
        with path.open("r+b") as file:
            byte = os.pread(file.fileno(), 1, self.at)[0]
            os.pwrite(file.fileno(), bytes([byte ^ 0xFF]), self.at)


def body(name: str) -> bytes:
    return exporting.logs(name).encoded()


async def fill(folder: pathlib.Path) -> pathlib.Path:
    """Two lives, of which the second is killed: some is in the file, and some in its log."""
    for number, names in enumerate((DELIVERED + KEPT[:3], KEPT[3:])):
        destination = Destination(1)
        async with keeping.running(folder / "live", destination) as (agent, exporter):
            for name in names:
                await agent.consume(exporter, exporting.logs(name))
            await keeping.until(lambda taker=destination: taker.tries > 1)
            await agent.consume(exporter, exporting.logs(f"{number}"))
            if number:
                copy(folder / "live", folder / "kept")
    return folder / "kept"


ACCEPTED = [body(name) for name in (*KEPT[:3], "0", *KEPT[3:], "1")]


def copy(source: pathlib.Path, target: pathlib.Path) -> None:
    target.mkdir()
    for name in FILES:
        shutil.copy(source / name, target / name)


@pytest.fixture(scope="module")
def killed() -> Iterator[pathlib.Path]:
    """A queue as a kill left it. In memory: each copy is synced several times."""
    with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as name:
        (pathlib.Path(name) / "live").mkdir()
        yield asyncio.run(fill(pathlib.Path(name)))


async def life(folder: pathlib.Path) -> tuple[list[bytes], dict[str, int]]:
    """Deliver all that is whole, then something new; what came, and what became of all."""
    destination = keeping.Destination()
    async with keeping.running(folder, destination) as (agent, exporter):
        await agent.consume(exporter, exporting.logs("new"))
        await keeping.until(lambda: "held" not in agent.sum())
    assert destination.bodies.pop() == body("new")
    return destination.bodies, agent.sum()


def lost_of(kept: pathlib.Path, damage: Damage) -> int:
    """How many of what was accepted do not come; they are counted, and nothing else comes."""
    folder = kept.parent / "copy"
    copy(kept, folder)
    try:
        damage.do(folder)
        came, became = asyncio.run(life(folder))
    finally:
        shutil.rmtree(folder)
    known = {*ACCEPTED, *map(body, DELIVERED)}
    assert set(came) <= known, "never anything but what was accepted"
    lost = len(set(ACCEPTED) - set(came))
    again = len(came) - len(set(ACCEPTED) & set(came))
    assert again <= len(DELIVERED), "what had been delivered may come once more"
    counted = became.get("storage_damaged", 0)
    assert lost - again <= counted <= lost, "lost is lost; one that comes again hides one"
    return lost


def outcomes(kept: pathlib.Path, damages: list[Damage]) -> collections.Counter[int]:
    logging.disable()
    try:
        return collections.Counter(_named(kept, damage) for damage in damages)
    finally:
        logging.disable(logging.NOTSET)


def _named(kept: pathlib.Path, damage: Damage) -> int:
    try:
        return lost_of(kept, damage)
    except BaseException as error:
        error.add_note(f"of {damage}")
        raise


def places(kept: pathlib.Path, file: str, *, is_long: bool, cut: bool = False) -> list[Damage]:
    """All of them, or some that move with no page's size."""
    size = (kept / file).stat().st_size
    step = 1 if is_long else size // SHORT | 1
    return [Damage(file, at, cut) for at in range(0, size, step)]


@pytest.mark.parametrize("file", FILES)
def test_a_byte_that_changes_costs_one_request_at_most(file, killed, is_long, capsys):
    found = outcomes(killed, places(killed, file, is_long=is_long))
    with capsys.disabled():
        print(f"\n{file}: {found.total()} bytes, {found[0]} cost nothing, {found[1]} one request")
    assert set(found) <= ({0} if file == TALLY else {0, 1})


@pytest.mark.parametrize("file", FILES)
def test_a_file_that_ends_early_costs_what_is_counted(file, killed, is_long, capsys):
    found = outcomes(killed, places(killed, file, is_long=is_long, cut=True))
    with capsys.disabled():
        print(f"\n{file}: {found.total()} lengths, {found[0]} cost nothing, at most {max(found)}")
    assert max(found) <= len(ACCEPTED)


def test_a_queue_that_is_gone_is_told_by_its_tally(killed, tmp_path, caplog):
    copy(killed, tmp_path / "copy")
    for name in FILES[:2]:
        (tmp_path / "copy" / name).unlink()
    came, became = asyncio.run(life(tmp_path / "copy"))
    assert came == []
    assert became == {"delivered": 1, "storage_damaged": len(ACCEPTED)}
    assert "it has less than was kept in it" in caplog.text


def test_what_was_damaged_is_kept_to_be_looked_at_but_not_for_ever(killed, tmp_path, caplog):
    copy(killed, tmp_path / "copy")
    for _ in range(5):
        Damage("queue.db", 0).do(tmp_path / "copy")
        asyncio.run(life(tmp_path / "copy"))
    kept = [one for one in (tmp_path / "copy").glob("*.damaged-*") if "-wal" not in one.name]
    assert len(kept) == 3
    assert str(max(kept)) in caplog.text


async def test_damage_that_is_met_while_the_agent_runs_is_survived(tmp_path, caplog):
    """More than the caches hold; pages are overwritten under the running agent."""
    names = [f"{number} " + "x" * 20_000 for number in range(400)]
    destination = keeping.Destination(is_up=False)
    async with keeping.running(tmp_path, destination) as (agent, exporter):
        for name in names:
            await agent.consume(exporter, exporting.logs(name))
        overwrite_leaves(tmp_path / "queue.db", 3)
        destination.is_up = True
        await keeping.until(lambda: agent.sum().get("delivered", 0) > 300)
        await agent.consume(exporter, exporting.logs("new"))
        await keeping.until(lambda: body("new") in destination.bodies)
        became = agent.sum()
    assert set(destination.bodies) <= {body(name) for name in [*names, "new"]}
    lost = len(names) + 1 - len(set(destination.bodies))
    assert 0 < lost <= became["storage_damaged"]
    assert "was made anew" in caplog.text


def overwrite_leaves(path: pathlib.Path, count: int) -> None:
    """Some pages from the middle of a table: 0x0d is the first byte of such a page."""
    with path.open("r+b") as file:
        size = os.fstat(file.fileno()).st_size
        leaves = [at for at in range(4096, size, 4096) if os.pread(file.fileno(), 1, at) == b"\r"]
        for at in leaves[len(leaves) // 2 :][:count]:
            os.pwrite(file.fileno(), b"\xff" * 4096, at)
