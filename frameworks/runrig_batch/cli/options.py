"""The options that describe a job, shared by `run` and `submit`, and what they say as a job description."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

_JOB_OPTIONS = (
    click.option("--name", help="Name of the job; its id is NAME-NUMBER.  [default: the program's name]"),
    click.option("--image", help="Container image.  [default: none, a plain process]"),
    click.option("--cpus", help="CPUs per task, such as 0.5."),
    click.option("--mem", help="Memory per task, such as 512M."),
    click.option("--disk", help="Disk per task, such as 2G."),
    click.option("--gpus", help="GPUs per task."),
    click.option("-e", "--env", multiple=True, metavar="NAME=VALUE", help="Set a variable; repeat for more."),
    click.option("--retries", help="How often a task that fails is tried again."),
    click.option("--retry-delay", help="Pause before the first retry, such as 10s; it doubles each time."),
    click.option("--timeout", help="End a task that runs longer, such as 30m."),
    click.option("--expected-runtime", help="How long a task promises to run, such as 10m: it may start earlier."),
    click.option(
        "--constraint",
        multiple=True,
        metavar="ATTRIBUTE:OPERATOR[:VALUE]",
        help="Where it may run: rack:LIKE:a|b.",
    ),
    click.option("--priority", help="0 to 1000; higher goes first."),
    click.option("--role", help="The role to run in."),
    click.option("--user", help="The user to run as."),
    click.option("--fetch", multiple=True, metavar="URI", help="Bring a file into the task's directory first."),
    click.option("--label", multiple=True, metavar="NAME=VALUE", help="A label to find it by."),
    click.option("--key", help="Your own name for this submission: repeated, it starts nothing new."),
)


def job_options(function: F) -> F:
    """Add the options that describe a job."""
    for option in reversed(_JOB_OPTIONS):
        function = option(function)
    return function


def description_of(options: dict[str, Any]) -> dict[str, Any]:
    """Return what the given options say, as fields of a job description."""
    said: dict[str, Any] = {}
    for name in ("name", "image", "cpus", "mem", "disk", "gpus", "retries", "retry_delay", "timeout"):
        said[name] = options.get(name)
    for name in ("priority", "role", "user", "key", "expected_runtime"):
        said[name] = options.get(name)
    said["env"] = _pairs("--env", options.get("env", ()))
    said["labels"] = _pairs("--label", options.get("label", ()))
    said["constraints"] = [each.split(":", 2) for each in options.get("constraint", ())]
    said["fetch"] = list(options.get("fetch", ()))
    return {name: value for name, value in said.items() if value not in (None, [], {})}


def command_of(words: Sequence[str]) -> dict[str, Any]:
    """Return the command: words as they are; a single one with a blank in it is read by a shell."""
    if len(words) == 1 and any(character.isspace() for character in words[0]):
        return {"command": words[0]}
    return {"argv": list(words)} if words else {}


def _pairs(option: str, given: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for each in given:
        name, separator, value = each.partition("=")
        if not separator or not name:
            raise click.BadParameter(f"{each!r} is not allowed; allowed: NAME=VALUE", param_hint=option)
        pairs[name] = value
    return pairs
