"""Where a command's settings come from: flags, then RUNRIG_* variables, then a TOML file, then defaults.

    [client]                               # for every command that has the option
    master = "h1:5055,h2:5055"
    output = "json"

    [agent]                                # options of `runrig agent`
    work-dir = "/var/lib/runrig/agent"

    [service.run]                          # options of `runrig service run`
    listen = "0.0.0.0:8080"

A variable is named after its option: RUNRIG_MASTER, RUNRIG_SERVICE, RUNRIG_BATCH and RUNRIG_OUTPUT for every
command, others after their command too: RUNRIG_AGENT_WORK_DIR, RUNRIG_SERVICE_RUN_LISTEN.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from runrig.errors import InvalidInput

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_MASTER = "127.0.0.1:5055"
DEFAULT_MASTER_PORT = 5055
DEFAULT_SERVICE = "http://127.0.0.1:8080"
DEFAULT_BATCH = "http://127.0.0.1:8090"
CLIENT = "client"
CLIENT_KEYS = ("master", "service", "batch", "output")


def master_option(function: F) -> F:
    """Add `--master` to a command, as the parameter `master: str`: addresses joined by commas."""
    return click.option(
        "--master",
        envvar="RUNRIG_MASTER",
        default=DEFAULT_MASTER,
        show_default=True,
        metavar="HOST:PORT[,…]",
        help="Masters to ask; the leader is found among them.  [env: RUNRIG_MASTER]",
    )(function)


def service_option(function: F) -> F:
    """Add `--service` to a command, as the parameter `service: str`."""
    return click.option(
        "--service",
        envvar="RUNRIG_SERVICE",
        default=DEFAULT_SERVICE,
        show_default=True,
        metavar="URL",
        help="The service framework to ask.  [env: RUNRIG_SERVICE]",
    )(function)


def batch_option(function: F) -> F:
    """Add `--batch` to a command, as the parameter `batch: str`."""
    return click.option(
        "--batch",
        envvar="RUNRIG_BATCH",
        default=DEFAULT_BATCH,
        show_default=True,
        metavar="URL",
        help="The batch framework to ask.  [env: RUNRIG_BATCH]",
    )(function)


def addresses(field: str, text: str) -> tuple[str, ...]:
    """Read `h1:5055,h2:5055`, the port being 5055 when left out; raise InvalidInput naming `field`."""
    found = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        host, colon, port = part.rpartition(":")
        if not colon or part.endswith("]"):
            host, port = part, str(DEFAULT_MASTER_PORT)
        if not host or "/" in host or not port.isdigit() or not 1 <= int(port) <= 65535:
            raise InvalidInput(field, text, "host:port pairs joined by commas, such as h1:5055,h2:5055")
        found.append(f"{host}:{port}")
    if not found:
        raise InvalidInput(field, text, "at least one host:port")
    return tuple(found)


class Defaults(dict[str, Any]):
    """What a TOML file says for one command: its own table over `[client]`.

    click looks values up in it, and asks `get` of it for what it says for a subcommand.
    """

    def __init__(self, where: str, client: dict[str, Any], table: dict[str, Any]) -> None:
        self._where = where
        self._client = client
        self._own = {_parameter(key): value for key, value in table.items() if not isinstance(value, dict)}
        self._tables = {key: value for key, value in table.items() if isinstance(value, dict)}
        super().__init__({**client, **self._own})

    def get(self, key: str, default: Any = None) -> Any:
        """Return what is said for the subcommand `key`."""
        where = f"{self._where}.{key}" if self._where else key
        return Defaults(where, self._client, self._tables.get(key, {}))

    def check(self, command: click.Command) -> None:
        """Raise InvalidInput for a name in this table that `command` does not have."""
        known = {str(each.name) for each in command.params if isinstance(each, click.Option)}
        if isinstance(command, click.Group):
            known |= set(command.list_commands(click.Context(command)))
        for name in [*self._own, *self._tables]:
            if name not in known:
                allowed = ", ".join(sorted(each.replace("_", "-") for each in known))
                raise InvalidInput(f"[{self._where}] of the configuration", name.replace("_", "-"), allowed)

    def check_tables(self, commands: Callable[[], Sequence[str]]) -> None:
        """Raise InvalidInput for a table that is named after no command, and so would say nothing."""
        known = (CLIENT, *commands()) if self._tables else ()
        for name in self._tables:
            if name not in known:
                raise InvalidInput("table of the configuration", name, ", ".join(known))


def load(path: Path | None) -> Defaults:
    """Read the file that was named, or the user's when there is one; raise InvalidInput."""
    named = path is not None
    path = path or default_path()
    try:
        content = tomllib.loads(path.read_text())
    except FileNotFoundError:
        if named:
            raise InvalidInput("--config", str(path), "a file that exists") from None
        content = {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput("the configuration", str(path), f"a TOML file, but: {error}") from None
    client = content.pop(CLIENT, {})
    if not isinstance(client, dict):
        raise InvalidInput(f"{CLIENT} of {path}", client, "a table: [client]")
    for key in client:
        if key not in CLIENT_KEYS:
            raise InvalidInput(f"[{CLIENT}] of {path}", key, ", ".join(CLIENT_KEYS))
    for key, value in content.items():
        if not isinstance(value, dict):
            raise InvalidInput(f"{path}", key, f"tables only: [{CLIENT}] or one named after a command")
    return Defaults("", client, content)


def default_path() -> Path:
    """Return where the user's file is looked for."""
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "runrig" / "config.toml"


def _parameter(key: str) -> str:
    return key.replace("-", "_")
