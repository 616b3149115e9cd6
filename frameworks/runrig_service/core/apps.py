"""The apps and their versions, and which entries keep them.

`app/shop/web` points to a version, `version/shop/web/<instant>` holds one: a change of scale of a large
app, and the note that a change is complete, cost a small entry.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from runrig.wants import Delete, Put
from runrig_service.core.app import App, Definition
from runrig_service.core.app_json import read_stored_app
from runrig_service.core.app_render import render_app
from runrig_service.core.limits import Policy
from runrig_service.core.times import instant_of, text_of

Changes = list[Put | Delete]


class Apps:
    """All apps by id; each method that changes something returns what must be made durable."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._definitions: dict[str, Definition] = {}
        self._versions: dict[str, dict[int, App]] = {}

    def restore(self, pointers: Mapping[str, bytes], versions: Mapping[str, bytes]) -> None:
        """Take up the entries, by what follows `app` and `version` in their keys."""
        for key, value in sorted(versions.items()):
            app_id, _, version = key.rpartition("/")
            version_ms = instant_of(version)
            assert version_ms is not None, f"the entry version{key} bears no instant"
            app = read_stored_app(json.loads(value))
            self._versions.setdefault(app_id, {})[version_ms] = app
        for app_id, value in sorted(pointers.items()):
            record = json.loads(value)
            self._definitions[app_id] = Definition(
                app=self._versions[app_id][record["version"]],
                version_ms=record["version"],
                scaled_ms=record["scaled"],
                configured_ms=record["configured"],
                change=record["change"],
            )

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._definitions)

    def __iter__(self) -> Iterator[Definition]:
        """Yield the apps, by id."""
        for app_id in sorted(self._definitions):
            yield self._definitions[app_id]

    def find(self, app_id: str) -> Definition | None:
        """Return an app, or None."""
        return self._definitions.get(app_id)

    def version(self, app_id: str, version_ms: int) -> App | None:
        """Return what an app was at a version, or None."""
        return self._versions.get(app_id, {}).get(version_ms)

    def versions(self, app_id: str) -> list[int]:
        """Return the versions of an app that are kept, newest first."""
        return sorted(self._versions.get(app_id, {}), reverse=True)

    def service_ports(self) -> set[int]:
        """Return the service ports that are taken."""
        return {port.service_port for each in self._definitions.values() for port in each.app.ports}

    def neighbour(self, app_id: str) -> str | None:
        """Return an app that `app_id` would lie within, or that would lie within it: neither may be."""
        for other in self._definitions:
            if other.startswith(f"{app_id}/") or app_id.startswith(f"{other}/"):
                return other
        return None

    def put(self, definition: Definition, in_use: Collection[int]) -> Changes:
        """Take up a new version; forget the oldest ones, but none that instances still have."""
        app_id = definition.app.app_id
        self._definitions[app_id] = definition
        versions = self._versions.setdefault(app_id, {})
        versions[definition.version_ms] = definition.app
        spec = json.dumps(render_app(definition.app)).encode()
        forgotten = [
            each
            for each in self.versions(app_id)[self._policy.versions_kept :]
            if each != definition.version_ms and each not in in_use
        ]
        for each in forgotten:
            del versions[each]
        return [
            Put(_version_key(app_id, definition.version_ms), spec),
            _pointer(definition),
            *(Delete(_version_key(app_id, each)) for each in forgotten),
        ]

    def complete(self, app_id: str) -> Changes:
        """Note that the last change of an app is complete."""
        definition = replace(self._definitions[app_id], change="")
        self._definitions[app_id] = definition
        return [_pointer(definition)]

    def remove(self, app_id: str) -> Changes:
        """Forget an app with all its versions."""
        del self._definitions[app_id]
        versions = self._versions.pop(app_id)
        return [Delete(f"app{app_id}"), *(Delete(_version_key(app_id, each)) for each in sorted(versions))]


def _version_key(app_id: str, version_ms: int) -> str:
    return f"version{app_id}/{text_of(version_ms)}"


def _pointer(definition: Definition) -> Put:
    record = {
        "version": definition.version_ms,
        "scaled": definition.scaled_ms,
        "configured": definition.configured_ms,
        "change": definition.change,
    }
    return Put(f"app{definition.app.app_id}", json.dumps(record).encode())
