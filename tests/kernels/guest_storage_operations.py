"""Runs inside the VM: fsyncs on its ext4 root, and verdicts on calls slow for a known reason.

One line of JSON. The folder `modules` holds what this kernel needs.
"""

from __future__ import annotations

import json
import os
import pathlib
import platform
from typing import Any

import guest_storage_operations_work as work
from doubles import kernel_modules, storage_injections, storage_verdicts
from doubles import operations as doing

from otel_oom.bpf.storage_operations_events import StorageCall
from otel_oom.receivers.storage import block, calls, operations, records

MODULES = pathlib.Path("modules")
FILE = pathlib.Path("/root/synced")


def following() -> operations.Operations:
    """The operation tier, which reports every call."""
    return operations.Operations(
        operations.Settings(
            stage_s=0,
            total_s=0,
            sample=dict.fromkeys(calls.NAMES, 1),
            ring_bytes=1 << 22,
            max_series=1024,
        )
    )


def synced(running: operations.Operations) -> dict[str, int]:
    """What was told of the fsyncs of one task."""
    with doing.started("fsync", FILE, count=work.SYNCS) as task:
        running.drain()
        task.finish()
    told = [one for one in map(records.decode, running.drain()) if one.raw.tid == task.tid]
    found = [one for one in told if one.raw.call == StorageCall.FSYNC]
    joined = [one for one in found if one.commit is not None]
    return {
        "told": len(found),
        "joined": len(joined),
        "of its own transaction": sum(
            one.commit is not None and one.commit.raw.transaction == one.raw.transaction
            for one in joined
        ),
    }


def attached() -> dict[str, Any]:
    """Both tiers at once: what the verifier walked for each program, and what is absent."""
    requests = block.Block(stage_ns=1 << 62, total_ns=1 << 62, max_series=64, ring_bytes=1 << 20)
    running = following()
    try:
        return {
            "instructions": requests._object.verified_instructions() | running.instructions(),
            "left_out": running.left_out,
            "fsync": synced(running),
        }
    finally:
        running.close()
        requests.close()


def verdicts(name: str) -> dict[str, Any]:
    """How often each layer was named, or why it cannot be slowed here."""
    try:
        return {"found": dict(storage_verdicts.of(name, work.COUNT))}
    except storage_injections.Unavailable as error:
        return {"left_out": str(error)}
    except FileNotFoundError as error:
        return {"left_out": f"this kernel has no {error.filename}"}


def main() -> None:
    os.environ.setdefault("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    kernel_modules.load_all(MODULES.glob("*.ko"))
    told = {"release": platform.release(), **attached()}
    told["verdicts"] = {name: verdicts(name) for name in work.INJECTIONS}
    print(json.dumps(told))


main()
