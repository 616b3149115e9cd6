"""`runrig agent`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from runrig._addresses import is_loopback, split_address
from runrig.cli.settings import addresses, master_option
from runrig.errors import InvalidInput
from runrig.ids import checked_id
from runrig.logs import configure_logs
from runrig_agent.core.policy import Policy
from runrig_agent.detect import agent_resources, default_hostname, parse_attributes, parse_reservations
from runrig_agent.fetch import FetchSettings
from runrig_agent.fetch_sources import SourceSettings
from runrig_agent.grpc_server import run_agent
from runrig_agent.runtimes.docker_settings import ContainerSettings, DockerSettings
from runrig_agent.runtimes.process import ProcessSettings
from runrig_agent.sandboxes import SandboxSettings
from runrig_agent.settings import AgentSettings

DEFAULTS = AgentSettings()
REMOVALS_AT_STOP_S = 8.0  # shorter than whoever sent SIGTERM waits before SIGKILL: `runrig dev` and engines, 10 s
EXAMPLES = """\b
Examples:
  runrig agent
  runrig agent --master h1:5055,h2:5055 --work-dir /var/lib/runrig --attributes rack:a
  runrig agent --resources "cpus:2;mem:1G" --runtime process
  runrig agent --reserve "ssd=db:cpus:2;mem:4G;disk:100G"
