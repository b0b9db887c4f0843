"""The kernel's log of real kills on kernels from 5.10 to 7.x, and what may stand between its lines."""

from __future__ import annotations

import itertools
import random
import re

import hypothesis
import pytest
from doubles import oom_log_lines
from doubles.oom_log_lines import Scene, numbered, told
from hypothesis import strategies as st

from otel_oom import errors
from otel_oom.receivers.oom import log_lines
from otel_oom.receivers.oom.log_reports import LoggedKill, Reports

SCENES = oom_log_lines.scenes()
KERNELS = sorted({scene.kernel for scene in SCENES})
V2 = [kernel for kernel in KERNELS if kernel.endswith("v2")]
KILLED = (
    "Memory cgroup out of memory: Killed process {pid} ({name}) total-vm:4kB, anon-rss:1kB, "
    "file-rss:2kB, shmem-rss:3kB, UID:0 pgtables:44kB oom_score_adj:-5"
)
every_scene = pytest.mark.parametrize("scene", SCENES, ids=lambda s: f"{s.kernel}-{s.name}")


def pids(kills: list[LoggedKill]) -> list[int]:
    return [kill.tgid or kill.killed.pid for kill in kills]


def facts(kills: list[LoggedKill]) -> list[object]:
    """All that does not depend on where in the log it stands."""
    return [
        (
            (k.killed, k.tgid, k.is_primary),
            (k.decision.limit_cgroup, k.decision.cgroup, k.decision.group, k.decision.kills),
            k.report and (k.report.header, k.report.usage),
        )
        for k in kills
    ]


def test_there_are_recordings_of_all_generations() -> None:
    assert {"5.10-v1", "5.10-v2", "6.1-v1", "6.1-v2", "6.12-v2", "7.x-v2"} <= set(KERNELS)


@every_scene
def test_every_victim_is_told_once_and_the_lines_are_as_many_as_the_kernel_counts(
    scene: Scene,
) -> None:
    reports = Reports()
    kills = told(scene.records, reports)
    assert pids(kills) == scene.made["pids"]
    assert len(kills) + reports.repeats == scene.counted


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_trigger_is_another(kernel: str) -> None:
    scene = oom_log_lines.scene(kernel, "other_asks")
    (kill,) = told(scene.records)
    assert kill.report is not None
    assert kill.report.asking is not None
    assert kill.report.header.name == "small"
    assert kill.report.asking.tid == kill.report.tgid(scene.made["trigger"])
    assert {row.name for row in kill.report.candidates.values()} == {"hog", "small"}
    assert kill.killed.score_adj == 1000


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_limit_of_an_ancestor(kernel: str) -> None:
    scene = oom_log_lines.scene(kernel, "ancestor")
    (kill,) = told(scene.records)
    assert kill.report is not None
    assert kill.report.usage is not None
    assert kill.decision.limit_cgroup == scene.made["limit"]
    assert kill.decision.cgroup == scene.made["cgroup"]
    assert kill.report.usage.limit_kib == 32 * 1024


@pytest.mark.parametrize("kernel", KERNELS)
def test_names_that_look_like_the_line_they_stand_in(kernel: str) -> None:
    scene = oom_log_lines.scene(kernel, "odd_names")
    (kill,) = told(scene.records)
    assert kill.killed.name == "\\xff\n),pid=1,uid=0"
    assert kill.decision.cgroup == kill.decision.limit_cgroup == scene.made["cgroup"]


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_log_names_a_thread_and_the_report_tells_whose(kernel: str) -> None:
    scene = oom_log_lines.scene(kernel, "leader_gone")
    (kill,) = told(scene.records)
    assert kill.killed.pid != scene.made["pids"][0]
    assert kill.tgid == scene.made["pids"][0]


@pytest.mark.parametrize("kernel", KERNELS)
def test_the_host_is_short(kernel: str) -> None:
    scene = oom_log_lines.scene(kernel, "sysrq")
    (kill,) = told(scene.records)
    assert kill.report is not None
    assert kill.report.chosen is not None
    assert kill.report.header.order == -1
    assert kill.report.chosen.constraint == "none"
    assert (kill.decision.limit_cgroup, kill.decision.cgroup) == (None, scene.made["cgroup"])
    assert not kill.killed.is_memcg


