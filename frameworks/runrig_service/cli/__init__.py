"""`runrig service`: the framework's process, and what people do with apps."""

from __future__ import annotations

import click

from runrig_service.cli.apps import list_apps, remove, restart, scale, show
from runrig_service.cli.deploy import deploy
from runrig_service.cli.run import run


@click.group()
def service() -> None:
    """Apps that run for ever: instances are kept running, replaced and rolled over.

    \b
    runrig service run --master 127.0.0.1:5055 --data-dir DIR    the framework itself
    runrig service deploy web.json --wait                        create or change an app
    runrig service ls                                            what there is, and how it is
    runrig service scale web 5 --wait                            more of it, or less
    runrig service restart web                                   replace all instances, a few at a time
    runrig service rm web                                        stop it and forget it

    The smallest app: {"id": "web", "cmd": "python3 -m http.server $PORT"}. The fields, and the REST API, are
    those of Marathon v2. Exit codes are those of `runrig --help`; with --wait it is 124 when the app is not
    complete in time.
    """  # noqa: D301  (click wants a real backspace)


for _command in (run, deploy, list_apps, show, scale, restart, remove):
    service.add_command(_command)
