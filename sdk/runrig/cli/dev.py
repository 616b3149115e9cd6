"""`runrig dev`: a whole cluster on this machine, one process per part, while it stays in the foreground."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from runrig.cli.cluster import ClusterFile, Part, address_of, only_supervisor
from runrig.cli.output import hint
from runrig.cli.plan import MAX_AGENTS, Choices, Machine, Ports, claims, plan
from runrig.cli.ports import check_free, is_free
from runrig.cli.supervisor import SupervisorSettings
from runrig.errors import Refused

DEFAULTS = {
    "RUNRIG_MASTER": "127.0.0.1:5055",
    "RUNRIG_SERVICE": "http://127.0.0.1:8080",
    "RUNRIG_BATCH": "http://127.0.0.1:8090",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """What becomes of tasks, and of the directory, when the cluster ends."""

    keep_tasks: bool
    is_temporary: bool


@click.command()
@click.option("--agents", type=click.IntRange(0, MAX_AGENTS), default=None, help="How many agents.  [default: 3]")
@click.option(
    "--runtime",
    type=click.Choice(["auto", "docker", "process"]),
    default="auto",
    show_default=True,
    help="What runs tasks; auto: docker when an engine answers, processes as well.",
)
@click.option("--docker-host", envvar="DOCKER_HOST", default="", help="The engine.  [env: DOCKER_HOST]")
@click.option(
    "--resources",
    default="",
    help="Of each agent, such as cpus:4;mem:8G.  [default: its share of the machine]",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where state and logs are kept.  [default: a temporary directory, removed at the end]",
)
@click.option(
    "--ports",
    type=click.Choice(["default", "auto"]),
    default="default",
    show_default=True,
    help="auto: choose ports that are free, so that several clusters can run.",
)
@click.option("--no-restart", is_flag=True, help="Leave dead what dies, and notice when it is started by hand.")
@click.option(
    "--keep-tasks",
    is_flag=True,
    help="Leave tasks running at the end; the next cluster in the same --data-dir finds them.",
)
@click.option(
    "--hosts",
    type=click.IntRange(1, MAX_AGENTS),
    default=None,
    help="Run this many agents on hosts of their own: containers with an engine in each.",
)
def dev(
    agents: int | None,
    runtime: str,
    docker_host: str,
    resources: str,
    data_dir: Path | None,
    ports: str,
    no_restart: bool,
    keep_tasks: bool,
    hosts: int | None,
) -> None:
    """Run a whole cluster on this machine, in the foreground.

    A master, agents and both frameworks, one process each. What dies is started again. Ctrl-C ends it all,
    tasks too; with --data-dir the same command later starts again what apps and jobs were there.

    DIR/cluster.json lists the parts with their commands, DIR/logs has what they say.

    \b
    Examples:
      runrig dev --agents 3
      runrig dev --agents 3 --data-dir ~/cluster --ports auto
      runrig dev --hosts 3
    """  # noqa: D301  (click wants a real backspace)
    ending = Ending(keep_tasks, is_temporary=data_dir is None)
    settings = SupervisorSettings(restarts=not no_restart)
    count = agents if agents is not None else (0 if hosts else 3)
    with ExitStack() as stack:
        directory = _directory(data_dir, ending)
        if ending.is_temporary:
            stack.enter_context(_removed_when_refused(directory))
        stack.enter_context(only_supervisor(directory))
        choices = Choices(count, directory, runtime, docker_host, resources, ports == "auto")
        if hosts:
            from runrig.cli.dev_hosts import run_on_hosts

            run_on_hosts(hosts, choices, settings, ending)
        else:
            run_here(choices, settings, ending)


def run_here(choices: Choices, settings: SupervisorSettings, ending: Ending) -> None:
    """Run a cluster whose agents are processes of this machine."""
    file = ClusterFile(choices.data_dir, choices.as_json())
    survivors = file.survivors()
    parts = _recorded(file, survivors) if survivors else _planned(choices, file)
    run_parts(parts, survivors, file, settings, ending)


def run_parts(
    parts: list[Part],
    survivors: dict[str, int],
    file: ClusterFile,
    settings: SupervisorSettings,
    ending: Ending,
) -> None:
    """Run parts in the foreground; an agent's hostname is the name of its part."""
    from runrig.cli.foreground import Acts, Foreground
    from runrig.cli.tasks_end import end_tasks, settled

    master = address_of(parts, "master")
    hostnames = {part.name for part in parts if part.kind == "agent"}

    async def settle() -> None:
        await settled(master, hostnames, sum(part.kind in ("service", "batch") for part in parts), hint)

    async def end() -> None:
        await end_tasks(master, teardown=ending.is_temporary, tell=hint)

    acts = Acts(settle, lambda: _announce(parts, file, ending), None if ending.keep_tasks else end)
    asyncio.run(Foreground(parts, survivors, file, settings, hint).run(acts))
    _farewell(file.directory, ending)


