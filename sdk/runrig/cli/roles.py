"""Who may have how much: `runrig roles …` and `runrig quota …`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from runrig.cli.columns import QUOTAS, ROLES
from runrig.cli.operator import ask
from runrig.cli.output import Form, hint, output_option, print_list, print_one
from runrig.cli.prefixes import find
from runrig.cli.quotas import FORM, parse_quota
from runrig.cli.settings import master_option
from runrig.cli.views import RoleView, quota_text
from runrig.errors import InvalidInput
from runrig.ids import checked_role
from runrig.resources import NOTHING, parse_milli

if TYPE_CHECKING:
    from runrig.cli.grpc_operator import Operator


@click.group()
def roles() -> None:
    """Look at the accounts that resources are given to, and say how they share."""


@roles.command("ls")
@master_option
@output_option
def roles_ls(master: str, output: Form) -> None:
    """List the roles with their weights, shares and quotas.

    Example: runrig roles ls -o wide
    """
    print_list(ask(master, lambda operator: operator.roles()), ROLES, output, empty="no roles in use")


@roles.command("show")
@click.argument("role")
@master_option
@output_option
def roles_show(role: str, master: str, output: Form) -> None:
    """Show one role: ROLE is a path such as eng/ads.

    Example: runrig roles show eng/ads
    """
    found = ask(master, lambda operator: operator.roles())
    print_one(find("role", role, found, lambda each: each.role), ROLES, output)


@roles.command("set")
@click.argument("role")
@click.option("--weight", metavar="NUMBER", help="Its share beside its siblings': twice the weight, twice as much.")
@click.option(
    "--offers",
    type=click.Choice(["exclusive", "optimistic"]),
    help="optimistic: the same resources may stand in several offers, and the first to accept has them.",
)
@master_option
def roles_set(role: str, weight: str | None, offers: str | None, master: str) -> None:
    """Set the weight of a role, or how it is offered: ROLE is a path such as eng/ads, in use or not.

    Example: runrig roles set eng/ads --weight 2.5
    """
    checked_role("ROLE", role)
    weight_millis = None if weight is None else _weight(weight)
    if weight_millis is None and offers is None:
        raise InvalidInput("--weight", None, "--weight, --offers or both")

    async def changed(operator: Operator) -> None:
        if weight_millis is not None:
            await operator.set_role_weight(role, weight_millis)
        if offers is not None:
            await operator.set_role_offers(role, is_optimistic=offers == "optimistic")

    ask(master, changed)
    click.echo(role)
    hint(f"see it: runrig roles show {role}")


def _weight(given: str) -> int:
    millis = parse_milli("--weight", given)
    if not 1 <= millis <= 1_000_000_000:
        raise InvalidInput("--weight", given, "0.001 to 1000000")
    return millis


@click.group()
def quota() -> None:
    """Look at what roles may hold at most and are served first, and set it."""


@quota.command("ls")
@master_option
@output_option
def quota_ls(master: str, output: Form) -> None:
    """List the roles that have a limit or a guarantee, and what they use with all below them.

    Example: runrig quota ls
    """
    found = [role for role in ask(master, lambda operator: operator.roles()) if _has_quota(role)]
    print_list(found, QUOTAS, output, empty="no quotas; `runrig quota set --help`")


@quota.command("set")
@click.argument("role")
@click.option("--limit", metavar="AMOUNT", help=f"Hold at most this, such as '{FORM}'; none: no limit.")
@click.option("--guarantee", metavar="AMOUNT", help="Be served this before all fairness; none: no guarantee.")
@click.option("--force", is_flag=True, help="Even if all guarantees together are more than the cluster has.")
@master_option
@output_option
def quota_set(role: str, limit: str | None, guarantee: str | None, force: bool, master: str, output: Form) -> None:
    """Set the limit or the guarantee of a role with all below it: ROLE is a path such as eng/ads, in use or not.

    What is not named (--limit cpus:10 says nothing of memory) does not count; an option that is not given stays as it
    is. Offers above a new limit are taken back; what runs stays until it ends.

    Example: runrig quota set eng/ads --limit 'cpus:10;mem:64G' --guarantee 'cpus:4'
    """
    checked_role("ROLE", role)
    if limit is None and guarantee is None:
        raise InvalidInput("--limit", None, "--limit, --guarantee or both")
    asked_limit = None if limit is None else parse_quota("--limit", limit)
    asked_guarantee = None if guarantee is None else parse_quota("--guarantee", guarantee)

    async def changed(operator: Operator) -> RoleView:
        standing = _role(await operator.roles(), role)
        await operator.set_quota(
            role,
            standing.limit if limit is None else asked_limit,
            standing.guarantee if guarantee is None else asked_guarantee,
            is_forced=force,
        )
        return _role(await operator.roles(), role)

    now = ask(master, changed)
    print_one(now, QUOTAS, output)
    over = {name: most for name, most in now.limit or () if getattr(now.subtree_used, name) > most}
    if over:
        text = quota_text(tuple((name, getattr(now.subtree_used, name)) for name in over))
        hint(f"it uses {text} now: nothing more is offered until enough of that has ended")


@quota.command("unset")
@click.argument("role")
@master_option
def quota_unset(role: str, master: str) -> None:
    """Take the limit and the guarantee of a role away.

    Example: runrig quota unset eng/ads
    """
    checked_role("ROLE", role)

    async def changed(operator: Operator) -> bool:
        standing = _role(await operator.roles(), role)
        await operator.set_quota(role, None, None)
        return _has_quota(standing)

    had = ask(master, changed)
    click.echo(role)
    if not had:
        hint("it had none")


def _role(found: list[RoleView], role: str) -> RoleView:
    """Return the role, or one with the defaults that all have whom nobody uses."""
    return next((each for each in found if each.role == role), RoleView(role, 1000, 0, NOTHING, NOTHING, 0))


def _has_quota(role: RoleView) -> bool:
    return role.limit is not None or role.guarantee is not None
