"""`runrig batch serve`: the framework's process."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import click

from runrig.cli.output import hint
from runrig.cli.settings import addresses, master_option
from runrig.errors import InvalidInput
from runrig.ids import checked_role
from runrig_batch.core.durations import parse_ms
from runrig_batch.settings import ApiSettings, Settings


@click.command()
@master_option
@click.option(
    "--listen",
    default="127.0.0.1:8090",
    show_default=True,
    metavar="HOST:PORT",
    help="Where the API listens.",
)
@click.option(
    "--allow-remote",
    is_flag=True,
    help="Listen beyond this machine. There is no authentication yet: only within a network that you trust.",
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runrig-batch"),
    show_default=True,
    help="Where its state and the output of tasks are kept.",
)
@click.option(
    "--role",
    multiple=True,
    default=("batch",),
    show_default=True,
    help="A role to run jobs in; repeat for more.",
)
@click.option("--name", default="batch", show_default=True, help="Its name at the master.")
@click.option("--failover-timeout", default="7d", show_default=True, help="How long its tasks run on without it.")
@click.option("--unreachable-grace", default="60s", show_default=True, help="When a task out of reach is replaced.")
@click.option("--log-format", type=click.Choice(["auto", "text", "json"]), default="auto", show_default=True)
@click.option(
    "--retained-jobs", default=1000, show_default=True, type=click.IntRange(min=1), help="Ended jobs to keep."
)
def serve(
    *,
    master: str,
    listen: str,
    allow_remote: bool,
    data_dir: Path,
    role: tuple[str, ...],
    name: str,
    failover_timeout: str,
    unreachable_grace: str,
    retained_jobs: int,
    log_format: str,
) -> None:
    """Run the batch framework: it takes jobs over HTTP and runs their tasks on the cluster.

    Stop it with Ctrl-C or SIGTERM whenever you like: tasks run on, and with the same --data-dir it takes them
    up again.

    Example: runrig batch serve --master 127.0.0.1:5055 --data-dir batch-data
    """
    from runrig.logs import configure_logs
    from runrig.serving import is_loopback, split_address
    from runrig_batch.server import serve as serve_forever

    configure_logs(log_format)
    host, port = split_address("--listen", listen)
    if not allow_remote and not is_loopback(listen):
        raise InvalidInput("--listen", listen, "an address of this machine only, or any with --allow-remote")
    roles = tuple(checked_role("--role", each) for each in role)
    settings = Settings(
        data_dir=data_dir,
        master=",".join(addresses("--master", master)),
        name=name,
        roles=roles,
        failover_timeout_ms=parse_ms("--failover-timeout", failover_timeout, 365 * 86_400_000),
        api=ApiSettings(host=host, port=port),
    )
    grace_s = parse_ms("--unreachable-grace", unreachable_grace, 365 * 86_400_000) / 1000
    limits = replace(settings.limits, roles=roles, unreachable_grace_s=grace_s, retained_jobs=retained_jobs)
    asyncio.run(serve_forever(replace(settings, limits=limits), lambda url: hint(f"batch framework at {url}")))
