"""Where what is dear to make is kept between runs: `otel-oom` in the user's cache folder."""

from __future__ import annotations

import os
import pathlib


def folder(name: str) -> pathlib.Path:
    """A folder of the cache, made when it is not there."""
    base = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    made = base / "otel-oom" / name
    made.mkdir(parents=True, exist_ok=True)
    return made