def _directory(data_dir: Path | None, ending: Ending) -> Path:
    """Make the directories; a temporary one is kept when tasks are."""
    if data_dir is None:
        directory = Path(tempfile.mkdtemp(prefix="runrig-dev-"))
    else:
        directory = data_dir.expanduser().resolve()
    for name in ("logs", "master", "agents", "service", "batch"):
        (directory / name).mkdir(parents=True, exist_ok=True)
    hint(f"the cluster's directory: {directory}{' (temporary)' if ending.is_temporary else ''}")
    return directory


@contextmanager
def _removed_when_refused(directory: Path) -> Iterator[None]:
    """Remove the directory of a cluster that was never started; the logs of one that failed are kept."""
    try:
        yield
    except Refused:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def _planned(choices: Choices, file: ClusterFile) -> list[Part]:
    """Plan the parts; those of the last time with the same choices keep their ports and resources."""
    parts = file.planned_before()
    if choices.auto_ports and not all(is_free(claim.port, claim.host) for claim in claims(parts)):
        parts = []
    if not parts:
        ports = Ports.free(choices.agents) if choices.auto_ports else Ports.default(choices.agents)
        parts = plan(choices, ports, Machine.this(choices.data_dir))
    check_free(claims(parts))
    for part in parts:
        if part.kind == "agent":
            (choices.data_dir / "agents" / part.name).mkdir(exist_ok=True)
    return parts


def _recorded(file: ClusterFile, survivors: dict[str, int]) -> list[Part]:
    """Take over a cluster whose supervisor is gone, as it was."""
    running = ", ".join(f"{name} (pid {pid})" for name, pid in survivors.items())
    hint(f"these run already, left by a `runrig dev` that is gone: {running}")
    hint("taking the cluster over as it was; other options than --data-dir change nothing now")
    return [part for part, _ in file.read()]


def _announce(parts: list[Part], file: ClusterFile, ending: Ending) -> None:
    """Print where everything listens, and what to try."""
    width = max(len(part.name) for part in parts)
    click.echo()
    for part in parts:
        click.echo(f"  {part.name:<{width}}  {'  '.join(filter(None, (part.grpc, part.http)))}")
    click.echo(f"  {'logs':<{width}}  {file.directory / 'logs'}")
    click.echo("\nTry, in another terminal:\n")
    exports = _exports(parts)
    if exports:
        click.echo(f"  {exports}")
    for command in ("runrig agents ls", "runrig batch run -- echo hello", "runrig tasks ls --all"):
        click.echo(f"  {command}")
    click.echo(f"\nCtrl-C ends the cluster{' and leaves its tasks running' if ending.keep_tasks else ''}.")


def _exports(parts: list[Part]) -> str:
    """Return the line that makes clients find this cluster; "" when they look there anyway."""
    found = {f"RUNRIG_{kind.upper()}": address_of(parts, kind) for kind in ("master", "service", "batch")}
    elsewhere = [f"{name}={at}" for name, at in found.items() if at and os.environ.get(name, DEFAULTS[name]) != at]
    return f"export {' '.join(elsewhere)}" if elsewhere else ""


def _farewell(directory: Path, ending: Ending) -> None:
    if ending.is_temporary and not ending.keep_tasks:
        shutil.rmtree(directory, ignore_errors=True)
        return
    command = f"runrig dev --data-dir {shlex.quote(str(directory))}"
    if ending.keep_tasks:
        hint(f"its tasks go on running; this finds them again: {command}")
    else:
        hint(f"the cluster's state is kept; start it again with: {command}")
