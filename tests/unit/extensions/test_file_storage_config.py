"""Options of `file_storage`: a collector's block is taken, and `fsync` does what it says."""

from __future__ import annotations

import dataclasses

import pytest
from doubles import exporting

from otel_oom.config import limits, load, problems, structure, tree
from otel_oom.config.types import ComponentId
from otel_oom.extensions import file_storage

# All options of the collector's extension, v0.162.0, but for the directory.
COLLECTORS = """
timeout: 10s
create_directory: true
directory_permissions: "0700"
fsync: true
recreate: true
compaction:
  on_start: true
  on_rebound: true
  directory: /tmp
  rebound_needed_threshold_mib: 5
  rebound_trigger_threshold_mib: 3
  max_transaction_size: 2048
  check_interval: 5s
  cleanup_on_start: true
"""
FULL, NORMAL = 2, 1
"""Values of SQLite's `PRAGMA synchronous`."""


def test_a_block_of_a_collector_is_taken_as_it_is(tmp_path):
    text = f"{COLLECTORS}directory: {tmp_path}".encode()
    root = load.load(text, "collector.yaml", limits.Budget())
    report = problems.Report(root)

    config = structure.structure(tree.plain(root), file_storage.Config, (), report)

    report.check()
    assert config.fsync
    assert config.create_directory


@pytest.mark.parametrize(
    ("fsync", "is_critical", "expected"),
    [(False, False, NORMAL), (False, True, FULL), (True, False, FULL)],
)
async def test_what_is_accepted_is_synced_as_it_was_promised(
    tmp_path, fsync, is_critical, expected
):
    agent = exporting.Agent("otlp_http")
    settings = dataclasses.replace(agent.settings, id=ComponentId.parse("file_storage"))
    storage = file_storage.FileStorage(
        settings, file_storage.Config(directory=str(tmp_path), fsync=fsync, disk_reserve_mib=0)
    )
    await storage.start()
    try:
        await storage.database().write(lambda connection: None, is_critical=is_critical)
        (level,) = await storage.database().read(
            lambda connection: connection.execute("PRAGMA synchronous").fetchone()
        )
    finally:
        await storage.shutdown()

    assert level == expected
