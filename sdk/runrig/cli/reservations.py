"""What agents keep for roles: `runrig reserve|unreserve`, `runrig reservations …` and `runrig volumes …`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runrig.cli.columns import RESERVATIONS, VOLUMES
from runrig.cli.operator import ask, confirm, yes_option
from runrig.cli.output import Form, hint, output_option, print_list
from runrig.cli.prefixes import find
from runrig.cli.settings import master_option
from runrig.errors import InvalidInput
from runrig.ids import Role
from runrig.reservations import PersistentVolume, Reservation, checked_reservation, checked_volume
from runrig.resources import Resources, parse_mib

if TYPE_CHECKING:
    from runrig.cli.grpc_operator import Operator
    from runrig.cli.views import ReservationView, VolumeView


@click.command()
@click.argument("agent")
@click.argument("reservation", metavar="ID")
@click.argument("role")
@click.argument("resources")
@click.option("--from", "source", default="", metavar="ID", help="Out of this reservation, for a role below its own.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="May be repeated.")
@master_option
def reserve(
    agent: str, reservation: str, role: str, resources: str, source: str, labels: tuple[str, ...], master: str
) -> None:
    """Keep RESOURCES of an agent for a role and those below it; ID is a name of your own, unique on the agent.

    Only what is free can be reserved; offers that stand in the way are taken back.

    Example: runrig reserve agent-1 db-1 eng/db 'cpus:2;mem:8G;disk:100G'
    """
    amounts = Resources.parse(resources, "RESOURCES")
    pairs = tuple(_label(label) for label in labels)
    wanted = checked_reservation("reservation", Reservation(reservation, Role(role), amounts, pairs))

    async def reserved(operator: Operator) -> None:
        found = await operator.agent(agent)
        await operator.reserve(found.id, wanted, source)

    ask(master, reserved)
    click.echo(reservation)
    hint(f"see `runrig reservations ls`; give it back with: runrig unreserve {agent} {reservation}")


@click.command()
@click.argument("agent")
@click.argument("reservation", metavar="ID")
@master_option
def unreserve(agent: str, reservation: str, master: str) -> None:
    """Give a reservation back: what it held is offered to all again, or returns to where it was taken from.

    Refused while a task runs in it or a volume is on it.

    Example: runrig unreserve agent-1 db-1
    """

    async def given_back(operator: Operator) -> str:
        found = await operator.agent(agent)
        meant = find("reservation", reservation, found.reservations, lambda each: each.id)
        await operator.unreserve(found.id, meant.id)
        return meant.id

    click.echo(ask(master, given_back))


@click.group()
def reservations() -> None:
    """Look at what agents keep for roles."""


@reservations.command("ls")
@click.option("--agent", default="", help="Only on this agent: a hostname, an id or the beginning of one.")
@click.option("--role", default="", help="Only for this role.")
@master_option
@output_option
def reservations_ls(agent: str, role: str, master: str, output: Form) -> None:
    """List the reservations: what each holds in total, and what of it is free.

    Example: runrig reservations ls --role eng/db
    """

    async def listed(operator: Operator) -> list[ReservationView]:
        agents = [await operator.agent(agent)] if agent else await operator.agents()
        return [each for one in agents for each in one.reservations if role in ("", each.role)]

    print_list(ask(master, listed), RESERVATIONS, output, empty="no reservations; `runrig reserve --help`")


@click.group()
def volumes() -> None:
    """Look at disk that outlives tasks, make it and delete it."""


@volumes.command("ls")
@click.option("--agent", default="", help="Only on this agent: a hostname, an id or the beginning of one.")
@master_option
@output_option
def volumes_ls(agent: str, master: str, output: Form) -> None:
    """List the persistent volumes, and the tasks that use them.

    Example: runrig volumes ls --agent agent-1
    """

    async def listed(operator: Operator) -> list[VolumeView]:
        agents = [await operator.agent(agent)] if agent else await operator.agents()
        return [volume for each in agents for volume in each.volumes]

    print_list(ask(master, listed), VOLUMES, output, empty="no persistent volumes; `runrig volumes create --help`")


@volumes.command("create")
@click.argument("agent")
@click.argument("reservation")
@click.argument("volume", metavar="ID")
@click.argument("size")
@master_option
def volumes_create(agent: str, reservation: str, volume: str, size: str, master: str) -> None:
    """Make a persistent volume on the disk of a reservation; ID is a name of your own, unique on the agent.

    Example: runrig volumes create agent-1 db-1 data 50G
    """
    disk_mib = parse_mib("SIZE", size)
    if disk_mib < 1:
        raise InvalidInput("SIZE", size, "a size such as 512M, 1.5G or 2T")

    async def created(operator: Operator) -> None:
        found = await operator.agent(agent)
        meant = find("reservation", reservation, found.reservations, lambda each: each.id)
        await operator.create_volume(found.id, checked_volume("volume", PersistentVolume(volume, meant.id, disk_mib)))

    ask(master, created)
    click.echo(volume)
    hint("it is offered with its reservation; a task names it among its volumes")


@volumes.command("rm")
@click.argument("agent")
@click.argument("volume", metavar="ID")
@yes_option
@master_option
def volumes_rm(agent: str, volume: str, yes: bool, master: str) -> None:
    """Delete a persistent volume with its data; refused while a task uses it.

    A terminal is asked first; a script is not.

    Example: runrig volumes rm agent-1 data
    """
    found = ask(master, lambda operator: operator.agent(agent))
    meant = find("volume", volume, found.volumes, lambda each: each.id)
    confirm(f"volume {meant.id} on {found.hostname}, {meant.disk_mib} MiB: delete with its data?", yes)
    ask(master, lambda operator: operator.destroy_volume(found.id, meant.id))
    click.echo(meant.id)


def _label(given: str) -> tuple[str, str]:
    name, separator, value = given.partition("=")
    if not separator or not name:
        raise InvalidInput("--label", given, "NAME=VALUE")
    return name, value