@pytest.mark.parametrize("kernel", V2)
def test_a_group_kill_is_one_decision_whose_first_victim_may_stand_twice(kernel: str) -> None:
    scene = oom_log_lines.scene(kernel, "whole_group")
    kills = told(scene.records)
    assert {kill.decision.group for kill in kills} == {scene.made["cgroup"]}
    assert {kill.decision.kills for kill in kills} == {3}
    assert [kill.is_primary for kill in kills] == [True, False, False]
    assert len({kill.decision.first for kill in kills}) == 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_kills_beyond_the_kernels_rate_of_reports_are_told_without_one(kernel: str) -> None:
    scene = oom_log_lines.scene(kernel, "storm")
    kills = told(scene.records)
    reports = sum(b" invoked oom-killer: " in record for record in scene.records)
    assert sum(kill.report is not None for kill in kills) == reports
    assert len({kill.decision.first for kill in kills}) == len(kills)


def test_some_recording_has_kills_without_a_report() -> None:
    storms = [told(scene.records) for scene in SCENES if scene.name == "storm"]
    assert any(kill.report is None for kill in itertools.chain(*storms))


@every_scene
@hypothesis.given(luck=st.randoms(use_true_random=True))
@hypothesis.settings(max_examples=3)
def test_lines_of_others_between_the_kernels_change_nothing(
    scene: Scene, luck: random.Random
) -> None:
    """Also lines that look like ours: only the kernel writes records of its own facility."""
    others = [
        b"12,7,1,-;Memory cgroup out of memory: Killed process 1 (init) total-vm:1kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB\n",
        b"6,7,1,-;usb 1-1: new device\n",
        b"6,7,1,c;, a piece of another's line\n",
        b"14,7,1,-;systemd invoked oom-killer: gfp_mask=0x1(X), order=0, oom_score_adj=0\n",
        b"3,7,1,-;EXT4-fs error [   12] 1 2 3\n SUBSYSTEM=block\n DEVICE=b8:0\n",
        b"6,7,1,-;oom_reaper: reaped process 104 (hog), now anon-rss:0kB, file-rss:0kB\n",
    ]
    mixed: list[bytes] = []
    for record in scene.records:
        mixed += [*luck.sample(others, luck.randrange(2)), record]
    mine, theirs = Reports(), Reports()
    assert facts(told(mixed, mine)) == facts(told(scene.records, theirs))
    assert mine.repeats == theirs.repeats


@pytest.mark.parametrize("kernel", KERNELS)
@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=20)
def test_a_line_that_others_cut_in_pieces_is_put_together(kernel: str, data: st.DataObject) -> None:
    """Where the kernel itself goes on with a line, another processor may have written its own."""
    scene = oom_log_lines.scene(kernel, "ancestor")
    at = next(n for n, record in enumerate(scene.records) if b"oom-kill:" in record)
    text = scene.records[at].decode().partition(";")[2].rstrip("\n")
    places = [found.start() for found in re.finditer("(?<=[=)]),|(?<==)(?=/)|,(?=[a-z_]+=)", text)]
    cuts = sorted(data.draw(st.sets(st.sampled_from(places), min_size=1)))
    pieces = [text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])]
    written = numbered(pieces[:1])
    for piece in pieces[1:]:
        written += numbered(["eth0: link is down"]) + numbered([piece], prefix="4,{},1000,c")
    kills = told([*scene.records[:at], *written, *scene.records[at + 1 :]])
    assert [k.decision.cgroup for k in kills] == [scene.made["cgroup"]]
    assert [k.decision.limit_cgroup for k in kills] == [scene.made["limit"]]
    assert kills[0].report is not None
    assert kills[0].report.is_pieced


@every_scene
@hypothesis.given(luck=st.randoms(use_true_random=True), share=st.floats(0, 1))
@hypothesis.settings(max_examples=5)
def test_whatever_records_are_lost_no_victim_is_invented(
    scene: Scene, luck: random.Random, share: float
) -> None:
    """What is lost is missing, not guessed: each line of a kill that is left is one kill or none."""
    left = [record for record in scene.records if luck.random() >= share]
    reports = Reports()
    kills = told(left, reports)
    lines = sum(b": Killed process " in record for record in left)
    assert len(kills) + reports.repeats == lines
    for kill in kills:
        if kill.is_primary and kill.decision.limit_cgroup is not None:
            assert kill.decision.limit_cgroup == scene.made.get("limit", scene.made["cgroup"])


def test_a_report_whose_victim_was_gone_is_not_the_next_ones() -> None:
    """The next kill is beyond the kernel's rate of reports and has none."""
    scene = oom_log_lines.scene("6.12-v2", "plain")
    (pid,) = scene.made["pids"]
    skipped = f"Memory cgroup out of memory: OOM victim {pid} (hog) is already exiting. Skip killing the task"
    lines = numbered([skipped, KILLED.format(pid=pid, name="hog")])
    (kill,) = told([*scene.records[:-1], *lines])
    assert kill.report is None


