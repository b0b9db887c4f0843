"""How often the verdict names the layer that was slowed: the confusion matrix of docs/storage.md.

Run by `make bench`; `--count N` operations an injection, 60 unless told. `--noise` has two
processes that compute meanwhile, which is what other work on the machine does to a verdict.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from doubles import storage_injections, storage_verdicts


def main() -> int:
    """Print each injection's verdicts, then the matrix."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--noise", action="store_true")
    options = parser.parse_args()
    table = {}
    with computing(2 if options.noise else 0):
        for name in storage_verdicts.SCORED:
            table[name] = storage_verdicts.of(name, options.count)
            layer = storage_injections.ALL[name].layer
            print(f"{name}: {layer} {dict(table[name])}", flush=True)
    hits, judged = storage_verdicts.right(table)
    print(f"\n{storage_verdicts.matrix(table)}\n")
    print(f"{hits} of {judged} right: {hits / judged:.1%}; load {storage_verdicts.load():.1f}")
    return 0


@contextlib.contextmanager
def computing(processes: int) -> Iterator[None]:
    """So many processes that do nothing but use the processor."""
    spin = [sys.executable, "-c", "while True: pass"]
    with contextlib.ExitStack() as stack:
        for _ in range(processes):
            process = stack.enter_context(subprocess.Popen(spin))
            stack.callback(process.kill)
        yield


if __name__ == "__main__":
    raise SystemExit(main())
