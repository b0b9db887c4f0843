"""The kernel's log, held open as the next way of capturing while a better one works.

When the better one fails, kills since it was last seen to work are in the log. So the log is
held at the place of that moment, which is known only afterwards: two open files take turns. A
kill that was told by then and stands behind that place is known by its victim's pid.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable

from otel_oom.receivers.oom.kernel_log import KernelLog


class Standby:
    """Two places in one log: the last moment at which every kill had been told, and a newer one."""

    def __init__(self, root: pathlib.Path) -> None:
        """Open the log; `ProbeUnsupported` says why that is refused."""
        self._kept = KernelLog(root)
        try:
            self._newer = KernelLog(root)
        except BaseException:
            self._kept.close()
            raise
        self._told: set[int] = set()
        self._told_before: set[int] = set()

    @property
    def log(self) -> KernelLog:
        """The log from the last confirmed moment on."""
        return self._kept

    def note(self, pids: Iterable[int]) -> None:
        """These victims have been told."""
        self._told.update(pids)

    def begin(self) -> None:
        """Now may be a moment at which every kill has been told."""
        self._newer.to_end()

    def confirm(self) -> None:
        """It was."""
        self._kept, self._newer = self._newer, self._kept
        self._told_before, self._told = self._told, set()

    def take_told(self) -> set[int]:
        """Victims that may stand behind the confirmed moment and have been told; once."""
        told = self._told | self._told_before
        self._told, self._told_before = set(), set()
        return told

    def is_open(self) -> bool:
        """Whether both files are still the log."""
        return self._kept.is_open() and self._newer.is_open()

    def close(self) -> None:
        """Close both."""
        self._kept.close()
        self._newer.close()
