"""Quotas as people write them: cpus:10;mem:64G;disk:1T;gpus:2."""

from __future__ import annotations

from collections.abc import Callable

from runrig.cli.views import Amounts
from runrig.errors import InvalidInput
from runrig.resources import parse_count, parse_cpus, parse_mib

FORM = "cpus:10;mem:64G"
NONE = "none"

_DIMENSIONS: dict[str, tuple[str, Callable[[str, str], int]]] = {
    "cpus": ("cpu_millis", parse_cpus),
    "mem": ("mem_mib", parse_mib),
    "disk": ("disk_mib", parse_mib),
    "gpus": ("gpus", parse_count),
}


def parse_quota(field: str, text: str) -> Amounts | None:
    """Read a quota; `none` is None. What is not named does not count; raise InvalidInput naming `field`.

    Example:
        >>> parse_quota("--limit", "cpus:1.5;gpus:0")
        (('cpu_millis', 1500), ('gpus', 0))
    """
    if text.strip() == NONE:
        return None
    amounts: dict[str, int] = {}
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        name, separator, value = (piece.strip() for piece in part.partition(":"))
        if not separator or name not in _DIMENSIONS:
            raise InvalidInput(field, part, f"cpus, mem, disk and gpus, such as {FORM}, or {NONE}")
        key, parse = _DIMENSIONS[name]
        if key in amounts:
            raise InvalidInput(field, part, f"each resource once, but {name} is given twice")
        amounts[key] = parse(f"{field} {name}", value)
    if not amounts:
        raise InvalidInput(field, text, f"cpus, mem, disk and gpus, such as {FORM}, or {NONE}")
    return tuple(amounts.items())
