"""`runrig master`."""

from __future__ import annotations

import asyncio

import click

from runrig._addresses import is_loopback, split_address
from runrig.errors import InvalidInput
from runrig.logs import configure_logs
from runrig_master.core.settings import CoreSettings
from runrig_master.server_grpc import run_master
from runrig_master.settings import MasterSettings

DEFAULTS = MasterSettings()
CORE = CoreSettings()


@click.command()
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default=DEFAULTS.listen,
    show_default=True,
    help="Where agents, frameworks and people connect (gRPC).",
)
@click.option(
    "--http",
    metavar="HOST:PORT",
    default=DEFAULTS.http,
    show_default=True,
    help="Where health and metrics are served.",
)
@click.option(
    "--state",
    metavar="URL",
    default=DEFAULTS.state,
    show_default=True,
    help="Where what must survive is kept: sqlite:///absolute/path, sqlite:relative/path or memory:",
)
@click.option(
    "--advertise", metavar="HOST:PORT", default="", help="The gRPC address that others are told, if not --listen."
)
@click.option(
    "--allow-remote",
    is_flag=True,
    help="Listen beyond this machine. There is no authentication yet: only within a network that you trust.",
)
@click.option(
    "--offer-timeout", default=CORE.offer_timeout_s, show_default=True, help="Seconds until an offer expires."
)
@click.option(
    "--silence-timeout",
    default=CORE.silence_timeout_s,
    show_default=True,
    help="Seconds of silence after which an agent is unreachable.",
)
@click.option(
    "--heartbeat",
    default=CORE.heartbeat_s,
    show_default=True,
    help="Seconds between heartbeats of an idle stream.",
)
@click.option(
    "--agent-return-timeout",
    default=None,
    type=float,
    help="Seconds that agents have to come back after a restart of the master.  [default: --silence-timeout]",
)
@click.option("--log-format", type=click.Choice(["auto", "text", "json"]), default="auto", show_default=True)
def master(
    listen: str,
    http: str,
    state: str,
    advertise: str,
    allow_remote: bool,
    offer_timeout: float,
    silence_timeout: float,
    heartbeat: float,
    agent_return_timeout: float | None,
    log_format: str,
) -> None:
    """Run the master: it offers the resources of agents to frameworks.

    Killed and started again with the same --state it finds its agents and frameworks again; no task is disturbed.

    Example: runrig master --state sqlite:///var/lib/runrig/master.db
    """
    configure_logs(log_format)
    for name, value in (
        ("--offer-timeout", offer_timeout),
        ("--silence-timeout", silence_timeout),
        ("--heartbeat", heartbeat),
        ("--agent-return-timeout", silence_timeout if agent_return_timeout is None else agent_return_timeout),
    ):
        if not 0.05 <= value <= 86_400:
            raise InvalidInput(name, value, "0.05 to 86400 seconds")
    if heartbeat * 2 > silence_timeout:
        raise InvalidInput("--heartbeat", heartbeat, "at most half of --silence-timeout")
    for name, address in (("--listen", listen), ("--http", http)):
        split_address(name, address)
        if not is_loopback(address) and not allow_remote:
            raise InvalidInput(name, address, "a loopback address, or any with --allow-remote")
    if advertise:
        split_address("--advertise", advertise)
    core = CoreSettings(
        offer_timeout_s=offer_timeout,
        silence_timeout_s=silence_timeout,
        heartbeat_s=heartbeat,
        agent_return_timeout_s=agent_return_timeout if agent_return_timeout is not None else silence_timeout,
    )
    settings = MasterSettings(listen=listen, http=http, state=state, advertise=advertise, core=core)
    asyncio.run(run_master(settings))
