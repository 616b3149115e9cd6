"""What a turn of the master makes durable: the records of all its commands, in one commit."""

from __future__ import annotations

from collections.abc import Iterable

from runrig_master.core.commands import Command, Forget, Persist
from runrig_master.records_grpc import entry, key_of


def writes(commands: Iterable[Command]) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """Return the entries to put and the keys to delete: of several words on one key the last counts."""
    puts: dict[str, bytes] = {}
    deletes: dict[str, None] = {}
    for command in commands:
        if not isinstance(command, Persist):
            continue
        for record in command.records:
            if isinstance(record, Forget):
                key = key_of(record)
                puts.pop(key, None)
                deletes[key] = None
            else:
                key, value = entry(record)
                deletes.pop(key, None)
                puts[key] = value
    return puts, tuple(deletes)
