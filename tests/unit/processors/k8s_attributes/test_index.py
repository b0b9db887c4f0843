"""The index: a plain model of who lives, held against it through any history."""

from __future__ import annotations

import dataclasses

from doubles import cluster_source as objects
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from otel_oom.kubernetes.source import Kind
from otel_oom.processors.k8s_attributes import index as indexes
from otel_oom.processors.k8s_attributes.index import Index

GRACE_S = 120.0


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def filled(*pods, **options):
    clock = Clock()
    index = Index(clock, **options)
    index.replace(Kind.POD, pods)
    return index, clock


def test_a_container_is_found_as_it_is_now_and_as_it_was_before():
    statuses = [objects.status("app", "b" * 64, restarts=1, lastState=objects.ended("a" * 64))]
    index, _ = filled(objects.pod(status={"containerStatuses": statuses}))
    entry = index.by_container("a" * 64)
    assert entry is index.by_container("b" * 64)
    assert entry.instances["a" * 64] == ("app", 0)
    assert entry.instances["b" * 64] == ("app", 1)


def test_every_id_that_a_pod_ever_had_is_known_while_it_lives():
    index, _ = filled(objects.pod())
    for restarts in range(1, 6):
        status = objects.status("app", f"{restarts:064x}", restarts=restarts)
        index.put(Kind.POD, objects.pod(status={"containerStatuses": [status]}))
    assert index.by_container("a" * 64).instances["a" * 64].container == "app"
    for restarts in range(1, 6):
        entry = index.by_container(f"{restarts:064x}")
        assert entry.instances[f"{restarts:064x}"] == ("app", restarts)


def test_a_container_that_restarts_for_ever_has_a_bounded_past():
    index, _ = filled(objects.pod())
    for restarts in range(1, 2000):
        status = objects.status("app", f"{restarts:064x}", restarts=restarts)
        index.put(Kind.POD, objects.pod(status={"containerStatuses": [status]}))
    assert index.containers < 100
    assert index.by_container(f"{1999:064x}")
    assert index.by_container(f"{1998:064x}")


def test_init_and_ephemeral_containers_are_found():
    index, _ = filled(
        objects.pod(
            status={
                "initContainerStatuses": [objects.status("setup", "c" * 64)],
                "ephemeralContainerStatuses": [objects.status("debug", "d" * 64)],
            }
        )
    )
    assert index.by_container("c" * 64).instances["c" * 64].container == "setup"
    assert index.by_container("d" * 64).instances["d" * 64].container == "debug"


def test_a_static_pod_is_found_by_the_hash_that_the_node_knows():
    index, _ = filled(
        objects.pod(metadata={"annotations": {"kubernetes.io/config.hash": "f" * 32}})
    )
    assert index.by_key(indexes.uid_key("f" * 32)).uid == objects.pod().metadata.uid


def test_a_pod_that_shares_its_nodes_address_is_not_found_by_it():
    index, _ = filled(objects.pod(spec={"hostNetwork": True}))
    assert index.by_key(indexes.address_key("10.0.0.7")) is None


def test_the_end_of_a_pod_does_not_take_its_address_from_the_next():
    old, new = objects.pod("old", uid="old"), objects.pod("new", uid="new", containers={"app": ""})
    index, clock = filled(old)
    index.put(Kind.POD, new)
    index.remove(Kind.POD, old)
    assert index.by_key(indexes.address_key("10.0.0.7")).uid == "new"
    clock.now_s = GRACE_S + 1
    index.replace(Kind.POD, [new])
    assert index.by_key(indexes.address_key("10.0.0.7")).uid == "new"
    assert index.by_container("a" * 64) is None
    assert index.pods == 1


def test_a_finished_pod_gives_way_though_it_is_younger():
    living = objects.pod("living", uid="living")
    done = objects.pod(
        "done", uid="done", containers={}, status={"phase": "Succeeded", "startTime": "2027"}
    )
    index, _ = filled(living, done)
    assert index.by_key(indexes.address_key("10.0.0.7")).uid == "living"


