"""A plain reader of the kernel's log: what every tool does that finds OOM kills there.

As a process it does nothing else: it blocks in read(2) on /dev/kmsg
(Documentation/ABI/testing/dev-kmsg), notes when it sees a line "Killed process PID", and prints
what it noted as JSON when its standard input ends.
"""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import time

_KILLED = re.compile(rb"Killed process (\d+) ")
_LONGEST_RECORD = 8192


def main() -> None:
    """Print `ready`, read until standard input ends, print `{"seen": {pid: boot ns}, "gaps": n}`."""
    log = os.open("/dev/kmsg", os.O_RDONLY)
    os.lseek(log, 0, os.SEEK_END)
    seen: dict[int, int] = {}
    gaps = [0]
    threading.Thread(target=_read, args=(log, seen, gaps), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()
    print(json.dumps({"seen": seen, "gaps": gaps[0]}))


def _read(log: int, seen: dict[int, int], gaps: list[int]) -> None:
    while True:
        try:
            record = os.read(log, _LONGEST_RECORD)
        except BrokenPipeError:  # the kernel has overwritten what was not read in time
            gaps[0] += 1
            continue
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if found := _KILLED.search(record):
            seen[int(found[1])] = now_ns


if __name__ == "__main__":
    main()
