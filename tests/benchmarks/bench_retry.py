"""Retries beside fixed and exponential ones, in a simulation; and what the monitor of load costs.

The senders are the real ones (`otel_oom/pipeline/sending/`), the clock is virtual, the backend is
`tests/doubles/modelled_backend.py`: four processors that others load for twenty minutes, or that is
away for them. It is sent a request a second for twenty minutes. The monitor is measured on this
machine, by the process's own CPU time. Run by `make bench`.
"""

from __future__ import annotations

import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import modelled_backend
from doubles.modelled_backend import Scenario

from otel_oom.pipeline.resources import monitor

SEEDS = range(3)
CASES = {
    "three quarters of it taken by others, on the agent's host": modelled_backend.BUSY,
    "three quarters of it taken by others, elsewhere": modelled_backend.BUSY_ELSEWHERE,
    "nine tenths of it taken by others, on the agent's host": modelled_backend.OVERLOADED,
    "it refuses for 20 minutes": modelled_backend.REFUSING,
    "it says nothing for 20 minutes": modelled_backend.SILENT,
}
ASKED_PER_S = 1000
MEASURED_S = 5.0


def main() -> None:
    """Print both tables."""
    print(
        "| the backend | retries | delivered | tries | timed out | work wasted | slowest | late |"
    )
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for case, scenario in CASES.items():
        for policy in modelled_backend.POLICIES:
            print(f"| {case} | {policy} | {_row(policy, scenario)} |", flush=True)
    print()
    print("| the monitor of load | CPU |\n|---|---:|")
    for name, share in _monitor_cost().items():
        print(f"| {name} | {share} |")


def _row(policy: str, scenario: Scenario) -> str:
    options = modelled_backend.POLICIES[policy]
    found = [modelled_backend.run(options, scenario, seed) for seed in SEEDS]

    def mean(name: str) -> float:
        return statistics.mean(float(getattr(result, name)) for result in found)

    share = mean("delivered") / mean("requests")
    numbers = [f"{share:.1%}", f"{mean('tries'):.0f}", f"{mean('timeouts'):.0f}"]
    return " | ".join(
        [*numbers, *(f"{mean(name):.0f} s" for name in ("wasted_s", "slowest_s", "late_s"))]
    )


def _monitor_cost() -> dict[str, str]:
    """Asked as often as a busy exporter asks, and for each reading by itself."""
    watched, rounds = monitor.Monitor(), int(MEASURED_S * ASKED_PER_S)
    began_s, asked = time.process_time(), time.monotonic()
    for number in range(rounds):
        watched.idleness()
        time.sleep(max(0.0, asked + number / ASKED_PER_S - time.monotonic()))
    spent_s = time.process_time() - began_s
    began_s, asked = time.process_time(), time.monotonic()
    for number in range(rounds):
        time.sleep(max(0.0, asked + number / ASKED_PER_S - time.monotonic()))
    sleeping_s = time.process_time() - began_s
    began_s, reader = time.process_time(), monitor.pressure.Reader()
    for number in range(rounds):
        reader.read(float(number))
    one_s = (time.process_time() - began_s) / rounds
    share = (spent_s - sleeping_s) / MEASURED_S
    return {
        f"asked {ASKED_PER_S} times a second, beside a loop that only sleeps": f"{share:.2%} of a core",
        "one reading": f"{one_s * 1e6:.0f} us",
        "four readings a second, as many as there are": f"{one_s * 4:.3%} of a core",
    }


if __name__ == "__main__":
    main()
