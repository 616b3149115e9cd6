"""The trunk of the command line: `runrig`, whose commands are imported when they are called, not before."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import click

from runrig.cli.failures import EXIT_CODES, EXIT_INTERRUPTED, Failure, failure_of
from runrig.cli.output import drop_output
from runrig.cli.settings import Defaults, load
from runrig.errors import EXIT_OK, EXIT_USAGE, RunrigError

BRANCHES = "runrig.commands"
"""The group of entry points that packages hang their commands on."""


@dataclass(frozen=True, slots=True)
class Twig:
    """A command that is not imported yet: what `--help` says of it, and where it is (`module:attribute`)."""

    summary: str
    place: str = ""
    """Empty: the package that brings it declares it among the entry points."""


TWIGS = {
    "dev": Twig("Run a whole cluster on this machine, in the foreground.", "runrig.cli.dev:dev"),
    "master": Twig("Run a master: it offers the agents' resources to frameworks."),
    "agent": Twig("Run an agent: it owns this host's resources and runs tasks."),
    "service": Twig("Long-running apps: run, deploy, ls, show, scale, restart, rm."),
    "batch": Twig("Jobs that end: serve, run, submit, ls, show, logs, kill, wait."),
    "agents": Twig("List and show agents, take them in and out, plan maintenance.", "runrig.cli.agents:agents"),
    "drain": Twig("Empty agents: time to leave, then kills.", "runrig.cli.agents:drain"),
    "frameworks": Twig("List, show and tear down frameworks.", "runrig.cli.operator:frameworks"),
    "roles": Twig("List and show roles, who has which share; set their weights.", "runrig.cli.roles:roles"),
    "quota": Twig("What roles may hold at most, and are served first: ls, set, unset.", "runrig.cli.roles:quota"),
    "reserve": Twig("Keep resources of an agent for a role.", "runrig.cli.reservations:reserve"),
    "unreserve": Twig("Give a reservation back.", "runrig.cli.reservations:unreserve"),
    "reservations": Twig("List what agents keep for roles.", "runrig.cli.reservations:reservations"),
    "volumes": Twig("Disk that outlives tasks: ls, create, rm.", "runrig.cli.reservations:volumes"),
    "offers": Twig("List and show the offers that wait for an answer.", "runrig.cli.operator:offers"),
    "tasks": Twig("List and show tasks.", "runrig.cli.operator:tasks"),
    "explain": Twig("Say why something waits, what it holds, and what would help.", "runrig.cli.explain:explain"),
    "logs": Twig("Print, or follow, what a task writes.", "runrig.cli.logs:logs"),
    "exec": Twig("Run a command where a task runs.", "runrig.cli.exec:exec_"),
    "kill": Twig("End a task.", "runrig.cli.operator:kill"),
    "version": Twig("Say which version this is, and which the master's.", "runrig.cli.version:version"),
}


class Trunk(click.Group):
    """A group that imports a command when it is called, and explains what goes wrong in it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name Runrig's own commands in their order, then those that other packages add."""
        return [
            *TWIGS,
            *sorted({entry.name for entry in entry_points(group=BRANCHES)} - set(TWIGS)),
            *self.commands,
        ]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command `cmd_name`; raise Failure when its package is not installed."""
        if cmd_name in self.commands:
            return self.commands[cmd_name]
        twig = TWIGS.get(cmd_name)
        if twig is not None and twig.place:
            return _imported(cmd_name, EntryPoint(cmd_name, twig.place, BRANCHES))
        branch = next(iter(entry_points(group=BRANCHES, name=cmd_name)), None)
        if branch is not None:
            return _imported(cmd_name, branch)
        if twig is not None:
            raise Failure(
                f"`runrig {cmd_name}` is not installed; install it: pip install 'runrig[{cmd_name}]'",
                EXIT_USAGE,
            )
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing one."""
        rows = [(name, TWIGS[name].summary if name in TWIGS else "") for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write where settings come from and what exit codes mean."""
        with formatter.section("Settings"):
            formatter.write_text(
                "Flags, then RUNRIG_* variables (RUNRIG_MASTER, RUNRIG_SERVICE, RUNRIG_BATCH, RUNRIG_OUTPUT; "
                "RUNRIG_AGENT_WORK_DIR for `agent --work-dir`), then ~/.config/runrig/config.toml."
            )
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), meaning) for code, meaning in EXIT_CODES])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, and check what the configuration says for it."""
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and name is not None and isinstance(ctx.default_map, Defaults):
            ctx.default_map.check_tables(lambda: self.list_commands(ctx))
            ctx.default_map.get(name).check(command)
        return name, command, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; turn what it raises into one line and an exit code."""
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (KeyboardInterrupt, click.Abort):
            raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:  # as of `| head`, which has read what it wanted
            drop_output()
            raise click.exceptions.Exit(EXIT_OK) from None
        except Exception as error:
            failure = failure_of(error)
            if failure is None:
                raise
            raise failure from error


def _imported(name: str, place: EntryPoint) -> click.Command:
    """Import a command; tell which extra is missing when one of its imports is."""
    try:
        command = place.load()
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("runrig.cli"):
            raise Failure(f"`runrig {name}` is not part of this version", EXIT_USAGE) from error
        raise Failure(
            f"`runrig {name}` needs {error.name}, not installed here: pip install 'runrig[{name}]'",
            EXIT_USAGE,
        ) from error
    assert isinstance(command, click.Command), f"{place.value} is no click command"
    return command


def _configure(ctx: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    """Read the configuration before anything looks for a default in it."""
    try:
        ctx.default_map = load(path)
    except RunrigError as error:
        raise Failure(str(error), EXIT_USAGE) from error
    return path


def _print_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        click.echo(f"runrig {import_module('runrig.cli.version').installed()}")
        ctx.exit()


@click.group(cls=Trunk, context_settings={"auto_envvar_prefix": "RUNRIG", "help_option_names": ["-h", "--help"]})
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="RUNRIG_CONFIG",
    is_eager=True,
    callback=_configure,
    help="TOML file with settings.  [default: ~/.config/runrig/config.toml]",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version.",
)
def main(config: Path | None) -> None:
    """Runrig, a two-level cluster scheduler: one master offers, agents run, frameworks decide.

    \b
    runrig dev --agents 3               a cluster to try things on
    runrig batch run -- echo hello      run something on it
    runrig tasks ls                     see what runs
    """  # noqa: D301  (click wants a real backspace)