def test_what_is_gone_is_bounded_and_what_is_forgotten_early_is_counted():
    pods = [objects.pod(f"p{n}", uid=str(n), containers={"app": f"{n:064x}"}) for n in range(10)]
    index, _ = filled(*pods, most_gone=4)
    for pod in pods:
        index.remove(Kind.POD, pod)
    assert index.pods == 4
    assert index.containers == 4
    assert index.evicted == 6


def test_an_object_that_is_no_pod_makes_what_was_made_stale():
    index, _ = filled(objects.pod())
    before = index.epoch
    index.put(Kind.NAMESPACE, objects.partial("kube-system", "cluster"))
    assert index.epoch > before
    assert index.cluster_uid == "cluster"
    same = index.epoch
    index.put(Kind.NAMESPACE, objects.partial("kube-system", "cluster"))
    assert index.epoch == same


@dataclasses.dataclass
class Known:
    """What the model knows of a pod."""

    pod: object
    ids: set
    gone_s: float | None = None


class Histories(RuleBasedStateMachine):
    """Pods come, change, go and come again; few addresses and ids, so that they meet."""

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.index = Index(self.clock, grace_s=GRACE_S)
        self.known: dict[str, Known] = {}
        self.made = 0

    def pod(self, number, address, phase):
        self.made += 1
        id_ = f"{number}{self.made:063x}"
        return id_, objects.pod(
            f"pod-{number}",
            uid=str(number),
            ip=f"10.0.0.{address}",
            containers={"app": id_},
            status={"phase": phase, "startTime": f"2026-01-01T00:00:0{number}Z"},
        )

    def note(self, number, id_, pod):
        """A pod that is there. The index remembers 64 ids, which no history here exceeds."""
        before = self.known.get(str(number))
        self.known[str(number)] = Known(pod, (before.ids if before else set()) | {id_})

    def forget(self):
        for uid, known in list(self.known.items()):
            if known.gone_s is not None and known.gone_s + GRACE_S <= self.clock.now_s:
                del self.known[uid]

    numbers = st.integers(0, 4)
    phases = st.sampled_from(["Running", "Running", "Succeeded"])

    @rule(number=numbers, address=st.integers(0, 2), phase=phases)
    def put(self, number, address, phase):
        self.forget()
        id_, pod = self.pod(number, address, phase)
        self.index.put(Kind.POD, pod)
        self.note(number, id_, pod)

    @rule(number=numbers)
    def remove(self, number):
        known = self.known.get(str(number))
        if known:
            self.index.remove(Kind.POD, known.pod)
            if known.gone_s is None:
                known.gone_s = self.clock.now_s
        self.forget()

    @rule(numbers=st.sets(numbers), address=st.integers(0, 2))
    def replace(self, numbers, address):
        self.forget()
        found = {number: self.pod(number, address, "Running") for number in numbers}
        self.index.replace(Kind.POD, [pod for _, pod in found.values()])
        for number, (id_, pod) in found.items():
            self.note(number, id_, pod)
        for uid, known in self.known.items():
            if int(uid) not in numbers and known.gone_s is None:
                known.gone_s = self.clock.now_s

    @rule(seconds=st.sampled_from([1.0, 50.0, 130.0]))
    def time_passes(self, seconds):
        self.clock.now_s += seconds
        self.forget()
        self.index.put(Kind.NODE, objects.partial("node-1", "n"))

    @invariant()
    def every_id_leads_to_its_pod(self):
        for uid, known in self.known.items():
            for id_ in known.ids:
                assert self.index.by_container(id_).uid == uid
            assert self.index.by_key(indexes.uid_key(uid)).uid == uid

    @invariant()
    def nothing_else_is_kept(self):
        assert self.index.pods == len(self.known)
        assert self.index.containers == sum(len(known.ids) for known in self.known.values())

    @invariant()
    def an_address_is_of_the_best_that_has_it(self):
        for address in (f"10.0.0.{n}" for n in range(3)):
            candidates = [k for k in self.known.values() if k.pod.status.pod_ip == address]
            found = self.index.by_key(indexes.address_key(address))
            best = max(
                candidates,
                key=lambda k: (
                    k.gone_s is None,
                    k.pod.status.phase == "Running",
                    k.pod.status.start_time,
                ),
                default=None,
            )
            assert (found and found.uid) == (best and best.pod.metadata.uid)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
