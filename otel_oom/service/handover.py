"""Hands a configuration from the process that reads it to the one that runs it.

Reading takes click, YAML, cattrs and the metadata of every installed distribution, and Python
never gives a module back. So `otel-oom run` runs its own command line in a second process that
lives for a moment: that one reads, checks and writes the result into a pipe; the agent imports
only what it runs. What travels is a pickle, between two processes of one program and version;
a factory travels as the name under which it can be imported.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import otel_oom
from otel_oom import errors

if TYPE_CHECKING:
    from otel_oom.service.registry import Registry
    from otel_oom.service.settings import AgentConfig

_VARIABLE = "OTEL_OOM_HANDOVER_FD"
_FAILED, _BAD_CONFIG = 1, 2
_PR_SET_PDEATHSIG = 1  # linux/prctl.h: a signal for when the parent is gone


class Handed(NamedTuple):
    """What the command line asks for; the text of its problems travels instead if it is bad."""

    config: AgentConfig
    quiet: bool


class CannotStart(errors.ConfigError):
    """There can be no other process: its program is out of reach, or there are too many."""


class NothingRead(errors.ConfigError):
    """The other process ended without a result; it has said why, unless a signal ended it."""

    def __init__(self, status: int) -> None:
        """`status` is negative for a signal, as `subprocess` has it."""
        super().__init__(f"the process that reads the configuration ended with status {status}")
        self.status = status


def is_wanted() -> bool:
    """Whether this process was started to read a configuration for another one."""
    return _VARIABLE in os.environ


def give(load: Callable[[], AgentConfig], known: Registry, *, quiet: bool) -> int:
    """Read the configuration, made of components of `known`, for the process that waits for it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    with os.fdopen(int(os.environ.pop(_VARIABLE)), "wb") as pipe:
        _write(pipe, load, known, quiet=quiet)
    return 0


def _write(
    pipe: IO[bytes], load: Callable[[], AgentConfig], known: Registry, *, quiet: bool
) -> None:
    handed: Handed | str
    try:
        handed = Handed(load(), quiet)
    except errors.ConfigError as error:
        handed = str(error)
    pickle.dump(otel_oom.__version__, pipe)
    _Pickler(pipe, known).dump(handed)


def run() -> int | None:
    """Run the agent of this process's own command line; returns the exit status.

    None says that no second process could be started: the caller reads in this one instead,
    which works as well and takes more memory. A user without rights may be given an interpreter
    that he cannot start again.
    """
    try:
        reading = Reading()
        from otel_oom.service import run as service  # noqa: PLC0415  # while the other one reads

        handed = reading.result()
    except KeyboardInterrupt:
        return _end(_FAILED, "\nAborted!")
    except CannotStart:
        return None
    except NothingRead as error:
        return error.status if error.status >= 0 else _end(_FAILED, str(error))
    except errors.ConfigError as error:
        return _end(_BAD_CONFIG, str(error))
    return service.serve(handed.config, _read_again, quiet=handed.quiet)


def _read_again() -> AgentConfig:
    return Reading().result().config


def _end(status: int, text: str) -> int:
    print(text, file=sys.stderr)  # noqa: T201  # there is no logging without a config
    return status


class Reading:
    """The other process, which has the same command line, and its result."""

    def __init__(self) -> None:
        self._fd, theirs = os.pipe()
        os.set_inheritable(theirs, True)
        # A Ctrl-C is for all processes of a terminal; this one decides what follows from it.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._process = subprocess.Popen(  # noqa: S603  # the command line of this one
                [sys.executable, *sys.orig_argv[1:]],
                env={**os.environ, _VARIABLE: str(theirs)},
                close_fds=False,  # a source may be /dev/fd/3; our own are closed on exec
            )
        except OSError as error:
            os.close(self._fd)
            raise CannotStart(f"the configuration cannot be read: {error}") from error
        finally:
            os.close(theirs)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})

    def result(self) -> Handed:
        """Wait for it; `errors.ConfigError` tells all problems."""
        try:
            with os.fdopen(self._fd, "rb") as pipe:
                handed = _received(pipe)
        except BaseException:
            self._process.kill()
            raise
        finally:
            status = self._process.wait()
        if handed is None:
            raise NothingRead(status)
        if isinstance(handed, str):
            raise errors.ConfigError(handed)
        return handed


def _received(pipe: IO[bytes]) -> Handed | str | None:
    """Read what was handed over, None where nothing was."""
    try:
        version = pickle.load(pipe)  # noqa: S301  # our own child wrote it
        if version != otel_oom.__version__:
            return f"otel-oom {version} has been installed since the start; restart the agent"
        handed: Handed | str = _Unpickler(pipe).load()
    except EOFError:
        return None
    except Exception as error:  # noqa: BLE001  # whatever the import of a component raises
        return f"the configuration was read but cannot be taken over: {error!r}"
    return handed


class _Pickler(pickle.Pickler):
    def __init__(self, file: IO[bytes], known: Registry) -> None:
        super().__init__(file)
        self._known = known

    def persistent_id(self, thing: Any) -> str | None:
        return self._known.reference(thing)


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, reference: str) -> Any:
        module, _, attributes = reference.partition(":")
        return functools.reduce(getattr, attributes.split("."), importlib.import_module(module))
