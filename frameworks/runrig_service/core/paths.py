"""Ids of apps are paths, `/shop/web`; ids of their instances are `shop_web.instance-<digest>-<number>`.

The number comes from one durable counter, so that no id is given twice, even to an app that was deleted and
made again; the digest of app and version only keeps ids of stores that were lost and begun anew apart.
"""

from __future__ import annotations

import re
from hashlib import blake2b

from runrig.ids import TaskId

MAX_PATH_LENGTH = 200
"""Leaves room for the rest of the task's id, which has at most 255 characters (rule 4)."""

RESERVED_NAMES = ("restart", "tasks", "versions")
"""Last parts of addresses such as `/v2/apps/shop/web/tasks`: an app of that name could not be reached."""

_PART = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*\Z")


def canonical(path: str) -> str:
    """Return `/shop/web` for `shop/web`, `//shop/web/` and the like."""
    return "/" + "/".join(part for part in path.split("/") if part)


def path_problem(path: str) -> str | None:
    """Say what the id of an app must be when `path`, which is canonical, is none, else None."""
    if path == "/" or len(path) > MAX_PATH_LENGTH:
        return f"must be a path of 1 to {MAX_PATH_LENGTH} characters, such as /shop/web"
    parts = path[1:].split("/")
    if not all(_PART.match(part) for part in parts):
        return "must have parts of small letters, digits, `-` and `.`, not at an end of it"
    if parts[-1] in RESERVED_NAMES:
        return f"must not end with any of the following reserved keywords: {', '.join(RESERVED_NAMES)}"
    return None


def instance_id(app_id: str, version: str, number: int) -> TaskId:
    """Return the id of the `number`-th instance that this framework ever made."""
    digest = blake2b(f"{app_id} {version}".encode(), digest_size=4).hexdigest()
    return TaskId(f"{app_id[1:].replace('/', '_')}.instance-{digest}-{number}")


def deployment_id(app_id: str, version: str) -> str:
    """Return the id of the change that brought `version` about, in the form of a UUID."""
    digest = blake2b(f"deployment {app_id} {version}".encode(), digest_size=16).hexdigest()
    return "-".join((digest[:8], digest[8:12], digest[12:16], digest[16:20], digest[20:]))
