"""What the framework refuses, in the words that Marathon's clients know.

InvalidInput
└── InvalidApp      fields of an app have values that are not allowed; it lists them all
NotFound
└── Missing         no such app, version or task
Conflict
└── AppExists       the app to be created is there already
"""

from __future__ import annotations

from collections.abc import Mapping

from runrig.errors import Conflict, InvalidInput, NotFound


class InvalidApp(InvalidInput):
    """`problems` maps the path of each wrong field, such as `/container/docker/image`, to what is wrong."""

    def __init__(self, problems: Mapping[str, tuple[str, ...]]) -> None:
        path = next(iter(problems))
        super().__init__(path, None, "; ".join(problems[path]))
        self.args = ("; ".join(f"{path}: {' and '.join(errors)}" for path, errors in problems.items()),)
        self.problems = dict(problems)


class Missing(NotFound):
    """There is no such thing; `message` says it as Marathon does."""

    def __init__(self, kind: str, name: str, message: str = "") -> None:
        super().__init__(kind, name)
        self.args = (message or f"{kind.capitalize()} '{name}' does not exist",)


class AppExists(Conflict):
    """The app to be created is there already."""

    def __init__(self, app_id: str) -> None:
        super().__init__(f"An app with id [{app_id}] already exists.")
        self.app_id = app_id
