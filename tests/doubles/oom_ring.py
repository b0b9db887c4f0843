"""Ring records of the receiver `oom`, as its kernel side writes them.

The base of each is a record of one real kill, captured from the ring, whose trigger is not its
victim; a test changes what it is about.
"""

from __future__ import annotations

import functools
import itertools
import pathlib
import struct
from collections.abc import Iterable
from typing import Any

from otel_oom.bpf import events
from otel_oom.bpf.events import OomMarkFlag, OomMemcgFlag
from otel_oom.receivers.oom import attributes, encode, kills, limit, records
from otel_oom.receivers.oom.context import Context, Pressure, Sibling

CAPTURED = pathlib.Path(__file__).resolve().parents[1] / "data" / "oom_kill.ring"
BOOT_TO_UNIX_NS = 1_770_000_000_000_000_000
NOW_NS = 1_770_004_000_000_000_000
SETTLE_S, SETTLE_EXIT_S = 0.25, 10.0
HAS = OomMarkFlag


@functools.cache
def captured() -> tuple[bytes, bytes, bytes]:
    """Mark, delivery and exit of one real kill."""
    data, found = CAPTURED.read_bytes(), []
    while data:
        (size,) = struct.unpack_from("<I", data)
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    mark, delivered, exited = found
    return mark, delivered, exited


def base() -> events.OomMark:
    """The captured mark's fixed part."""
    return events.OomMark._make(events.OomMarkLayout.FORMAT.unpack_from(captured()[0]))


@functools.cache
def tail() -> dict[str, bytes]:
    """The captured mark's parts behind the fixed one, in their order."""
    raw, rest = base(), captured()[0][events.OomMarkLayout.SIZE_BYTES :]
    memcg, process = events.OomMemcgLayout.SIZE_BYTES, events.OomProcessLayout.SIZE_BYTES
    sizes = {
        "memcg": raw.memcgs * memcg,
        "ancestor": raw.ancestors * process,
        "trigger_ancestor": raw.trigger_ancestors * process,
        "victim_path": raw.victim_path_len,
        "trigger_path": raw.trigger_path_len,
    }
    ends = itertools.accumulate(sizes.values())
    return {name: rest[end - sizes[name] : end] for name, end in zip(sizes, ends, strict=True)}


def mark(
    victim_path: Iterable[str] | None = None,
    trigger_path: Iterable[str] = (),
    flags: int | None = None,
    **fields: Any,
) -> bytes:
    """A mark; paths are given root first.

    `memcg`, `ancestor` and `trigger_ancestor` are parts of the tail, whole; what the fixed part
    says of the tail fits it, unless it is told to say something else.
    """
    parts = {name: fields.pop(name, old) for name, old in tail().items()}
    if victim_path is not None:
        parts |= {"victim_path": path(victim_path), "trigger_path": path(trigger_path)}
    process = events.OomProcessLayout.SIZE_BYTES
    sizes = {
        "flags": base().flags if flags is None else int(flags),
        "memcgs": len(parts["memcg"]) // events.OomMemcgLayout.SIZE_BYTES,
        "ancestors": len(parts["ancestor"]) // process,
        "trigger_ancestors": len(parts["trigger_ancestor"]) // process,
        "victim_path_len": len(parts["victim_path"]),
        "trigger_path_len": len(parts["trigger_path"]),
        "tail_len": sum(map(len, parts.values())),
    }
    raw = base()._replace(**sizes | fields)
    return events.OomMarkLayout.FORMAT.pack(*raw) + b"".join(parts.values())


def path(names: Iterable[str]) -> bytes:
    """Names of a cgroup path as the kernel side writes them: leaf first, a NUL after each."""
    return b"".join(name.encode() + b"\0" for name in reversed(list(names)))


def process(like: bytes | None = None, **fields: Any) -> bytes:
    """A process of a mark."""
    layout = events.OomProcessLayout.FORMAT
    raw = events.OomProcess._make(layout.unpack(base().victim if like is None else like))
    return layout.pack(*raw._replace(**fields))


def memcgs(*changes: dict[str, int]) -> dict[str, bytes]:
    """The part of a mark that tells of its memory cgroups, the victim's first."""
    layout = events.OomMemcgLayout.FORMAT
    first = events.OomMemcg._make(layout.unpack_from(tail()["memcg"]))
    return {"memcg": b"".join(layout.pack(*first._replace(**change)) for change in changes)}


def delivered(
    args: bytes | None = None, total: int | None = None, variables: bytes = b"", **fields: Any
) -> bytes:
    """A delivery; `total` is the length of the command line in the process."""
    layout, old = events.OomDeliveredLayout, captured()[1]
    raw = events.OomDelivered._make(layout.FORMAT.unpack_from(old))
    args = old[layout.SIZE_BYTES :] if args is None else args
    lengths = {"args_len": len(args), "args_total": len(args) if total is None else total}
    told = raw._replace(**lengths, variables_len=len(variables), **fields)
    return layout.FORMAT.pack(*told) + args + variables


