"""What one run leaves for the next: how far the kernel's counters are accounted for.

A kill while no agent runs moves the counters and nothing else. The next start of the same boot
finds the difference and reports it. The file is replaced as a whole, never written in place.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import pathlib

_NAME = "oom.json"
_VERSION = 1
_UNUSABLE = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What reading a file of any content can raise."""

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Saved:
    """`kills`: vmstat's count, all of it reported; `cgroups`: own kills by inode."""

    boot_id: str
    kills: int
    cgroups: dict[int, int]
    saved_unix_ns: int


class Store:
    """The file in `directory`; a directory that cannot be written is said once and lived with."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._path = directory / _NAME
        self._written: Saved | None = None
        self._is_broken = False

    def load(self, boot_id: str) -> Saved | None:
        """What a run of this boot left; None if there was none, or it cannot be read."""
        try:
            raw = json.loads(self._path.read_text())
            if raw["version"] != _VERSION or raw["boot_id"] != boot_id:
                return None
            cgroups = {int(inode): int(kills) for inode, kills in raw["cgroups"].items()}
            return Saved(boot_id, int(raw["kills"]), cgroups, int(raw["saved_unix_ns"]))
        except FileNotFoundError:
            return None
        except _UNUSABLE as error:
            logger.warning(
                "%s cannot be used (%s): kills since the last run are not reported",
                self._path,
                error,
            )
            return None

    def save(self, saved: Saved) -> None:
        """Replace the file, if anything but the time has changed."""
        old = self._written
        if old and (old.kills, old.cgroups) == (saved.kills, saved.cgroups):
            return
        try:
            self._replace(saved)
        except OSError as error:
            if not self._is_broken:
                logger.warning(
                    "%s cannot be written (%s): kills while the agent is down will not be "
                    "reported; give it a writable `state_directory`",
                    self._path,
                    error.strerror,
                )
            self._is_broken = True
            return
        self._written, self._is_broken = saved, False

    def _replace(self, saved: Saved) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_suffix(".tmp")
        content = {"version": _VERSION, **dataclasses.asdict(saved)}
        # Not synced to the disk: after a crash of the machine it is of another boot, and the
        # event loop must not wait for a disk.
        temporary.write_text(json.dumps(content))
        temporary.replace(self._path)
