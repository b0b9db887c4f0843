"""Records what each kernel writes to its log at real kills, as test data for the mode `kmsg`.

.venv/bin/python tests/kernels/record_log_lines.py

It boots every kernel of the matrix and replaces tests/data/kernel_log.
"""

from __future__ import annotations

import gzip
import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

import debian_kernels  # noqa: E402
import vm  # noqa: E402
from doubles import oom_log_lines  # noqa: E402


def main() -> None:
    """One file for each kernel and version of cgroups."""
    for kernel in debian_kernels.KERNELS:
        for version in ("v1", "v2") if kernel.has_memory_v1 else ("v2",):
            result = vm.run_in_vm(kernel, HERE / "guest_log_lines.py", cgroup=version)
            assert result.exit_code == 0, f"{result.stdout}\n{result.console[-4000:]}"
            path = oom_log_lines.FOLDER / f"{kernel.series}-{version}.jsonl.gz"
            path.write_bytes(gzip.compress(result.stdout.encode(), mtime=0))
            print(path)


if __name__ == "__main__":
    main()
