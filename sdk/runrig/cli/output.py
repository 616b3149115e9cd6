"""How commands print: one way for all of them, the service's and the batch framework's too.

Data goes to stdout, everything else to stderr (`hint`). A list is described once, as columns over plain
objects; `-o` chooses the form:

    (none)   a table to a terminal, cut to its width; tab-separated lines with a heading when piped
    table    an aligned table even when piped, nothing cut
    wide     the same with all columns
    json     everything: at least what the table has; a list prints a list, `show` an object
    name     one id per line

Example:
    >>> columns = [Column("ID", lambda job: job["id"], kind="id"), Column("STATE", lambda job: job["state"])]
    >>> print_list([{"id": "j1", "state": "done"}], columns, Form.TABLE)
    ID  STATE
    j1  done
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, Literal, TypeVar

import click

from runrig.cli.prefixes import ELLIPSIS, cut, shortest

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

SHORT_ID = 8  # characters of an id that are kept when a table is too wide: enough to be unique and to be typed
NARROWEST = 6  # a text column is never cut below this
NARROWEST_ID = 10  # nor an id below this: its beginning and its end must tell it from others
GAP = "  "

Kind = Literal["text", "id", "number", "state"]


class Form(StrEnum):
    """What `-o` may be; AUTO is what a command does without it."""

    AUTO = "auto"
    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    NAME = "name"


@dataclass(frozen=True)  # with slots, `Column[Job](...)` could not note its type
class Column(Generic[T]):
    """One column: `text` says what an item has there; "" and None are printed as `-`."""

    title: str
    text: Callable[[T], object]
    kind: Kind = "text"
    """`id` may be shortened to a unique prefix, `text` cut; `number` stands right; `state` has a colour."""
    wide: bool = False
    """Only with `-o wide`."""


def output_option(function: F) -> F:
    """Add `-o/--output` to a command, as the parameter `output: Form`."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice([form.value for form in Form if form is not Form.AUTO]),
        default=None,
        envvar="RUNRIG_OUTPUT",
        callback=lambda _context, _parameter, value: Form(value or Form.AUTO),
        help="Form of the output.  [default: table; tab-separated when piped]",
    )(function)


def print_list(items: Sequence[T], columns: Sequence[Column[T]], form: Form = Form.AUTO, *, empty: str = "") -> None:
    """Print `items` in the chosen form; `empty` is the hint for a person when there are none."""
    if form is Form.JSON:
        print_json([as_json(item) for item in items])
    elif form is Form.NAME:
        for item in items:
            click.echo(plain(_identity(item, columns)))
    elif not items and empty:
        hint(empty)
    else:
        _print_table(items, columns, form)


def print_one(item: T, columns: Sequence[Column[T]], form: Form = Form.AUTO) -> None:
    """Print all that is known of one item: `title: value` lines, an object, or its id."""
    if form is Form.JSON:
        print_json(as_json(item))
    elif form is Form.NAME:
        click.echo(plain(_identity(item, columns)))
    else:
        width = max(len(column.title) for column in columns) + 1
        for column in columns:
            label = f"{column.title.capitalize()}:"
            click.echo(f"{label:<{width}} {cell(column.text(item))}")


def print_json(value: object) -> None:
    """Print a value as indented JSON."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def hint(text: str) -> None:
    """Tell a person something that is not data."""
    click.echo(text, err=True)


def drop_output() -> None:
    """Let what is still to be flushed go nowhere, as nobody reads it any more."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def as_json(item: object) -> object:
    """Return what JSON says of an item: its own `as_json()`, the fields of a dataclass, or the item."""
    own = getattr(item, "as_json", None)
    if callable(own):
        return own()
    if dataclasses.is_dataclass(item) and not isinstance(item, type):
        return dataclasses.asdict(item)
    return dict(item) if isinstance(item, Mapping) else item


def plain(value: object) -> str:
    """Return a text that a terminal shows and does not obey: control characters become `?`."""
    return "".join(character if character.isprintable() else "?" for character in str(value))


def cell(value: object) -> str:
    """Return what stands in a table for a value: one line, never empty."""
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return plain(str(value).replace("\r\n", "\n").replace("\n", " ").replace("\t", " "))


def _identity(item: T, columns: Sequence[Column[T]]) -> object:
    return next((column for column in columns if column.kind == "id"), columns[0]).text(item)


