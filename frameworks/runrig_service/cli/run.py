"""`runrig service run`: the framework's process."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from runrig.cli.durations import DURATION
from runrig.cli.output import hint
from runrig.cli.settings import addresses, master_option
from runrig.errors import InvalidInput
from runrig.ids import checked_role


@click.command()
@master_option
@click.option("--listen", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT", help="Where the API is.")
@click.option(
    "--allow-remote",
    is_flag=True,
    help="Listen beyond this machine. There is no authentication yet: only within a network that you trust.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runrig-service"),
    show_default=True,
    help="Where its state is kept. With the same directory it takes up its apps again.",
)
@click.option(
    "--role",
    multiple=True,
    default=("service",),
    show_default=True,
    help="A role to run apps in; may be given several times. The first is that of apps that name none.",
)
@click.option("--name", default="service", show_default=True, help="What the master shows for it.")
@click.option(
    "--failover-timeout",
    type=DURATION,
    default="7d",
    show_default=True,
    help="How long the cluster keeps its tasks when it is gone.",
)
@click.option("--log-format", type=click.Choice(["auto", "text", "json"]), default="auto", show_default=True)
@click.option("--hostname", default="localhost", show_default=True, help="Its name in /v2/leader and /v2/info.")
def run(
    master: str,
    listen: str,
    allow_remote: bool,
    data_dir: Path,
    role: tuple[str, ...],
    name: str,
    failover_timeout: float,
    hostname: str,
    log_format: str,
) -> None:
    """Run the service framework until it is told to end (SIGTERM, Ctrl-C). Apps run on meanwhile.

    Example: runrig service run --master 127.0.0.1:5055 --data-dir service-data
    """
    from runrig.logs import configure_logs
    from runrig.serving import is_loopback, split_address
    from runrig_service.process import run_service
    from runrig_service.settings import ApiSettings, Settings

    configure_logs(log_format)
    host, port = split_address("--listen", listen)
    if not allow_remote and not is_loopback(listen):
        raise InvalidInput("--listen", listen, "an address of this machine only, or any with --allow-remote")
    settings = Settings(
        data_dir=data_dir,
        master=",".join(addresses("--master", master)),
        name=name,
        roles=tuple(checked_role("--role", each) for each in role),
        failover_timeout_ms=round(failover_timeout * 1000),
        api=ApiSettings(host=host, port=port, hostname=hostname),
    )
    asyncio.run(run_service(settings, lambda url: hint(f"service framework on {url}")))
