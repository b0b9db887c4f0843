"""Options of the `file_storage` extension."""

from __future__ import annotations

import dataclasses
import pathlib

from otel_oom.config.types import ByteSize, Duration, Violations

_LEAST_BYTES = 256 << 10


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Compaction:
    """`compaction` of the collector's `file_storage`, with its names and defaults."""

    on_start: bool = False
    """Has no effect."""

    on_rebound: bool = False
    """Has no effect."""

    directory: str = ""
    """Has no effect."""

    rebound_needed_threshold_mib: int = 100
    """Has no effect."""

    rebound_trigger_threshold_mib: int = 10
    """Has no effect."""

    max_transaction_size: int = 65536
    """Has no effect."""

    check_interval: Duration = Duration(5.0)
    """Has no effect."""

    cleanup_on_start: bool = False
    """Has no effect."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of the `file_storage` extension."""

    directory: str = "/var/lib/otel-oom/file_storage"
    """Where the files are, an absolute path; one agent alone may use it. Default
    `/var/lib/otel-oom/file_storage`."""

    create_directory: bool = False
    """Whether the directory is made if it is not there. Default false: it is an error then."""

    directory_permissions: str = "0750"
    """Permissions of a directory that is made, in octal. Default `0750`."""

    fsync: bool = False
    """Whether all that is accepted is on the disk before it counts as accepted, and survives a loss
    of power. Default false: the critical weight alone, 10, which always is."""

    disk_reserve_mib: int = 8
    """MiB of the disk that are taken at the start and given up when the disk is full: for critical
    requests (weight 10) and for the removal of what was delivered. Others are refused then
    (`storage_full`). Default 8; 0 keeps none."""

    max_size: ByteSize = ByteSize(1 << 30)
    """How large the file may become, for all queues in it, default 1GiB. A tenth of it is for the
    critical weight alone. Once it is full, what was refused by a destination goes first, then what
    came last of the lowest weight (`evicted`); if that is no lower than what comes, what comes is
    refused (`queue_full`). Beside the file there is its log, of some MiB."""

    timeout: Duration = Duration(1.0)
    """Has no effect, like the two below; a collector's block can be copied as it is. The lock of a
    directory is not waited for."""

    recreate: bool = False
    """Has no effect: a damaged file is always made anew, of what is whole in it."""

    compaction: Compaction = dataclasses.field(default_factory=Compaction)
    """Has no effect: the file uses its room again, and has a `max_size`."""

    def validate(self) -> Violations:
        """Yield what cannot work."""
        if self.disk_reserve_mib < 0:
            text = f"`disk_reserve_mib` ({self.disk_reserve_mib}) must not be negative"
            yield ("disk_reserve_mib",), text
        if self.max_size < _LEAST_BYTES:
            yield ("max_size",), f"`max_size` ({self.max_size}) must be at least {_LEAST_BYTES}"
        if not pathlib.Path(self.directory).is_absolute():
            yield ("directory",), f"`directory` ({self.directory}) must be an absolute path"
        if not _is_octal(self.directory_permissions):
            text = f"`directory_permissions` ({self.directory_permissions}) must be octal: '0750'"
            yield ("directory_permissions",), text


def _is_octal(text: str) -> bool:
    return bool(text) and all(digit in "01234567" for digit in text)
