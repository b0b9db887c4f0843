"""The errors of the agent: what failed, why, and what the reader can do about it.

OtelOomError                 everything that the agent raises on purpose
├─ ConfigError               the configuration cannot be used
├─ ComponentError            a component cannot start or go on
├─ BpfError                  the kernel side
│  ├─ ProbeUnsupported       this kernel or this process cannot have the probe
│  ├─ LoadFailed             the kernel refused the object; carries the verifier's log
│  ├─ LayoutMismatch         the object's struct is not the one that Python decodes
│  └─ BadRecord              a ring record that no program of ours can have written
├─ KubernetesError           an API server or a kubelet did not answer as asked
├─ ExportError               a destination did not take a batch
│  ├─ Retryable              it may take it later, perhaps not before `delay_s`
│  ├─ Permanent              it never will
│  └─ GaveUp                  it might, but the agent tries no longer
└─ Refused                   a consumer does not take a batch now; the caller still owns it
   └─ QueueFull              because its queue has no room
"""


class OtelOomError(Exception):
    """Root of the tree; `str()` names the cause, and the remedy where there is one."""


class ConfigError(OtelOomError):
    """The configuration cannot be used; the text lists every problem found."""


class ComponentError(OtelOomError):
    """A component cannot start or go on."""


class BpfError(OtelOomError):
    """Something about the kernel side failed."""


class ProbeUnsupported(BpfError):
    """This kernel, or this process with its rights, cannot have the probe."""


class LoadFailed(BpfError):
    """The kernel refused an object; the text ends with what libbpf and the verifier said."""


class LayoutMismatch(BpfError):
    """An event struct in the loaded object differs from the one that Python decodes."""


class BadRecord(BpfError):
    """A ring record is truncated, oversized, or of no kind that we know."""


class KubernetesError(OtelOomError):
    """An API server or a kubelet did not answer as asked; asking again may help.

    `reason` is a short fixed word for the counter of errors, e.g. `forbidden`; `delay_s` the time
    in seconds that the server asked for, or None.
    """

    def __init__(self, message: str, reason: str, *, delay_s: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.delay_s = delay_s


class ExportError(OtelOomError):
    """A destination did not take a batch; the subclass says whether to try again."""


class Retryable(ExportError):
    """The destination may take the batch later.

    `delay_s` is the time in seconds that the server asked for, or None.
    `timed_out` tells a deadline from an answer, because only time-outs widen the next one.
    """

    def __init__(
        self, message: str, *, delay_s: float | None = None, timed_out: bool = False
    ) -> None:
        super().__init__(message)
        self.delay_s = delay_s
        self.timed_out = timed_out


class Permanent(ExportError):
    """The destination will never take the batch (OTLP: a status that must not be retried)."""


class GaveUp(ExportError):
    """The agent stops trying; `reason` is the word for the `dropped{reason}` counter."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class StorageError(OtelOomError):
    """What should be kept on a disk cannot be written or read.

    `reason` is a short fixed word for the `dropped{reason}` counter, e.g. `storage_full`.
    """

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class Refused(OtelOomError):
    """A consumer does not take a batch now. The caller still owns it and must account for it.

    `reason` is a short fixed word for the `dropped{reason}` counter, e.g. `memory_limiter`.
    """

    def __init__(self, message: str, *, reason: str) -> None:
        super().__init__(message)
        self.reason = reason


class QueueFull(Refused):
    """The queue has no room for the batch."""

    def __init__(self, message: str) -> None:
        super().__init__(message, reason="queue_full")