def exited(**fields: Any) -> bytes:
    """An exit."""
    layout = events.OomExitedLayout.FORMAT
    return layout.pack(*events.OomExited._make(layout.unpack(captured()[2]))._replace(**fields))


def assembler(context: Context | None = None) -> kills.Assembler:
    """One whose marks have this context."""

    def examine(mark: records.Mark) -> tuple[limit.Limit, Context | None]:
        unlimited = limit.unlimited_pages(attributes.PAGE_BYTES)
        return limit.find(mark, unlimited_pages=unlimited, memory_nodes=1), context

    return kills.Assembler(examine, settle_s=SETTLE_S, settle_exit_s=SETTLE_EXIT_S)


def assembled(ring: Iterable[bytes], context: Context | None = None) -> list[kills.Kill]:
    """The kills that records make, in the order of their marks, without waiting for more."""
    made = assembler(context)
    for record in ring:
        made.take(records.decode(record), 0.0)
    reports, _ = made.ready(0.0, flush=True)
    return reports


def encoder(*, command_args: bool = True) -> encode.Encoder:
    """One of a host with a fixed boot id."""
    return encode.Encoder(
        boot_id="0a1b2c3d-boot", version="1", mode="core", command_args=command_args
    )


def group_kill() -> list[bytes]:
    """Three members of one cgroup with memory.oom.group, of which two exit at once."""
    members = []
    for index in range(3):
        tgid = 500 + index
        victim = process(tgid=tgid, comm=b"member-%d" % index)
        group = memcgs(
            {"flags": OomMemcgFlag.GROUP | OomMemcgFlag.LOCKED, "group_kills": index > 0}
        )
        boot_ns = base().boot_ns + index * 1000
        members.append(mark(tgid=tgid, pid=tgid, victim=victim, boot_ns=boot_ns, **group))
        members.append(delivered(tgid=tgid))
    return [*members, exited(tgid=500), exited(tgid=501)]


def marked_by_pid() -> bytes:
    """What a kernel before 6.8 tells at the mark: a pid, and who asked."""
    return mark(
        victim_path=(),
        flags=base().flags & ~(HAS.HAS_VICTIM | HAS.HAS_MM),
        start_boot_ns=0,
        victim=bytes(40),
        memcg=b"",
        ancestor=b"",
        boot_ns=base().boot_ns - 5000,
    )


def at_delivery() -> bytes:
    """What such a kernel tells when the victim takes its SIGKILL."""
    return mark(flags=base().flags | HAS.AT_DELIVERY, trigger=bytes(40), trigger_ancestor=b"")


def context(**changes: Any) -> Context:
    """What user space reads at a mark on a host with cgroup v2."""
    fields: dict[str, Any] = {
        "read_boot_ns": base().boot_ns,
        "memory": {"anon": 1 << 30, "file": 4096, "shmem": 0, "slab": 77, "kernel_stack": 16384}
        | {"pagetables": 8192},
        "memory_reason": "",
        "siblings": (
            Sibling(base().tgid, 1, "the victim again", 1),
            Sibling(90001, 90000, "sib\nling", 123 << 12),
            Sibling(90002, 0, "", 0),
        ),
        "cgroup_pressure": Pressure(12.5, 3.25),
        "host_pressure": Pressure(0.0, None),
        "command_line": b"from\0proc\0",
    }
    return Context(**fields | changes)


_V1 = {
    "memory": {"anon": 5, "file": 6},
    "memory_reason": "memory.stat of cgroup v1 does not tell",
    "cgroup_pressure": Pressure(reason="cgroup v1 has no pressure files"),
    "host_pressure": Pressure(reason="memory: No such file or directory"),
}
_DECISION = {
    "decision": 7,
    "decision_memcg_id": 4242,
    "decision_points": 9000,
    "decision_constraint": 3,
    "decision_order": 2,
    "decision_gfp": 0xCC0,
}
_DEEP = ("kubepods", "burstable", "pod-a", "container-b")


