"""`runrig service ls|show|scale|restart|rm`."""

from __future__ import annotations

import click

from runrig.cli.output import Form, hint, output_option, print_list, print_one
from runrig.cli.settings import service_option
from runrig_service.cli.client import ServiceClient
from runrig_service.cli.options import APPS, TASKS, wait_options
from runrig_service.cli.waiting import Waiting, until_complete, until_gone
from runrig_service.core.paths import canonical


@click.command("ls")
@service_option
@output_option
def list_apps(service: str, output: Form) -> None:
    """List the apps: how many instances run, of how many that are wanted.

    DEPLOYING: the last change is not complete. WAITING: instances wait for offers, or after a failure.

    Example: runrig service ls -o wide
    """
    with ServiceClient(service) as client:
        apps = client.apps()
    print_list(apps, APPS, output, empty="no apps; `runrig service deploy --help`")


@click.command()
@click.argument("app")
@service_option
@output_option
def show(app: str, service: str, output: Form) -> None:
    """Show an app, its tasks and its last failure. `-o json` prints its whole definition.

    Example: runrig service show shop/web
    """
    with ServiceClient(service) as client:
        found = client.app(app)
    print_one(found, APPS, output)
    if output not in (Form.JSON, Form.NAME):
        click.echo()
        print_list(found["tasks"], TASKS, output, empty="no tasks yet")


@click.command()
@click.argument("app")
@click.argument("instances", type=click.IntRange(min=0))
@service_option
@wait_options
def scale(app: str, instances: int, service: str, wait: bool, timeout: float) -> None:
    """Run another number of instances of an app; those that run go on.

    Example: runrig service scale shop/web 5 --wait
    """
    with ServiceClient(service) as client:
        client.change(app, {"instances": instances})
        _finish(client, app, wait, timeout, f"{canonical(app)}: {instances} instances are wanted")


@click.command()
@click.argument("app")
@service_option
@wait_options
def restart(app: str, service: str, wait: bool, timeout: float) -> None:
    """Replace all instances of an app, as few at a time as its upgradeStrategy says.

    Example: runrig service restart shop/web --wait
    """
    with ServiceClient(service) as client:
        client.restart(app)
        _finish(client, app, wait, timeout, f"{canonical(app)}: its instances are being replaced")


@click.command("rm")
@click.argument("app")
@service_option
@wait_options
def remove(app: str, service: str, wait: bool, timeout: float) -> None:
    """Stop all instances of an app and forget it, with all its versions.

    Example: runrig service rm shop/web --wait
    """
    with ServiceClient(service) as client:
        client.remove(app)
        if wait:
            until_gone(client, canonical(app), Waiting(timeout))
    if not wait:
        hint(f"{canonical(app)}: its instances are being stopped")


def _finish(client: ServiceClient, app: str, wait: bool, timeout: float, news: str) -> None:
    if wait:
        until_complete(client, [app], Waiting(timeout))
    else:
        hint(news)