def test_a_report_of_another_victim_is_not_this_ones() -> None:
    """A kernel that does not say that the victim was gone."""
    scene = oom_log_lines.scene("5.10-v2", "plain")
    (kill,) = told([*scene.records[:-1], *numbered([KILLED.format(pid=4711, name="hog")])])
    assert (kill.report, kill.tgid) == (None, None)


def test_after_a_gap_nothing_belongs_to_what_was_before() -> None:
    scene = oom_log_lines.scene("6.12-v2", "whole_group")
    reports = Reports()
    at = next(n for n, record in enumerate(scene.records) if b"Tasks in " in record) + 1
    first = told(scene.records[:at], reports)
    reports.forget()
    rest = told(scene.records[at:], reports)
    assert [kill.is_primary for kill in rest] == [True] * len(rest)
    assert first[0].decision.kills == 1


CGROUPS = st.lists(
    st.text(st.sampled_from("ab,=:/_ \\"), min_size=1, max_size=4)
    | st.sampled_from([",task_memcg=", ",oom_memcg=", ",task=", ",global_oom", "a,pid=1,uid=0"]),
    min_size=1,
    max_size=4,
)


@hypothesis.given(
    parts=CGROUPS, depth=st.integers(0, 4), name=st.sampled_from(["hog", ",task=", "a,pid=1,uid=0"])
)
def test_cgroups_of_any_name_are_read_right_or_not_at_all(
    parts: list[str], depth: int, name: str
) -> None:
    names = [part.replace("/", "") or "x" for part in parts]
    cgroup = "/" + "/".join(names)
    limit = "/" + "/".join(names[:depth])
    escaped = [text.replace("\\", "\\x5c") for text in (limit, cgroup, name)]
    line = log_lines.understand(
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
        "oom_memcg={},task_memcg={},task={},pid=77,uid=1000".format(*escaped)
    )
    assert isinstance(line, log_lines.Chosen)
    assert line.pid == 77
    assert line.cgroups(name) in {(limit, cgroup), None}


def test_plain_cgroups_are_read() -> None:
    line = log_lines.understand(
        "oom-kill:constraint=CONSTRAINT_CPUSET,nodemask=0-1,3,cpuset=a,b,mems_allowed=0-1,3,"
        "global_oom,task_memcg=/kubepods/pod-1,task=java,pid=77,uid=1000"
    )
    assert isinstance(line, log_lines.Chosen)
    assert line.constraint == "cpuset"
    assert line.cgroups("java") == (None, "/kubepods/pod-1")


@pytest.mark.parametrize(
    "raw", [b"", b";", b"x", b"6,1;a", b"6,x,1,-;a", b"6,1,1,-", b"6,1,1,-;\xff"]
)
def test_what_is_no_record_is_refused(raw: bytes) -> None:
    with pytest.raises(errors.BadRecord):
        log_lines.decode(raw)


@hypothesis.given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_refused(raw: bytes) -> None:
    try:
        record = log_lines.decode(raw)
    except errors.BadRecord:
        return
    Reports().take(record)


FRAGMENTS = st.sampled_from(
    [
        "oom-kill:constraint=CONSTRAINT_MEMCG", ",oom_memcg=/a", ",task_memcg=/a", ",task=x", ",pid=1,uid=0",
        "x invoked oom-killer: gfp_mask=0x0(0), order=0, oom_score_adj=0", "CPU: 0 PID: 1 Comm: x",
        "[  pid  ]   uid  tgid total_vm      rss name", "[  pid  ]", "[      1]     0     1   2  3 x", "[ 1] 2",
        KILLED.format(pid=1, name="x"), "Tasks in /a are going to be killed due to memory.oom.group set",
        "Tasks in ", "memory: usage 1kB, limit 2kB, failcnt 3", "X: OOM victim 1 (x) is already exiting. Skip killing the task",
    ]
)  # fmt: skip


@hypothesis.given(
    st.lists(
        st.tuples(
            FRAGMENTS | st.text(st.characters(min_codepoint=32, max_codepoint=126)), st.booleans()
        )
    )
)
def test_lines_in_any_order_are_no_trouble(lines: list[tuple[str, bool]]) -> None:
    reports = Reports()
    records = [
        f"6,{n},1,{'c' if is_piece else '-'};{text}\n".encode()
        for n, (text, is_piece) in enumerate(lines)
    ]
    kills = told(records, reports)
    assert len(kills) + reports.repeats <= sum("Killed process" in text for text, _ in lines)
