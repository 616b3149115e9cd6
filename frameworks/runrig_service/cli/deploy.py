"""`runrig service deploy`."""

from __future__ import annotations

import json
import math
from typing import IO, Any

import click

from runrig.cli.output import Form, hint, output_option, print_list
from runrig.cli.settings import service_option
from runrig.errors import InvalidInput
from runrig_service.cli.client import App, ServiceClient
from runrig_service.cli.options import APPS, wait_options
from runrig_service.cli.waiting import Waiting, until_complete
from runrig_service.core.paths import canonical


@click.command()
@click.argument("file", type=click.File("rb"))
@service_option
@wait_options
@output_option
def deploy(file: IO[bytes], service: str, wait: bool, timeout: float, output: Form) -> None:
    """Create the app that FILE describes, or change it into that: JSON, as of Marathon v2; `-` reads stdin.

    FILE holds one app or a list of apps, which are changed all or none. What a file does not say has its default, not
    what it had before. To deploy the same again changes nothing. A change of anything but `instances` replaces the
    app's instances, as few at a time as its upgradeStrategy says.

    \b
    Example:
        echo '{"id": "web", "cmd": "python3 -m http.server $PORT", "cpus": 0.1, "mem": 32}' |
            runrig service deploy - --wait
    """  # noqa: D301  (click wants a real backspace)
    apps = read_apps(file.read(), getattr(file, "name", "stdin"))
    ids = [canonical(app["id"]) for app in apps]
    with ServiceClient(service) as client:
        client.deploy(apps)
        if wait:
            until_complete(client, ids, Waiting(timeout))
        deployed = [client.app(app_id) for app_id in ids]
    print_list(deployed, APPS, output)
    if not wait:
        hint("the change goes on; --wait waits for it, `runrig service ls` looks")


def read_apps(content: bytes, name: str) -> list[App]:
    """Return the apps that a file holds; raise InvalidInput naming the file."""
    try:
        value: Any = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(name, content[:40].decode(errors="replace"), f"JSON, but: {error}") from None
    if (endless := _endless(value)) is not None:
        raise InvalidInput(name + endless[0], endless[1], "a number that JSON can say")
    apps = value if isinstance(value, list) else [value]
    for app in apps:
        if not isinstance(app, dict) or not isinstance(app.get("id"), str) or not app["id"]:
            raise InvalidInput(name, app, 'an app with an "id", such as {"id": "web", "cmd": "…"}, or a list of those')
    if not apps:
        raise InvalidInput(name, apps, "one app at least")
    return apps


def _endless(value: Any, path: str = "") -> tuple[str, float] | None:
    """Return the first number, with its path, that Python reads but JSON has not: NaN, or beyond all bounds."""
    if isinstance(value, float):
        return None if math.isfinite(value) else (path, value)
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = (_endless(each, f"{path}({key})" if isinstance(key, int) else f"{path}/{key}") for key, each in items)
    return next(filter(None, found), None)
