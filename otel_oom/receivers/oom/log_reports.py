"""Puts the lines of the kernel's log together: which belong to one kill, and to one decision.

The kernel writes a report before it kills: who asked, the processes it could choose from, whom it
chose. It leaves reports out beyond 10 in 5 s, but never the line of a kill. All is written under
one lock (mm/oom_kill.c, oom_lock), so reports do not mix with each other, only with what others
log, which may also cut a line in pieces.
"""

from __future__ import annotations

import dataclasses

from otel_oom.receivers.oom import log_lines
from otel_oom.receivers.oom.log_lines import (
    Asking,
    Chosen,
    Columns,
    Exiting,
    GroupKill,
    Header,
    Killed,
    LogRecord,
    Row,
    Usage,
)

_MOST_ROWS = 4096
"""Processes kept of a report; the kernel lists all that it could choose from."""

_MOST_PIECE = 16 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A process that could have been chosen; `pid` is of one of its threads, mostly the first."""

    pid: int
    tgid: int
    name: str
    rss_pages: int
    swap_pages: int | None


@dataclasses.dataclass(slots=True)
class Report:
    """What the kernel wrote before a kill, as far as it came."""

    header: Header
    asking: Asking | None = None
    usage: Usage | None = None
    chosen: Chosen | None = None
    is_pieced: bool = False
    candidates: dict[int, Candidate] = dataclasses.field(default_factory=dict)
    is_cut: bool = False

    def tgid(self, pid: int) -> int | None:
        """The process of a thread; None if the report does not tell."""
        if pid in self.candidates:
            return self.candidates[pid].tgid
        is_process = any(each.tgid == pid for each in self.candidates.values())
        return pid if is_process else None


@dataclasses.dataclass(slots=True)
class Decision:
    """One decision of the kernel: the first kill's record, and what came of it so far.

    `limit_cgroup` and `cgroup` (the first victim's) are as the report has them.
    """

    first: int
    primary_pid: int
    report: Report | None
    limit_cgroup: str | None = None
    cgroup: str | None = None
    group: str | None = None
    kills: int = 1


@dataclasses.dataclass(slots=True)
class LoggedKill:
    """A line of a kill, and what it belongs to."""

    killed: Killed
    sequence: int
    time_us: int
    decision: Decision
    is_primary: bool

    @property
    def report(self) -> Report | None:
        """The report that names this victim."""
        return self.decision.report if self.is_primary else None

    @property
    def tgid(self) -> int | None:
        """The victim's process, if the report tells; `killed.pid` may be a thread's."""
        return self.decision.report.tgid(self.killed.pid) if self.decision.report else None


class Reports:
    """Takes records in their order, gives a kill for each line of one that was not told yet.

    `repeats` counts lines that name a victim again: of a group kill the chosen one may be killed
    twice, and the kernel's counters move twice.
    """

    def __init__(self) -> None:
        self.repeats = 0
        self._report: Report | None = None
        self._columns: tuple[str, ...] = ()
        self._decision: Decision | None = None
        self._piece = ""

    def part(self, kill: LoggedKill) -> None:
        """It turned out to be of no group kill, but of a decision that has no report."""
        kill.decision.kills -= 1
        self._decision = kill.decision = Decision(kill.sequence, kill.killed.pid, None)
        kill.is_primary = True

    def forget(self) -> None:
        """Records are missing from here on: what came before them belongs to nothing after."""
        self._report = self._decision = None
        self._piece = ""

    def take(self, record: LogRecord) -> LoggedKill | None:
        """Take one record; what others than the kernel wrote is left alone."""
        if not record.is_kernel:
            return None
        text, is_pieced = self._joined(record)
        line = log_lines.understand(text)
        if line is None:
            self._keep_piece(text, is_pieced=is_pieced)
            return None
        self._piece = ""
        if isinstance(line, Killed):
            return self._killed(line, record)
        if isinstance(line, Header):
            self._report, self._decision, self._columns = Report(line), None, ()
        elif isinstance(line, GroupKill):
            if self._decision:
                self._decision.group = line.cgroup
        elif self._report:
            self._note(self._report, line, is_pieced=is_pieced)
        return None

    def _joined(self, record: LogRecord) -> tuple[str, bool]:
        """A line that was cut, with the piece that goes on where it ended."""
        if self._piece and record.is_continuation:
            return self._piece + record.text, True
        return record.text, False

    def _keep_piece(self, text: str, *, is_pieced: bool) -> None:
        """The start of a line whose end may come; what others log in between is not ours."""
        if (is_pieced or text.startswith(log_lines.UNFINISHED)) and len(text) < _MOST_PIECE:
            self._piece = text

    def _note(self, report: Report, line: log_lines.Line, *, is_pieced: bool) -> None:
        if isinstance(line, Asking):
            report.asking = report.asking or line
        elif isinstance(line, Usage):
            report.usage = line
        elif isinstance(line, Columns):
            self._columns = line.names
        elif isinstance(line, Row):
            self._candidate(report, line)
        elif isinstance(line, Chosen):
            report.chosen, report.is_pieced = line, is_pieced
        elif isinstance(line, Exiting):
            self._report = None

    def _candidate(self, report: Report, row: Row) -> None:
        """One row of the table; a kernel whose columns are others has none that we know."""
        cells = (row.cells[0], *row.cells[1].split(None, len(self._columns) - 2))
        found = dict(zip(self._columns, cells, strict=False))
        if len(report.candidates) >= _MOST_ROWS:
            report.is_cut = True
            return
        try:
            pid, tgid, rss = int(found["pid"]), int(found["tgid"]), int(found["rss"])
            swap = int(found["swapents"]) if "swapents" in found else None
            name = log_lines.unescape(found["name"])
        except (KeyError, ValueError):
            return
        report.candidates[pid] = Candidate(pid, tgid, name, rss, swap)

    def _killed(self, line: Killed, record: LogRecord) -> LoggedKill | None:
        decision = self._decision
        if decision and decision.group is not None:
            if line.pid == decision.primary_pid:
                self.repeats += 1
                return None
            decision.kills += 1
            return LoggedKill(line, record.sequence, record.time_us, decision, is_primary=False)
        report, self._report = self._report, None
        if report and not _is_of(report, line.pid):
            report = None
        self._decision = Decision(record.sequence, line.pid, report)
        if report and report.chosen and (found := report.chosen.cgroups(line.name)):
            self._decision.limit_cgroup, self._decision.cgroup = found
        return LoggedKill(line, record.sequence, record.time_us, self._decision, is_primary=True)


def _is_of(report: Report, pid: int) -> bool:
    """Whether a report is of this victim; the line of a kill may name another of its threads."""
    chosen = report.chosen
    return chosen is not None and (pid == chosen.pid or report.tgid(pid) == chosen.pid)
