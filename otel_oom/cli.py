"""The command `otel-oom`: parse, call, print, exit status; everything else is elsewhere.

Exit status: 0 good, 1 failed (or something is missing, for `doctor`), 2 bad config or usage.
Modules are imported by the command that needs them, so that `--help` and `--version` are quick.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

import click

import otel_oom
from otel_oom import errors, queue_cli

if TYPE_CHECKING:
    from otel_oom.service.config import AgentConfig

_FAILED, _BAD_CONFIG = 1, 2


def _config_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what the configuration is."""
    sets = click.option(
        "--set",
        "sets",
        multiple=True,
        metavar="KEY=VALUE",
        help="Set one value, e.g. exporters.debug.verbosity=detailed; wins over every --config.",
    )
    config = click.option(
        "--config",
        "sources",
        multiple=True,
        metavar="FILE",
        help="Configuration file, or yaml:TEXT; several are merged. Default: the embedded one.",
    )
    return config(sets(command))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(otel_oom.__version__, message="%(prog)s %(version)s", prog_name="otel-oom")
def main() -> None:
    """Tell why the kernel killed a process, with its process tree and proof that none is missed."""


@main.command()
@_config_options
@click.option("--quiet", is_flag=True, help="Log warnings and errors only, print no accounting.")
def run(sources: tuple[str, ...], sets: tuple[str, ...], *, quiet: bool) -> NoReturn:
    """Run the agent until it is stopped by Ctrl-C or SIGTERM; SIGHUP reads the config again."""
    from otel_oom.service import config as configs  # noqa: PLC0415
    from otel_oom.service import handover, registry  # noqa: PLC0415

    known = registry.Registry()
    load = functools.partial(configs.load, sources, sets, os.environ, known)
    if handover.is_wanted():
        sys.exit(handover.give(load, known, quiet=quiet))
    from otel_oom.service import run as service  # noqa: PLC0415

    sys.exit(service.run(load, quiet=quiet))


@main.command()
@_config_options
def validate(sources: tuple[str, ...], sets: tuple[str, ...]) -> None:
    """Check the configuration and tell every problem; nothing starts."""
    config = _load(sources, sets)
    for warning in config.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo("the configuration is valid", err=True)


@main.command("print-config")
@_config_options
@click.option("--unredacted", is_flag=True, help="Show secrets as they are.")
def print_config(sources: tuple[str, ...], sets: tuple[str, ...], *, unredacted: bool) -> None:
    """Print the configuration as it takes effect, with every default."""
    from otel_oom.service import config as configs  # noqa: PLC0415

    click.echo(configs.to_yaml(_load(sources, sets), reveal=unredacted), nl=False)


@main.command()
def components() -> None:
    """List the installed components and how stable each is, by signal."""
    from otel_oom.config import render  # noqa: PLC0415
    from otel_oom.service import listing, registry  # noqa: PLC0415

    click.echo(render.to_yaml(listing.components(registry.Registry())), nl=False)


@main.command()
@_config_options
@click.option("--json", "as_json", is_flag=True, help="Print the checks as JSON.")
def doctor(sources: tuple[str, ...], sets: tuple[str, ...], *, as_json: bool) -> None:
    """Say what this machine has, and what it lacks for the configuration, with the remedy."""
    import json  # noqa: PLC0415

    from otel_oom.service import doctor as service  # noqa: PLC0415

    findings = service.examine(_load(sources, sets))
    text = json.dumps(service.as_data(findings), indent=2)
    click.echo(text if as_json else "\n".join(service.lines(findings)))
    sys.exit(0 if service.healthy(findings) else _FAILED)


@main.command()
@click.option(
    "--endpoint",
    default="127.0.0.1:13133",
    show_default=True,
    metavar="HOST:PORT",
    help="The agent's extension `health_check`; it shows its views to its own host only.",
)
@click.option(
    "--interval",
    type=click.FloatRange(min=0.5),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="Time between two frames, over which rates are taken.",
)
@click.option("--once", is_flag=True, help="Print one frame after one interval, whole, and leave.")
@click.option(
    "--sort",
    type=click.Choice(["rate", "bytes", "p99", "name"]),
    default="rate",
    show_default=True,
    help="What stands first; equals by name.",
)
def top(endpoint: str, interval: float, sort: str, *, once: bool) -> None:
    """Show what a running agent sees of storage: rates, latency, and the slowest operations."""
    from otel_oom.top import agent, show  # noqa: PLC0415

    draw = show.once if once or not sys.stdout.isatty() else show.until_stopped
    try:
        draw(endpoint, interval, sort)
    except KeyboardInterrupt:
        sys.exit(0)
    except (agent.NoAnswer, ValueError) as error:
        click.echo(error, err=True)
        sys.exit(_FAILED)


main.add_command(queue_cli.queue)


def _load(sources: tuple[str, ...], sets: tuple[str, ...]) -> AgentConfig:
    """Load the configuration, or print what is wrong with it and leave."""
    from otel_oom.service import config as configs  # noqa: PLC0415

    try:
        return configs.load(sources, sets, os.environ)
    except errors.ConfigError as error:
        click.echo(error, err=True)
        sys.exit(_BAD_CONFIG)
