"""1,000 pods as objects: memory and CPU, beside the models of the package `kubernetes`.

The list comes in ten pages of 100 pods, as the agent asks for it, and every pod is kept. Each
way is a process of its own, run in turn with the others; memory is what its anonymous pages
grew by, after free memory was given back. An event of a watch is one changed pod. Pods are
of 40 workloads in 12 namespaces. Run by `make bench`.
"""

from __future__ import annotations

import ctypes
import gc
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from doubles import kube_json

PODS, PAGE, EVENTS = 1000, 100, 200
ROUNDS, REPEATS = 3, 5
MIB = 1 << 20
MOST_MIB, MOST_MS = 4.0, 20.0
"""What the agent promises."""

Ways = dict[str, Callable[[], tuple[Callable[[bytes], Any], Callable[[bytes], Any]]]]


def ours() -> tuple[Callable[[bytes], Any], Callable[[bytes], Any]]:
    """The agent's decoder."""
    from otel_oom.kubernetes.decode import Decoder
    from otel_oom.kubernetes.source import Kind
    from otel_oom.kubernetes.trim import Trim

    decoder = Decoder(Kind.POD, Trim())
    return lambda page: decoder.page(page).objects, decoder.event


def models() -> tuple[Callable[[bytes], Any], Callable[[bytes], Any]]:
    """What the package's `list_namespaced_pod` and `Watch.stream` do."""
    from kubernetes import client, watch

    api, stream = client.ApiClient(), watch.Watch()

    def page(body: bytes) -> Any:
        return api.deserialize(body.decode(), "V1PodList", "application/json").items

    return page, lambda line: stream.unmarshal_event(line.decode(), "V1Pod")


def dictionaries() -> tuple[Callable[[bytes], Any], Callable[[bytes], Any]]:
    """What `json` makes of it."""
    return lambda page: json.loads(page)["items"], json.loads


WAYS: Ways = {
    "otel-oom": ours,
    "dictionaries of json": dictionaries,
    "models of kubernetes": models,
}


def anonymous_bytes() -> int:
    """The process's own memory, without what the allocator only keeps."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("RssAnon:"))


def best_s(work: Callable[[], object]) -> float:
    """CPU seconds of the least disturbed run."""
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def measure(way: str, folder: pathlib.Path) -> None:
    """Print MiB, ms for the list and us for an event, as JSON; in a process of its own."""
    page, event = WAYS[way]()
    pages = [path.read_bytes() for path in sorted(folder.glob("page-*"))]
    lines = (folder / "events").read_bytes().splitlines()
    page(kube_json.listed([kube_json.pod(PODS)]))  # what is made once, and imported late
    before = anonymous_bytes()
    kept = [pod for body in pages for pod in page(body)]
    grown = anonymous_bytes() - before
    assert len(kept) == PODS
    list_s = best_s(lambda: [page(body) for body in pages])
    event_s = best_s(lambda: [event(line) for line in lines]) / len(lines)
    print(json.dumps([grown / MIB, list_s * 1e3, event_s * 1e6]))


def write(folder: pathlib.Path) -> int:
    """Write the pages and the events; bytes of a pod."""
    size = 0
    for first in range(0, PODS, PAGE):
        body = kube_json.listed(
            [kube_json.pod(n, restarts=n % 3) for n in range(first, first + PAGE)]
        )
        (folder / f"page-{first:04}").write_bytes(body)
        size += len(body)
    events = [kube_json.event("MODIFIED", kube_json.pod(n, restarts=1)) for n in range(EVENTS)]
    (folder / "events").write_bytes(b"".join(events))
    return size // PODS


def main() -> int:
    """Print the table; 1 if the agent needs more than it promises."""
    found: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as name:
        print(f"a pod: {write(pathlib.Path(name)):,} bytes of JSON\n")
        for _ in range(ROUNDS):
            for way, rows in found.items():
                command = [sys.executable, "-P", __file__, way, name]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                rows.append(json.loads(done.stdout))
    return report(
        {
            way: [statistics.median(column) for column in zip(*rows, strict=True)]
            for way, rows in found.items()
        }
    )


def report(medians: dict[str, list[float]]) -> int:
    """Print medians and their ratios to ours."""
    mib, ms, event_us = medians["otel-oom"]
    print("| 1,000 pods | MiB | ratio | ms | ratio | us an event | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for way, (grown, list_ms, us) in medians.items():
        print(
            f"| {way} | {grown:.1f} | {grown / mib:.1f} | {list_ms:.1f} | {list_ms / ms:.1f} ",
            end="",
        )
        print(f"| {us:.0f} | {us / event_us:.1f} |")
    return int(mib > MOST_MIB or ms > MOST_MS)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        measure(sys.argv[1], pathlib.Path(sys.argv[2]))
    else:
        sys.exit(main())