"""


@click.command(epilog=EXAMPLES)
@master_option
@click.option(
    "--work-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULTS.work_dir,
    show_default=True,
    help="The agent's memory: who it is, what it runs, its tasks' files. One agent at a time may use it.",
)
@click.option(
    "--listen",
    default=DEFAULTS.listen,
    show_default=True,
    metavar="HOST:PORT",
    help="Where people read logs and execute commands in tasks (gRPC).",
)
@click.option(
    "--http",
    default=DEFAULTS.http,
    show_default=True,
    metavar="HOST:PORT",
    help="Where health and metrics are served.",
)
@click.option(
    "--ports",
    type=click.Choice(["fixed", "auto"]),
    default="fixed",
    show_default=True,
    help="auto: any free ports, on the hosts of --listen and --http.",
)
@click.option(
    "--advertise",
    default="",
    metavar="HOST:PORT",
    help="The gRPC address that others are told, if not --listen.",
)
@click.option(
    "--allow-remote",
    is_flag=True,
    help="Listen beyond this machine. There is no authentication yet: only within a network that you trust.",
)
@click.option("--hostname", default="", help="What the host is called in offers.  [default: the host's own name]")
@click.option(
    "--resources",
    default="",
    metavar="NAME:AMOUNT;…",
    help="What to offer, such as cpus:4;mem:8G;ports:[31000-31999]; the rest is detected.",
)
@click.option(
    "--reserve",
    multiple=True,
    metavar="ID=ROLE:NAME:AMOUNT;…",
    help="What of it to keep for a role and those below, such as ssd=db:cpus:2;mem:4G;disk:100G; repeat it for more.",
)
@click.option("--attributes", default="", metavar="NAME:VALUE;…", help="What tasks may ask for, such as rack:a;zone:b.")
@click.option(
    "--runtime",
    type=click.Choice(["docker", "process", "auto"]),
    default=DEFAULTS.runtime,
    show_default=True,
    help="What runs tasks; auto is both, docker whenever an engine answers.",
)
@click.option("--docker-host", default="", help="The engine, such as unix:///run/docker.sock.  [env: DOCKER_HOST]")
@click.option(
    "--allow-volume",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A directory that tasks may mount, with all below it; repeat it for more. None by default.",
)
@click.option(
    "--allow-fetch",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A directory that tasks may fetch files from; repeat it for more. HTTP is always allowed.",
)
@click.option(
    "--kill-grace",
    default=DEFAULTS.policy.kill_grace_s,
    show_default=True,
    help="Seconds from SIGTERM to SIGKILL for tasks that do not say.",
)
@click.option(
    "--keep-sandboxes",
    default=DEFAULTS.sandboxes.gc_age_s,
    show_default=True,
    help="Seconds that files of ended tasks are kept while there is room.",
)
@click.option(
    "--remove-ended",
    is_flag=True,
    help="Remove the containers of ended tasks when the agent stops, not only when they are old; their files stay.",
)
@click.option("--log-format", type=click.Choice(["auto", "text", "json"]), default="auto", show_default=True)
def agent(
    master: str,
    work_dir: Path,
    listen: str,
    http: str,
    ports: str,
    advertise: str,
    allow_remote: bool,
    hostname: str,
    resources: str,
    reserve: tuple[str, ...],
    attributes: str,
    runtime: str,
    docker_host: str,
    allow_volume: tuple[Path, ...],
    allow_fetch: tuple[Path, ...],
    kill_grace: float,
    keep_sandboxes: float,
    remove_ended: bool,
    log_format: str,
) -> None:
    """Run an agent: it offers this host's resources through the master, and runs tasks.

    Its tasks outlive it. Stopped, or killed, and started again with the same --work-dir it finds them again.
    """
    configure_logs(log_format)
    if ports == "auto":
        listen, http = (f"{address.rpartition(':')[0]}:0" for address in (listen, http))
    for name, address in (("--listen", listen), ("--http", http)):
        split_address(name, address)
        if not is_loopback(address) and not allow_remote:
            raise InvalidInput(name, address, "a loopback address, or any with --allow-remote")
    if advertise:
        split_address("--advertise", advertise)
    for name, seconds in (("--kill-grace", kill_grace), ("--keep-sandboxes", keep_sandboxes)):
        if not 0 <= seconds <= 365 * 86_400:
            raise InvalidInput(name, seconds, "0 to 31536000 seconds")
    work_dir = work_dir.absolute()
    volumes = _directories("--allow-volume", allow_volume)
    offered = agent_resources(resources, _existing(work_dir))
    asyncio.run(
        run_agent(
            AgentSettings(
                work_dir=work_dir,
                listen=listen,
                http=http,
                advertise=advertise or _reachable(listen, hostname),
                hostname=checked_id("--hostname", hostname or default_hostname()),
                resources=offered,
                reservations=parse_reservations(reserve, offered),
                attributes=parse_attributes(attributes),
                runtime=runtime,
                policy=Policy(
                    masters=addresses("--master", master),
                    allowed_volumes=tuple(str(directory) for directory in volumes),
                    kill_grace_s=kill_grace,
                ),
                fetch=FetchSettings(SourceSettings(_directories("--allow-fetch", allow_fetch))),
                sandboxes=SandboxSettings(gc_age_s=keep_sandboxes),
                process=ProcessSettings(volume_roots=volumes),
                removes_ended=remove_ended,
                docker=DockerSettings(
                    docker_host,
                    ContainerSettings(volume_roots=volumes),
                    removals_at_stop_s=REMOVALS_AT_STOP_S if remove_ended else 0.0,
                ),
            )
        )
    )


def main() -> None:
    """Do what `runrig agent` does, with its settings and its way to tell errors."""
    from runrig.cli.main import main as trunk

    trunk(["agent", *sys.argv[1:]], prog_name="runrig")


def _directories(field: str, paths: tuple[Path, ...]) -> tuple[Path, ...]:
    for path in paths:
        if not path.is_absolute() or not path.is_dir():
            raise InvalidInput(field, str(path), "the absolute path of a directory")
    return paths


def _reachable(listen: str, hostname: str) -> str:
    """Return what to tell others in place of an address that stands for all of this host's."""
    host, _, port = listen.rpartition(":")
    is_any = host in ("0.0.0.0", "[::]", "")
    return f"{hostname or default_hostname()}:{port}" if is_any and port != "0" else ""


def _existing(path: Path) -> Path:
    """Return the nearest directory above a path that is there: its disk is the path's."""
    return next(each for each in (path, *path.parents) if each.is_dir())
