"""Gives back what only the start needed.

Reading the configuration and the kernel's type information takes some 30 MiB for a moment.
glibc keeps most of it for later, because a little that lives on lies at its end (mallopt(3),
M_TRIM_THRESHOLD); an agent that then idles for weeks has no later.
"""

from __future__ import annotations

import ctypes
import gc


def give_back() -> None:
    """Return free memory to the kernel, where the C library can (malloc_trim(3): glibc)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