def _print_table(items: Sequence[T], columns: Sequence[Column[T]], form: Form) -> None:
    shown = [column for column in columns if form is Form.WIDE or not column.wide]
    titles = [column.title for column in shown]
    rows = [[cell(column.text(item)) for column in shown] for item in items]
    if form is Form.AUTO and not sys.stdout.isatty():
        for row in [titles, *rows]:
            click.echo("\t".join(row))
        return
    kinds = [column.kind for column in shown]
    if form is not Form.WIDE and sys.stdout.isatty():
        rows = fitted(titles, rows, kinds, shutil.get_terminal_size().columns)
    _print_aligned(titles, rows, kinds)


def fitted(titles: list[str], rows: list[list[str]], kinds: Sequence[Kind], width: int) -> list[list[str]]:
    """Make a table fit `width`: shorten ids to unique prefixes, then cut the widest texts, then ids."""
    if _excess(_widths(titles, rows), width) <= 0:
        return rows
    rows = [list(row) for row in rows]
    for number, kind in enumerate(kinds):
        if kind == "id":
            short = shortest([row[number] for row in rows], SHORT_ID)
            for row in rows:
                row[number] = short[row[number]]
    widths = _widths(titles, rows)
    for kind, least in (("text", NARROWEST), ("id", NARROWEST_ID)):
        floors = {n: max(least, len(titles[n])) for n, each in enumerate(kinds) if each == kind}
        _narrow(widths, floors, _excess(widths, width))
    return [
        [
            cut(text, width) if kind == "id" else _cut_text(text, width)
            for text, width, kind in zip(row, widths, kinds, strict=True)
        ]
        for row in rows
    ]


def _excess(widths: list[int], width: int) -> int:
    return sum(widths) + len(GAP) * (len(widths) - 1) - width


def _narrow(widths: list[int], floors: dict[int, int], excess: int) -> None:
    """Take `excess` from columns, always from the one that is furthest above its floor."""
    while excess > 0:
        widest = max(floors, key=lambda number: widths[number] - floors[number], default=None)
        if widest is None or widths[widest] <= floors[widest]:
            return
        widths[widest] -= 1
        excess -= 1


def _cut_text(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + ELLIPSIS


def _widths(titles: list[str], rows: list[list[str]]) -> list[int]:
    return [max(len(text) for text in column) for column in zip(titles, *rows, strict=True)]


def _print_aligned(titles: list[str], rows: list[list[str]], kinds: Sequence[Kind]) -> None:
    widths = _widths(titles, rows)
    if not sys.stdout.isatty():
        for row in [titles, *rows]:
            cells = (_padded(*each) for each in zip(row, widths, kinds, strict=True))
            click.echo(GAP.join(cells).rstrip())
        return
    _print_coloured(titles, rows, kinds, widths)


def _padded(text: str, width: int, kind: Kind) -> str:
    return text.rjust(width) if kind == "number" else text.ljust(width)


def _print_coloured(titles: list[str], rows: list[list[str]], kinds: Sequence[Kind], widths: list[int]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    # A pty without a size would make rich cut at 80 columns what `-o wide` promised whole.
    console = Console(width=max(sum(widths) + len(GAP) * len(widths), 1), highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, len(GAP), 0, 0), header_style="bold")
    for title, kind, width in zip(titles, kinds, widths, strict=True):
        table.add_column(title, justify="right" if kind == "number" else "left", width=width, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(text, style=_style(kind, text)) for text, kind in zip(row, kinds, strict=True)))
    console.print(table)


_COLOURS = {
    "green": {"RUNNING", "ACTIVE", "FINISHED", "HEALTHY", "DONE", "SUCCEEDED", "READY"},
    "yellow": {
        "STAGING",
        "STARTING",
        "KILLING",
        "RECOVERING",
        "DISCONNECTED",
        "DEACTIVATED",
        "WAITING",
        "DEPLOYING",
    },
    "red": {
        "FAILED",
        "ERROR",
        "LOST",
        "DROPPED",
        "UNREACHABLE",
        "GONE",
        "GONE_BY_OPERATOR",
        "UNKNOWN",
        "UNHEALTHY",
    },
}


def _style(kind: Kind, text: str) -> str:
    if kind != "state" or "NO_COLOR" in os.environ:
        return ""
    state = text.upper().removeprefix("TASK_")
    return next((colour for colour, states in _COLOURS.items() if state in states), "")
