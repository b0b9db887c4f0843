"""The processors that QEMU emulates for us: how it is asked for one, and what Debian calls it."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Architecture:
    """`debian`: Debian's name, also of its kernels; `machine`: the kernel's and compilers' name.

    The VM has two serial lines: the kernel's `console`, and `said`, which the script prints to.
    """

    debian: str
    machine: str
    qemu: tuple[str, ...]
    console: str
    said: str
    said_device: tuple[str, ...]


# QEMU 7.2's emulation breaks flags around cmpxchg16b, and threads of it race with the kernel's
# patching of its own text.
AMD64 = Architecture(
    debian="amd64",
    machine="x86_64",
    qemu=(
        "qemu-system-x86_64", "-machine", "q35", "-accel", "tcg,thread=single",
        "-cpu", "max,-cx16", "-smp", "1",
    ),
    console="ttyS0",
    said="ttyS1",
    said_device=("-serial", "chardev:said"),
)  # fmt: skip
ARM64 = Architecture(
    debian="arm64",
    machine="aarch64",
    qemu=(
        "qemu-system-aarch64", "-machine", "virt", "-accel", "tcg,thread=single",
        "-cpu", "cortex-a72", "-smp", "1",
    ),
    console="ttyAMA0",  # the only line of its board
    said="ttyS0",
    said_device=("-device", "pci-serial,chardev=said"),
)  # fmt: skip
