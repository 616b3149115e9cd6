"""An explanation for people: the sentence first, then the funnel, who came closest, what would help, and what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime

import click

from runrig._plain import iso
from runrig.cli.output import Column, Form, plain, print_list
from runrig.cli.views import age
from runrig.explanations import DeclineCount, DemandExplanation, Explanation, FunnelStep, NearMiss

FUNNEL: tuple[Column[FunnelStep], ...] = (
    Column("PREDICATE", lambda step: step.predicate),
    Column("TURNED AWAY", lambda step: step.failed, "number"),
    Column("LEFT", lambda step: step.left, "number"),
    Column("WHY", lambda step: step.detail),
)
NEAREST: tuple[Column[NearMiss], ...] = (
    Column("CLOSEST", lambda miss: miss.hostname),
    Column("PREDICATE", lambda miss: miss.predicate),
    Column("WHY", lambda miss: miss.text),
)
DECLINES: tuple[Column[DeclineCount], ...] = (
    Column("DECLINED", lambda decline: decline.count, "number"),
    Column("BECAUSE", lambda decline: decline.reason),
    Column("LAST", lambda decline: iso(decline.last_unix_ms)),
)

NEXT_STEPS = {
    "connected": "runrig agents ls",
    "draining": "runrig agents ls; `runrig agents activate AGENT` ends a drain",
    "maintenance": "runrig agents ls -o wide",
    "reserved": "runrig reservations ls",
    "size": "runrig agents ls -o wide",
    "offered": "runrig offers ls",
    "free": "runrig tasks ls",
    "quota": "runrig quota ls",
}
"""What shows more, by the predicate that turned agents away."""


def print_explanation(explanation: Explanation, now: datetime) -> None:
    """Print it."""
    click.echo(plain(explanation.summary))
    for demand in explanation.demands:
        _print_demand(demand, is_only=len(explanation.demands) == 1, now=now)
    if explanation.facts:
        click.echo()
        for fact in explanation.facts:
            click.echo(plain(fact))
    if explanation.declines:
        click.echo()
        print_list(explanation.declines, DECLINES, _form())


def next_steps(explanation: Explanation) -> Iterator[str]:
    """Yield the commands that show more of what stands in the way, those of the first predicates first."""
    seen = dict.fromkeys(
        step.predicate.partition(" ")[0] for demand in explanation.demands for step in demand.funnel if step.failed
    )
    for predicate in seen:
        if predicate in NEXT_STEPS:
            yield NEXT_STEPS[predicate]


def _print_demand(item: DemandExplanation, *, is_only: bool, now: datetime) -> None:
    demand = item.demand
    constraints = [f"{each.attribute} {each.operator.name} {each.value}".rstrip() for each in demand.constraints]
    ports = [f"{demand.port_count} port{'s' * (demand.port_count > 1)}"] if demand.port_count else []
    shape = ", ".join([str(demand.resources), *ports, *constraints])
    since = f", for {age(item.waiting_since_unix_ms, now)}" if item.waiting_since_unix_ms else ""
    gang = f" of gang {demand.gang_id}" if demand.gang_id else ""
    click.echo()
    click.echo(plain(f"{item.framework_name} wants {demand.count} x {shape}{gang} in role {item.role}{since}"))
    if not is_only:
        click.echo(plain(item.summary))
    if item.funnel:
        click.echo()
        print_list(item.funnel, FUNNEL, _form())
    if item.nearest:
        click.echo()
        print_list(item.nearest, NEAREST, _form())
    if item.remedies:
        click.echo()
        click.echo("What would help:")
        for remedy in item.remedies:
            click.echo(plain(f"  {remedy}"))


def _form() -> Form:
    """Return the form of a table within a text: aligned, and cut only to a terminal."""
    return Form.AUTO if sys.stdout.isatty() else Form.TABLE
