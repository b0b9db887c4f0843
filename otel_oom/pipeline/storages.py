"""Storages: what an extension offers to those who must keep something, by its id in the config."""

from __future__ import annotations

from otel_oom import errors
from otel_oom.pipeline.durable.items import Storage


class Storages:
    """Those of the whole agent; extensions are made and started before who needs them."""

    def __init__(self) -> None:
        self._by_name: dict[str, Storage] = {}

    def offer(self, name: str, storage: Storage) -> None:
        """Let it be found under the extension's id, e.g. `file_storage/main`."""
        self._by_name[name] = storage

    def find(self, name: str) -> Storage:
        """The storage of this id, or raise `errors.ComponentError` that says what there is."""
        if name not in self._by_name:
            known = ", ".join(sorted(self._by_name)) or "there is none"
            raise errors.ComponentError(
                f"`sending_queue.storage` names `{name}`, which is no storage extension that runs "
                f"({known}); add it to `extensions` and to `service.extensions`"
            )
        return self._by_name[name]
