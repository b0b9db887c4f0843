"""What the kernel's verifier walks for each of our programs, by its own log.

    walked()  # {"oom/on_mark_victim": 812, ...}

The kernel says so after each load if it is asked for statistics (BPF_LOG_STATS), from long before
it began to say it in fdinfo (5.16).
"""

from __future__ import annotations

import contextlib
import ctypes
import re
from collections.abc import Iterator
from unittest import mock

from otel_oom import errors
from otel_oom.bpf import loader, probe
from otel_oom.receivers.storage import block, calls, operations

_STATS = 4
_PROCESSED = re.compile(rb"^processed (\d+) insns", re.MULTILINE)
_LOG_BYTES = 1 << 16
_RING_BYTES = 1 << 20


def walked() -> dict[str, int]:
    """Instructions by `object/program`, of all programs that this kernel takes, sorted."""
    found: dict[str, int] = {}
    with _listening(found):
        _load_oom()
        _load_storage()
    return dict(sorted(found.items()))


def _load_oom() -> None:
    """With each way of hooking that there is."""
    kernel = probe.kernel()
    mark = probe.MARK_BY_TASK if kernel.mark_takes_task else probe.MARK_BY_PID
    for _, programs in probe.decision_hooks(kernel, {}):
        with contextlib.suppress(errors.LoadFailed):
            probe._load((mark, *probe.BASE, *programs), _RING_BYTES).close()


def _load_storage() -> None:
    block.Block(stage_ns=1 << 62, total_ns=1 << 62, max_series=64, ring_bytes=_RING_BYTES).close()
    settings = operations.Settings(
        stage_s=0,
        total_s=0,
        sample=dict.fromkeys(calls.NAMES, 1),
        ring_bytes=_RING_BYTES,
        max_series=64,
    )
    operations.Operations(settings).close()


@contextlib.contextmanager
def _listening(found: dict[str, int]) -> Iterator[None]:
    load = loader.Object.load

    def loaded(self: loader.Object) -> None:
        logs = {self._library.bpf_program__name(one).decode(): _log(one) for one in self._each()}
        load(self)
        for name, log in logs.items():
            if told := _PROCESSED.search(log.value):
                found[f"{self.name}/{name}"] = int(told[1])

    with mock.patch.object(loader.Object, "load", loaded):
        yield


def _log(program: int) -> ctypes.Array[ctypes.c_char]:
    libbpf = ctypes.CDLL("libbpf.so.1")
    log = ctypes.create_string_buffer(_LOG_BYTES)
    libbpf.bpf_program__set_log_level(ctypes.c_void_p(program), ctypes.c_uint32(_STATS))
    libbpf.bpf_program__set_log_buf(ctypes.c_void_p(program), log, ctypes.c_size_t(_LOG_BYTES))
    return log
