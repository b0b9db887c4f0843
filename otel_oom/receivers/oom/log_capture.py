"""The mode `kmsg`: the kernel's log, for where no program of ours can run.

It needs the right to read the log and nothing else. The kernel never leaves out the line of a
kill, so there are as many lines as the kernel counts kills, unless the log overwrites what was
not read in time; then its counters tell of those.
"""

from __future__ import annotations

import collections
import logging
import time

from otel_oom import errors
from otel_oom.bpf.events import OomCounters
from otel_oom.pipeline.data import Batch
from otel_oom.receivers.oom import log_encode, log_reports, reconcile, state, victim
from otel_oom.receivers.oom.context import Context
from otel_oom.receivers.oom.judge import Judge
from otel_oom.receivers.oom.kills import Tally
from otel_oom.receivers.oom.log_kill import ToldKill
from otel_oom.receivers.oom.log_lines import LogRecord
from otel_oom.receivers.oom.run import Base, Run

logger = logging.getLogger(__name__)

MODE = "kmsg"

_TURN_RECORDS = 256
"""Records that are understood at most before the loop has its turn."""

_CHECK_TURNS = 64
"""Turns that a check of the books may take to come to the log's end."""

_SETTLE_S = 0.05
"""How long a kill waits for the lines that follow it, which tell of a group kill."""

_ZERO = OomCounters(*[0] * len(OomCounters._fields))