def variants() -> dict[str, tuple[list[bytes], Context | None]]:
    """Kills of every kind that the receiver tells apart, by name."""
    first, came, gone = captured()
    flags, decided = base().flags, base().flags | HAS.HAS_DECISION
    odd = {"victim": process(comm=b"a\nb\x1b[1m\xff\xfe\x7fxyzzyz"), "trigger": process(comm=b"")}
    deep = memcgs({"level": 4, "id": 1, "flags": 0}, {"level": 2, "id": 4242, "max_pages": 99})
    full = b"sixteen bytes ok"
    u64 = 2**64 - 1
    small: dict[str, list[bytes]] = {
        "captured": [first, came, gone],
        "victim is trigger": [mark(trigger=base().victim), came, gone],
        "no delivery": [first, gone],
        "delivery first": [came, first, gone],
        "no exit": [first, came],
        "mark alone": [first],
        "returned 3": [first, came, exited(exit_code=3 << 8)],
        "signal with core": [first, came, exited(exit_code=11 | 0x80)],
        "arguments cut": [first, delivered(b"a\0bc", 9000), gone],
        "arguments odd": [first, delivered(b"\xff\0\xc3\xa9\0\0"), gone],
        "arguments empty": [first, delivered(b""), gone],
        "no memory": [mark(flags=flags & ~HAS.HAS_MM), came, gone],
        "no flags": [mark(flags=HAS.HAS_VICTIM), came, gone],
        "all flags": [mark(flags=0xFFFF & ~HAS.AT_DELIVERY), came, gone],
        "already dying": [mark(flags=(flags | HAS.KILLED_KNOWN) & ~HAS.KILLED), came, gone],
        "untracked": [mark(flags=flags | HAS.UNTRACKED)],
        "decision": [mark(_DEEP, _DEEP[:3], decided, **_DECISION, **deep), came, gone],
        "decision host": [mark(flags=decided, decision_constraint=0, decision_order=-1), gone],
        "decision unknown": [mark(flags=decided, decision_constraint=9, decision_memcg_id=5), gone],
        "path cut": [
            mark(_DEEP[1:], _DEEP[1:2], flags | HAS.PATH_CUT | HAS.TRIGGER_PATH_CUT, **deep),
            gone,
        ],
        "no path": [mark(()), gone],
        "odd path": [mark(("a b", "ü/\n", ""), ("x",)), gone],
        "long path": [mark(["d" * 255] * 15 + ["e" * 200]), gone],
        "no cgroups": [mark(memcg=b""), gone],
        "no limits": [mark(**memcgs({"max_pages": 2**62, "flags": 0})), gone],
        "limit unknown": [mark(**memcgs({"flags": 0, "max_pages": 99})), gone],
        "kernel thread": [
            mark(flags=flags | HAS.TRIGGER_KTHREAD, trigger=process(tgid=0, comm=b"kswapd0")),
            gone,
        ],
        "trigger unknown": [mark(trigger=bytes(40)), gone],
        "names odd": [mark(**odd), delivered(), gone],
        "name of 16 bytes": [mark(victim=process(comm=full)), gone],
        "numbers small": [mark(score_adj=-1000, uid=0, anon_pages=0, virtual_pages=1), gone],
        "numbers large": [
            mark(score_adj=-1, uid=2**32 - 1, anon_pages=u64, page_tables_bytes=u64),
            exited(boot_ns=base().boot_ns + 3 * 10**9),
        ],
        "tree of one": [mark(ancestor=b"", trigger_ancestor=b"", trigger=base().victim), gone],
        "marked by pid": [marked_by_pid()],
        "marked by pid, then delivered": [marked_by_pid(), at_delivery(), came, gone],
        "delivered, never marked": [at_delivery(), came, gone],
        "marked twice": [first, mark(anon_pages=1), came, gone],
        "group": group_kill(),
        "two kills": [first, mark(tgid=77, pid=77), came, exited(tgid=77), gone],
    }
    found: dict[str, tuple[list[bytes], Context | None]]
    found = {name: (ring, None) for name, ring in small.items()}
    late = context(read_boot_ns=base().boot_ns + 10**12)
    found["context"] = ([first, came, gone], context())
    found["context of v1"] = ([first, gone], context(**_V1))
    found["context after exit"] = ([first, gone], late)
    found["context without exit"] = ([first], late)
    found["context, nothing read"] = ([first], context(memory={}, command_line=b"", siblings=()))
    return found


def many(count: int) -> list[bytes]:
    """As many kills as a storm makes: other victims and numbers, in a few cgroups."""
    ring: list[bytes] = []
    for index, name in zip(range(count), itertools.cycle(f"pod-{n}" for n in range(16))):
        tgid, boot_ns = 100_000 + index, base().boot_ns + index * 50_000
        who = {"tgid": tgid, "start_boot_ns": base().start_boot_ns + index * 10_000_000}
        ring.append(
            mark(
                ("kubepods-demo", name),
                ("kubepods-demo", name),
                boot_ns=boot_ns,
                anon_pages=10_000 + index,
                virtual_pages=20_000 + index,
                pid=tgid,
                victim=process(rss_pages=10_200 + index, vpid=tgid, **who),
                trigger=process(base().trigger, tgid=200_000 + index, rss_pages=200 + index),
                **who,
            )
        )
        ring.append(delivered(boot_ns=boot_ns + 9_000, **who))
        ring.append(exited(boot_ns=boot_ns + 32_000 + index, **who))
    return ring
