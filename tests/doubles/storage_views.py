"""Answers of an agent, as its health endpoint gives them."""

from __future__ import annotations

from typing import Any

ZERO_S = 2.0**-22


def times(offset: int, *counts: int, zeros: int = 0) -> dict[str, Any]:
    return {"zeros": zeros, "offset": offset, "counts": list(counts)}


def row(
    tier: str, device: str, operation: str, requests: int = 0, moved: int = 0, /, **kinds: Any
) -> dict[str, Any]:
    return {
        "tier": tier,
        "device": device,
        "operation": operation,
        "requests": requests,
        "bytes": moved,
        "times": kinds,
    }


def slow(**said: Any) -> dict[str, Any]:
    one = {
        "age_s": 3.2,
        "duration_s": 0.0482,
        "operation": "fsync",
        "process": "postgres",
        "pid": 812,
        "cgroup": "/db",
        "device": "vda",
        "path": "/var/lib/db/wal/0001",
        "inode": 77,
        "error": "",
        "layer": "journal",
        "share": 0.912,
        "start": "journal.wait",
        "end": "journal.committed",
    }
    return one | said


def storage(now_s: float, *rows: dict[str, Any], **said: Any) -> dict[str, Any]:
    view = {
        "view": "storage",
        "since_ns": 10**9,
        "now_ns": round(now_s * 1e9),
        "scale": 3,
        "zero_threshold_s": ZERO_S,
        "tiers": {"block": "by block_rq_complete", "operations": "by sys_enter"},
        "lost": 0,
        "sampled": {"fsync": 1, "read": 64},
        "rows": list(rows),
        "slowest_of_s": 60,
        "slowest": [],
    }
    return view | said


def oom(**said: Any) -> dict[str, Any]:
    view = {
        "view": "oom",
        "of_s": 3600,
        "lost": 0.0,
        "kills": 0,
        "is_at_least": False,
        "last": None,
    }
    return view | said


def answer(**views: dict[str, Any]) -> dict[str, Any]:
    head = {"version": "1.2.3", "host": "db-7", "ready": True, "uptime_s": 11_530.0}
    return head | {"views": views}
