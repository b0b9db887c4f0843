"""An installed distribution of somebody else, with entry points, made in a folder."""

from __future__ import annotations

import importlib
import pathlib
from collections.abc import Mapping

import pytest


def install(
    monkeypatch: pytest.MonkeyPatch,
    folder: pathlib.Path,
    name: str,
    *,
    modules: Mapping[str, str],
    entry_points: Mapping[str, Mapping[str, str]],
) -> None:
    """Lay down modules and a `dist-info` as pip does, and put the folder on the import path.

    `modules` maps a module's name to its source, `entry_points` a group to names and objects.
    """
    folder.mkdir(exist_ok=True)
    for module, source in modules.items():
        (folder / f"{module}.py").write_text(source)
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    lines = [
        line
        for group, names in entry_points.items()
        for line in (f"[{group}]", *(f"{entry} = {target}" for entry, target in names.items()))
    ]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(folder))
    importlib.invalidate_caches()
