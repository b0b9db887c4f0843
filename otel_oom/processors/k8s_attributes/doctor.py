"""What `otel-oom doctor` says of the processor: whom it would ask, and whether that answers."""

from __future__ import annotations

import asyncio
import contextlib

import otel_oom
from otel_oom import errors
from otel_oom.kubernetes.source import Source
from otel_oom.pipeline.component import Check
from otel_oom.processors.k8s_attributes import sources
from otel_oom.processors.k8s_attributes.config import Config
from otel_oom.processors.k8s_attributes.index import Index

_PATIENCE_S = 10.0
_LOOK_S = 0.05


def checks(config: Config) -> list[Check]:
    """Ask for all that the options need, once."""
    return asyncio.run(_checks(config))


async def _checks(config: Config) -> list[Check]:
    try:
        source = await sources.make(config, otel_oom.__version__)
    except errors.ComponentError as error:
        return [_source(ok=False, detail=str(error), required=True)]
    if source is None:
        detail = "nobody is asked: records say what the path of their cgroup tells"
        return [_source(ok=False, detail=detail, required=False)]
    index = Index(asyncio.get_running_loop().time)
    is_synced = await _ask(source, index)
    return [
        _source(ok=True, detail=config.source.replace("_", " "), required=True),
        Check(
            "pods",
            ok=is_synced,
            detail=f"{source.describe()}; {index.pods} pods" if is_synced else source.describe(),
            remedy="grant what the notes on rights list, and see that the server can be reached",
        ),
    ]


def _source(*, ok: bool, detail: str, required: bool) -> Check:
    return Check(
        "source",
        ok=ok,
        detail=detail,
        remedy="run it in a pod with a service account, or set `auth_type: kubeConfig`",
        required=required,
    )


async def _ask(source: Source, index: Index) -> bool:
    """Whether all lists came in time."""
    task = asyncio.create_task(source.run(index))
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE_S):
                await asyncio.sleep(_LOOK_S)
                while not source.is_synced() and not task.done():  # noqa: ASYNC110  # as cluster
                    await asyncio.sleep(_LOOK_S)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return source.is_synced()
