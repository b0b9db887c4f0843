"""An SDK exporter that is found by entry point and never returns; `installed` puts it on a path."""

from __future__ import annotations

import pathlib
import shutil
import threading

NAME = "blocking"


class Exporter:
    """Blocks for ever in every call."""

    def export(self, batch: object) -> None:
        threading.Event().wait()

    def shutdown(self) -> None:
        threading.Event().wait()


def installed(folder: pathlib.Path) -> str:
    """Make a distribution of it in the folder; returns what PYTHONPATH needs."""
    shutil.copy(__file__, folder / "blocking_exporter.py")
    info = folder / "blocking_exporter-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: blocking-exporter\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        f"[opentelemetry_logs_exporter]\n{NAME} = blocking_exporter:Exporter\n"
    )
    return str(folder)