class LogCapture:
    """What the log says from a moment on; see `modes.Capture`."""

    mode = MODE

    def __init__(self, run: Run, base: Base) -> None:
        """Take over the log; `errors.ProbeUnsupported` says why it may not be read."""
        held = run.open_log()
        self._run, self._log = run, held.log
        self._told_before = held.take_told()
        self._encoder = log_encode.LogEncoder(
            run.boot_id,
            run.version,
            command_args=run.config.command_args,
            cap=run.config.siblings,
        )
        self._reports = log_reports.Reports()
        self._waiting: collections.deque[ToldKill] = collections.deque()
        self._distinct = 0
        self._primary: int | None = None
        self._overwritten = self._log.overwritten
        self._explained = self._log.overwritten
        self._checks = 0
        self._judge = Judge(run, base, run.encoder("counter"), self, time.time_ns())

    @property
    def fd(self) -> int:
        """Readable when there are records."""
        return self._log.fd

    @property
    def has_backlog(self) -> bool:
        """Whether `drain` left records that it had taken; it leaves them in the log."""
        return False

    @property
    def tally(self) -> Tally:
        """Victims; and victims that were named twice, each by a group kill."""
        return Tally(distinct=self._distinct, groups=self._reports.repeats)

    def counters(self) -> OomCounters:
        """The lines of kills, as the kernel side counts marks."""
        repeats = self._reports.repeats
        return _ZERO._replace(marks=self._distinct + repeats, repeats=repeats)

    def describe(self) -> str:
        """What the mode rests on."""
        return "mode kmsg, by the kernel's log"

    def failure(self) -> str:
        """Why it sees nothing any more; empty as long as it works."""
        if not self._log.is_open():
            return "the kernel's log is closed"
        if self._judge.is_blind:
            return "the kernel kills, and its log does not tell"
        return ""

    def drain(self, now_s: float) -> int:
        """Read up to a fixed number of records; returns how many."""
        for taken in range(_TURN_RECORDS):
            try:
                record = self._log.read()
            except errors.BadRecord as bad:
                logger.error("the kernel's log was not understood: %s", bad)  # noqa: TRY400
                continue
            except OSError:
                return taken  # `failure` tells of it
            if record is None:
                return taken
            self._take(record, now_s)
        return _TURN_RECORDS

    def _take(self, record: LogRecord, now_s: float) -> None:
        if self._log.overwritten != self._overwritten:
            self._overwritten = self._log.overwritten
            self._reports.forget()
        repeats = self._reports.repeats
        logged = self._reports.take(record)
        if self._reports.repeats != repeats:
            self._judge.books.add_repeat(self._primary)
        if logged is None or {logged.killed.pid, logged.tgid} & self._told_before:
            return
        kill = self._examine(logged, now_s)
        self._distinct += 1
        self._waiting.append(kill)
        cgroup = kill.cgroup
        inode = self._run.hierarchy.inode(cgroup) if cgroup is not None else 0
        self._judge.books.add_logged(inode or None, cgroup or "")
        if logged.is_primary:
            self._primary = inode or None
        self._run.kills[kill.constraint or "unknown"] += 1

    def _examine(self, logged: log_reports.LoggedKill, now_s: float) -> ToldKill:
        """Read what is left of the victim, at once."""
        proc = str(self._run.root / "proc")
        pid = logged.tgid or logged.killed.pid
        boot_ns = self._log.unix_ns(logged.time_us) - self._run.clock.to_unix_ns()
        found = victim.read(proc, pid, boot_ns)
        decision, cgroup = logged.decision, found.cgroup if found else None
        if not logged.is_primary and not _may_be_in(cgroup, decision.group):
            self._reports.part(logged)
        elif logged.is_primary and decision.cgroup is not None:
            cgroup = decision.cgroup
        context = self._context(logged, found, cgroup)
        had_memory = found is not None and victim.has_memory(proc, found.tgid)
        return ToldKill(logged, found, cgroup, context, had_memory, now_s + _SETTLE_S)

    def _context(
        self, logged: log_reports.LoggedKill, found: victim.Victim | None, cgroup: str | None
    ) -> Context | None:
        """Of a victim that is there; its pid may be another's otherwise."""
        if found is None or cgroup is None:
            return None
        return self._run.reader.read(cgroup, logged.decision.limit_cgroup, found.tgid)

    def ready(self, now_s: float, *, flush: bool = False) -> list[Batch]:
        """Records of kills that can be sent."""
        due: list[tuple[ToldKill, int]] = []
        while self._waiting and (flush or self._waiting[0].due_s <= now_s):
            kill = self._waiting.popleft()
            due.append((kill, self._log.unix_ns(kill.logged.time_us)))
        if not due:
            return []
        boot_to_unix_ns = self._run.clock.to_unix_ns()
        for kill, unix_ns in due:
            path = tuple((kill.cgroup or "").strip("/").split("/"))
            name = kill.logged.killed.name.encode()
            self._run.recent.note_one(unix_ns - boot_to_unix_ns, name, path)
        return [self._encoder.logs(due, boot_to_unix_ns, time.time_ns())]

    def next_s(self) -> float | None:
        """When `ready` will have something by itself."""
        return self._waiting[0].due_s if self._waiting else None

    def check(self) -> tuple[Batch | None, bool]:
        """Hold the books against the kernel: missed kills, and whether to look again soon."""
        kernel_kills = self._run.vmstat.kills()  # before the log: see `reconcile`
        is_drained = self._read_all()
        has_gap = self._log.overwritten != self._explained
        why = reconcile.LOG_OVERFLOW if has_gap else reconcile.NOT_SEEN
        self._judge.books.why_not_seen = why
        missed, verdict = self._judge.check(kernel_kills, lambda: is_drained)
        if not verdict.is_pending and is_drained:
            self._explained = self._log.overwritten
            self._judge.books.settle(lambda: self._run.vmstat.kills() == kernel_kills)
        self._checks += 1
        if self._checks > 1:
            self._told_before = set()  # those lines have been read
        return missed, verdict.is_pending

    def _read_all(self) -> bool:
        now_s = time.monotonic()
        return any(self.drain(now_s) < _TURN_RECORDS for _ in range(_CHECK_TURNS))

    def books(self) -> state.Saved:
        """What is reported so far, for whoever comes next."""
        return self._judge.saved()

    def finish(self) -> list[Batch]:
        """Tell all that is known; kills from here on are the next run's to find."""
        before = self._run.vmstat.kills()
        self._read_all()
        ready = self.ready(0.0, flush=True)
        missed = self._judge.close((before, self._run.vmstat.kills()))
        return ready if missed is None else [*ready, missed]

    def leave(self) -> list[Batch]:
        """Tell what is known, and leave the rest to another mode."""
        self._read_all()
        self._judge.leave()
        return self.ready(0.0, flush=True)

    def summary(self) -> str:
        """The identities now, or as they were at the end."""
        sums = self._judge.sums()
        return (
            f"kmsg: victims {sums.reported} = lines of kills {sums.marks} - repeated "
            f"{sums.repeats}; kernel's kills {sums.kernel_kills} (records of the log overwritten "
            f"unread {self._log.overwritten})" + self._judge.told_text()
        )

    def lost(self) -> float:
        """Records of the kernel's log that were overwritten before they were read."""
        return float(self._log.overwritten)

    def difference(self) -> float:
        """Kills that the books cannot explain: positive not seen by us, negative by the kernel."""
        return float(self._judge.difference)

    def close(self) -> None:
        """The log stays open for the run."""


def _may_be_in(cgroup: str | None, group: str | None) -> bool:
    """Whether nothing says that a cgroup is outside the one that was killed as a whole."""
    if cgroup is None or group is None:
        return True
    return cgroup == group or cgroup.startswith(group.rstrip("/") + "/")
