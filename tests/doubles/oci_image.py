"""A container image made of a few static programs: an OCI image layout in one tar file.

It is the same bytes for the same programs, so its digest is too.
"""

from __future__ import annotations

import hashlib
import io
import json
import pathlib
import platform
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def write(
    path: pathlib.Path, name: str, programs: Mapping[str, pathlib.Path], command: Sequence[str]
) -> None:
    """Write the image `name` (`registry/repository:tag`) with each program at /bin/KEY."""
    layer = _layer(programs)
    with tarfile.open(path, "w") as image:
        config = _blob(image, _CONFIG, _config(layer, command))
        layers = [_blob(image, _LAYER, layer)]
        described = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": config, "layers": layers}
        manifest = _blob(image, _MANIFEST, _json(described))
        manifest["annotations"] = {"io.containerd.image.name": name}
        _add(image, "index.json", _json({"schemaVersion": 2, "manifests": [manifest]}))
        _add(image, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}))


def _layer(programs: Mapping[str, pathlib.Path]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as layer:
        for name, program in sorted(programs.items()):
            _add(layer, f"bin/{name}", program.read_bytes(), mode=0o755)
    return packed.getvalue()


def _config(layer: bytes, command: Sequence[str]) -> bytes:
    digest = "sha256:" + hashlib.sha256(layer).hexdigest()
    return _json(
        {
            "architecture": _ARCHITECTURES[platform.machine()],
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": list(command)},
            "rootfs": {"type": "layers", "diff_ids": [digest]},
        }
    )


def _blob(image: tarfile.TarFile, media_type: str, content: bytes) -> dict[str, Any]:
    """Add it under its digest; what describes it."""
    digest = hashlib.sha256(content).hexdigest()
    _add(image, f"blobs/sha256/{digest}", content)
    return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(content)}


def _add(tar: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    tar.addfile(entry, io.BytesIO(content))


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()
