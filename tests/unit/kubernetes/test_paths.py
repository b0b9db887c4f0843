"""Paths of cgroups as kubelets and runtimes make them, and whose they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_oom.kubernetes import paths
from otel_oom.kubernetes.paths import Workload

UID = "8a6f2c1e-4f0b-4f6d-9c55-0f1b2a3c4d5e"
UID_ = UID.replace("-", "_")
OTHER_UID = "11111111-2222-3333-4444-555555555555"
HASH = "d41d8cd98f00b204e9800998ecf8427e"
ID = "4f" * 32
OTHER = "a0" * 32
BURSTABLE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice"
KIND = (
    "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/"
    f"kubelet-kubepods-besteffort-pod{UID_}.slice"
)

SYSTEMD = {
    "containerd, burstable": (
        f"{BURSTABLE}/cri-containerd-{ID}.scope",
        Workload(UID, ID, "containerd", "Burstable"),
    ),
    "containerd, besteffort": (
        (
            "/kubepods.slice/kubepods-besteffort.slice/"
            f"kubepods-besteffort-pod{UID_}.slice/cri-containerd-{ID}.scope"
        ),
        Workload(UID, ID, "containerd", "BestEffort"),
    ),
    "containerd, guaranteed": (
        f"/kubepods.slice/kubepods-pod{UID_}.slice/cri-containerd-{ID}.scope",
        Workload(UID, ID, "containerd", "Guaranteed"),
    ),
    "CRI-O": (f"{BURSTABLE}/crio-{ID}.scope", Workload(UID, ID, "cri-o", "Burstable")),
    "CRI-O, within the scope": (
        f"{BURSTABLE}/crio-{ID}.scope/container",
        Workload(UID, ID, "cri-o", "Burstable"),
    ),
    "CRI-O's conmon is no container": (
        f"{BURSTABLE}/crio-conmon-{ID}.scope",
        Workload(UID, qos_class="Burstable"),
    ),
    "docker by cri-dockerd": (
        f"{BURSTABLE}/docker-{ID}.scope",
        Workload(UID, ID, "docker", "Burstable"),
    ),
    "static pod": (
        (
            f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{HASH}.slice/"
            f"cri-containerd-{ID}.scope"
        ),
        Workload(HASH, ID, "containerd", "Burstable"),
    ),
    "pod alone": (BURSTABLE, Workload(UID, qos_class="Burstable")),
    "systemd in a container": (
        f"{BURSTABLE}/cri-containerd-{ID}.scope/system.slice/ssh.service",
        Workload(UID, ID, "containerd", "Burstable"),
    ),
    "kubelet for systemd, runtime for cgroupfs": (
        f"/system.slice/containerd.service/kubepods-burstable-pod{UID_}.slice:cri-containerd:{ID}",
        Workload(UID, ID, "containerd", "Burstable"),
    ),
    "the same at the root, CRI-O": (
        f"/kubepods-besteffort-pod{UID_}.slice:crio:{ID}",
        Workload(UID, ID, "cri-o", "BestEffort"),
    ),
}
CGROUPFS = {
    "burstable": (f"/kubepods/burstable/pod{UID}/{ID}", Workload(UID, ID, "", "Burstable")),
    "besteffort": (f"/kubepods/besteffort/pod{UID}/{ID}", Workload(UID, ID, "", "BestEffort")),
    "guaranteed": (f"/kubepods/pod{UID}/{ID}", Workload(UID, ID, "", "Guaranteed")),
    "static pod": (f"/kubepods/burstable/pod{HASH}/{ID}", Workload(HASH, ID, "", "Burstable")),
    "static pod with a UID of its author's": (
        f"/kubepods/podmy-own-uid/{ID}",
        Workload("my-own-uid", ID, "", "Guaranteed"),
    ),
    "CRI-O": (
        f"/kubepods/burstable/pod{UID}/crio-{ID}",
        Workload(UID, ID, "cri-o", "Burstable"),
    ),
    "CRI-O's conmon": (
        f"/kubepods/burstable/pod{UID}/crio-conmon-{ID}",
        Workload(UID, qos_class="Burstable"),
    ),
    "below another root": (
        f"/kubelet/kubepods/burstable/pod{UID}/{ID}",
        Workload(UID, ID, "", "Burstable"),
    ),
    "pod alone": (f"/kubepods/pod{UID}", Workload(UID, qos_class="Guaranteed")),
    "a QoS class": ("/kubepods/burstable", Workload(qos_class="Burstable")),
    "all pods": ("/kubepods", Workload()),
}
NESTED = {
    "kind, systemd": (
        f"/docker/{OTHER}{KIND}/cri-containerd-{ID}.scope",
        Workload(UID, ID, "containerd", "BestEffort"),
    ),
    "kind in a scope": (
        f"/system.slice/docker-{OTHER}.scope{KIND}/cri-containerd-{ID}.scope",
        Workload(UID, ID, "containerd", "BestEffort"),
    ),
    "minikube, cgroupfs": (
        f"/docker/{OTHER}/kubelet/kubepods/burstable/pod{UID}/{ID}",
        Workload(UID, ID, "", "Burstable"),
    ),
    "a nested pod is not in the outer container": (
        f"/docker/{OTHER}/kubepods/burstable/pod{UID}",
        Workload(UID, qos_class="Burstable"),
    ),
    "the kubelet of a node that is a container": (
        f"/docker/{OTHER}/kubelet.slice/kubelet.service",
        Workload(container_id=OTHER, runtime="docker"),
    ),
    "a cluster in a pod": (
        f"/kubepods/burstable/pod{OTHER_UID}/{OTHER}/kubepods/besteffort/pod{UID}/{ID}",
        Workload(UID, ID, "", "BestEffort"),
    ),
    "docker in a pod: the container that the API knows": (
        f"{BURSTABLE}/cri-containerd-{ID}.scope/docker/{OTHER}",
        Workload(UID, ID, "containerd", "Burstable"),
    ),
    "docker in docker": (
        f"/docker/{OTHER}/docker/{ID}",
        Workload(container_id=ID, runtime="docker"),
    ),
}
FROM_ELSEWHERE = {
    "a sibling pod, cgroupfs": (f"/../../pod{UID}/{ID}", Workload(UID, ID)),
    "another QoS class": (
        f"/../../../burstable/pod{UID}/{ID}",
        Workload(UID, ID, "", "Burstable"),
    ),
    "a sibling pod, systemd": (
        f"/../../kubepods-besteffort-pod{UID_}.slice/cri-containerd-{ID}.scope",
        Workload(UID, ID, "containerd", "BestEffort"),
    ),
    "a sibling container": (
        f"/../cri-containerd-{ID}.scope",
        Workload(container_id=ID, runtime="containerd"),
    ),
}
ALONE = {
    "docker": (f"/docker/{ID}", Workload(container_id=ID, runtime="docker")),
    "docker, systemd": (
        f"/system.slice/docker-{ID}.scope",
        Workload(container_id=ID, runtime="docker"),
    ),
    "docker below a parent of its own": (f"/actions_job/{ID}", Workload(container_id=ID)),
    "podman": (
        f"/machine.slice/libpod-{ID}.scope/container",
        Workload(container_id=ID, runtime="podman"),
    ),
    "podman, in a pod of its own": (
        f"/machine.slice/machine-libpod_pod_{OTHER}.slice/libpod-{ID}.scope",
        Workload(container_id=ID, runtime="podman"),
    ),
    "podman, without root": (
        f"/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope/container",
        Workload(container_id=ID, runtime="podman"),
    ),
    "podman, cgroupfs": (
        f"/libpod_parent/libpod-{ID}",
        Workload(container_id=ID, runtime="podman"),
    ),
    "podman's pod is no container": (f"/libpod_parent/{OTHER}", Workload()),
    "podman's conmon": (f"/machine.slice/libpod-conmon-{ID}.scope", Workload()),
    "containerd without slices": (
        f"/k8s.io/{ID}",
        Workload(container_id=ID, runtime="containerd"),
    ),
    "nerdctl": (
        f"/system.slice/nerdctl-{ID}.scope",
        Workload(container_id=ID, runtime="containerd"),
    ),
    "ECS": (f"/ecs/{HASH}/{HASH}-1234567890", Workload(container_id=f"{HASH}-1234567890")),
    "ECS on EC2": (f"/ecs/{HASH}/{ID}", Workload(container_id=ID)),
}
NOBODY = {
    "the root": ("/", Workload()),
    "nothing": ("", Workload()),
    "a service": ("/system.slice/ssh.service", Workload()),
    "the kubelet": ("/system.slice/kubelet.service", Workload()),
    "Talos' services": ("/podruntime/kubelet", Workload()),
    "LXC has names": ("/lxc.payload.web", Workload()),
    "a mount of a container": (f"/system.slice/run-{ID}-rootfs.mount", Workload()),
    "a name that is too short": (f"/docker/{ID[:-1]}", Workload()),
    "a directory that begins with pod": ("/podman/foo", Workload()),
    "a user's word": ("/app/burstable/podracer", Workload()),
}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(*case, id=f"{family}: {name}")
        for family, cases in {
            "systemd": SYSTEMD,
            "cgroupfs": CGROUPFS,
            "nested": NESTED,
            "from elsewhere": FROM_ELSEWHERE,
            "alone": ALONE,
            "nobody": NOBODY,
        }.items()
        for name, case in cases.items()
    ],
)
def test_what_a_path_tells(path: str, expected: Workload):
    assert paths.parse(path) == expected


@given(
    st.lists(
        st.sampled_from(
            ["kubepods", "burstable", f"pod{UID}", ID, "..", "", "a:b:c", f"docker-{ID}.scope"]
        )
        | st.text(max_size=20)
    )
)
def test_any_path_is_read(components: list[str]):
    found = paths.parse("/".join(components))
    assert bool(found.runtime) <= bool(found.container_id)
    assert paths.parse("/".join([*components, "below"])) == found
