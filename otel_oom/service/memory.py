"""Keeps the agent small: one arena for all threads, and nothing that only the start needed.

Reading the configuration and the kernel's type information takes some 30 MiB for a moment.
glibc keeps most of it for later, because a little that lives on lies at its end (mallopt(3),
M_TRIM_THRESHOLD); an agent that then idles for weeks has no later.
"""

from __future__ import annotations

import ctypes
import gc

_M_ARENA_MAX = -8
"""glibc's malloc.h."""


def share_one_arena() -> None:
    """Let all threads allocate from one arena, where the C library makes more (mallopt(3): glibc).

    It makes up to eight a core, and what a thread frees stays in its own. gRPC's threads come and
    go with each connection, and would leave something behind in every one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Return free memory to the kernel, where the C library can (malloc_trim(3): glibc)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
