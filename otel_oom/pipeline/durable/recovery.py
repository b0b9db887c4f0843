"""Opens a storage's file whatever became of it: as it is, or made anew of what is whole in it."""

from __future__ import annotations

import dataclasses
import logging
import pathlib
import sqlite3

from otel_oom.pipeline.durable import salvage, schema, swap, tally, wal

_log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Opened:
    """An open file that is whole; `report` tells what became of it if it was not."""

    connection: sqlite3.Connection
    witness: tally.Witness
    report: salvage.Report | None


def opened(path: pathlib.Path) -> Opened:
    """Open or make the file; `errors.StorageError` if the disk or another's file forbids it."""
    try:
        return _opened(path)
    except sqlite3.Error as error:
        raise schema.failure(path, error) from error


def _opened(path: pathlib.Path) -> Opened:
    swap.finish(path)
    witness_path = path.with_name(path.name + ".tally")
    told = tally.read(witness_path)
    report = None
    try:
        connection = _whole(path, told)
    except schema.Damaged as fault:
        report = salvage.rebuild(path, str(fault))
        connection = schema.opened(path)
        tally.watch(connection)
        _judge(report, told, connection)
        _tell(path, report)
    witness = tally.Witness(witness_path, schema.VERSION)
    witness.tell(tally.counted(connection))
    return Opened(connection, witness, report)


def _whole(path: pathlib.Path, told: tally.Told | None) -> sqlite3.Connection:
    """A connection to a file that has all it should have, or raise `schema.Damaged`."""
    log = wal.read(swap.log_of(path))
    if log.is_broken:
        raise schema.Damaged("its write-ahead log is broken")
    has_file = path.exists() and path.stat().st_size >= wal.PAGE_BYTES
    if not has_file and any(frame.is_commit for frame in log.frames):
        raise schema.Damaged("it is shorter than its write-ahead log tells")
    connection = schema.opened(path, told.version if told and has_file else None)
    try:
        tally.watch(connection)
        _compare(told, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _compare(told: tally.Told | None, connection: sqlite3.Connection) -> None:
    if told and tally.missing(told.counts, tally.counted(connection)):
        raise schema.Damaged("it has less than was kept in it")


def _judge(report: salvage.Report, told: tally.Told | None, connection: sqlite3.Connection) -> None:
    """A damaged row that nobody misses had been delivered, and lay where damage brought it up."""
    report.gone, report.is_gone_known = report.damaged, told is not None
    if told is not None:
        report.gone = tally.missing(told.counts, tally.counted(connection))


def _tell(path: pathlib.Path, report: salvage.Report) -> None:
    kept = swap.damaged(path)[-1:]
    gone = str(_requests(report.gone))
    _log.error(
        "%s was damaged (%s) and was made anew: %d requests are whole, %s cannot be sent, %d are "
        "with the dead letters; the old file is kept as %s",
        path, report.fault, report.saved,
        gone if report.is_gone_known else f"at least {gone} (nobody knows how many there were)",
        _requests(report.damaged), kept[0] if kept else "nothing, it was not there",
    )  # fmt: skip


def _requests(counts: tally.Counts) -> int:
    return sum(requests for requests, _ in counts.values())
