"""`runrig version`: of this program, and of the master."""

from __future__ import annotations

from importlib import metadata

import click

from runrig.cli.output import Form, hint, output_option, print_json
from runrig.cli.settings import master_option
from runrig.errors import Unavailable


def installed() -> str:
    """Return the version of the installed distribution."""
    try:
        return metadata.version("runrig")
    except metadata.PackageNotFoundError:
        return "unknown (not installed: run from its sources)"


@click.command()
@click.option("--client", is_flag=True, help="Of this program only: ask no master.")
@master_option
@output_option
def version(client: bool, master: str, output: Form) -> None:
    """Say which version this is, and which the master's.

    Example: runrig version -o json
    """
    from runrig.cli.operator import ask

    server = None
    if not client:
        try:
            server = ask(master, lambda operator: operator.cluster())
        except Unavailable as error:
            hint(f"runrig: {error}")
    if output is Form.JSON:
        print_json({"client": installed(), "server": server and server.as_json()})
        return
    click.echo(f"client: {installed()}")
    if server is not None:
        click.echo(f"server: {server.version} (master {server.leader}, cluster {server.id}, epoch {server.epoch})")
