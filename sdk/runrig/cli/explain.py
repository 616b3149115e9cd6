"""`runrig explain`: why something waits, what it holds, and what would help."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from runrig.cli.explanation_text import next_steps, print_explanation
from runrig.cli.operator import ask
from runrig.cli.output import Form, hint, output_option, plain, print_json
from runrig.cli.settings import batch_option, master_option, service_option
from runrig.cli.subjects import KINDS, Asked, asked
from runrig.cli.waiting import Frameworks, Waiting
from runrig.errors import InvalidInput, NotFound
from runrig.explanations import Explanation, SubjectKind

if TYPE_CHECKING:
    from runrig.cli.grpc_operator import Operator

MOST_STEPS = 3


@click.command()
@click.argument("words", nargs=-1, required=True, metavar="[KIND] ID")
@master_option
@service_option
@batch_option
@output_option
def explain(words: tuple[str, ...], master: str, service: str, batch: str, output: Form) -> None:
    """Say why something waits, what it holds, and what would help.

    ID is that of a task, a framework (or its name), a role, an agent (or its hostname), a batch job or an app of the
    service framework, or the beginning of one. KIND (task, framework, role, agent, job, app) is needed only where it
    may mean several.

    \b
    Example: runrig explain render-17
             runrig explain app /shop/web
    """  # noqa: D301  (click wants a real backspace)
    kind, given = _meant(words)
    with Frameworks(service, batch) as frameworks:
        subject, explanation = ask(master, lambda operator: _explained(operator, frameworks, kind, given))
    waiting = subject.waiting
    if waiting is not None and not explanation.declines:
        explanation = replace(explanation, declines=waiting.declines)
    if output is Form.NAME:
        click.echo(plain(waiting.id if waiting is not None else explanation.id))
    elif output is Form.JSON:
        print_json(_as_json(explanation, waiting))
    else:
        print_explanation(explanation, datetime.now(UTC))
        _print_next(explanation, waiting)


async def _explained(
    operator: Operator, frameworks: Frameworks, kind: str | None, given: str
) -> tuple[Asked, Explanation]:
    subject = await asked(operator, frameworks, kind, given)
    waiting = subject.waiting
    if waiting is not None and not (waiting.count and waiting.framework_id):
        return subject, _nothing(waiting)
    try:
        return subject, await operator.explain(subject.kind, subject.id, subject.framework_id)
    except NotFound:
        if waiting is None:
            raise
        return subject, _not_told(waiting)


def _meant(words: tuple[str, ...]) -> tuple[str | None, str]:
    if len(words) == 1:
        return None, words[0]
    if len(words) > 2 or words[0] not in KINDS:
        raise InvalidInput("KIND", " ".join(words[:-1]), f"one of {', '.join(KINDS)}, or nothing, and one ID")
    return words[0], words[1]


def _nothing(waiting: Waiting) -> Explanation:
    """Explain what waits for nothing that a master could give."""
    if not waiting.framework_id:
        summary = f"the framework of {waiting.kind} {waiting.id} has not reached a master yet"
    else:
        summary = f"nothing of {waiting.kind} {waiting.id} waits for an offer"
    return Explanation(SubjectKind.DEMAND, waiting.group, summary)


def _not_told(waiting: Waiting) -> Explanation:
    """Explain what waits in the framework alone: what it has decided just now, or has an offer of already."""
    text = f"{waiting.count} of {waiting.kind} {waiting.id} wait in their framework, and no demand of it at the master"
    return Explanation(SubjectKind.DEMAND, waiting.group, f"{text}: either has just changed, ask again")


def _as_json(explanation: Explanation, waiting: Waiting | None) -> object:
    said = explanation.as_json()
    if waiting is None:
        return {**said, "waiting": None}
    return {**said, "kind": waiting.kind, "id": waiting.id, "waiting": waiting.as_json()}


def _print_next(explanation: Explanation, waiting: Waiting | None) -> None:
    steps = list(next_steps(explanation))[:MOST_STEPS]
    if waiting is not None:
        steps.append(f"runrig {'batch' if waiting.kind == 'job' else 'service'} show {waiting.id}")
    for step in steps:
        hint(f"see: {step}")
