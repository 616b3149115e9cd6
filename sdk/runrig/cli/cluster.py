"""A cluster on this machine: its parts, and the file that tells how to start each of them by hand.

DIR/cluster.json     what runs: {"state", "supervisor", "master", "service", "batch", "parts": [...]}
DIR/logs/NAME.log    what each part says
DIR/master           the master's store
DIR/agents/NAME      an agent's checkpoints and sandboxes
DIR/service, batch   the frameworks' stores
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from runrig.cli.processes import runs
from runrig.errors import Conflict, InvalidInput

Kind = Literal["master", "agent", "service", "batch"]
State = Literal["starting", "ready", "stopping", "stopped"]


@dataclass(frozen=True, slots=True)
class Part:
    """One process of a cluster: `command` with `env` over the caller's environment starts it."""

    name: str
    kind: Kind
    command: tuple[str, ...]
    env: tuple[tuple[str, str], ...] = ()
    grpc: str = ""
    """host:port"""
    http: str = ""
    """http://host:port"""
    ready: str = ""
    """The URL that answers once it is ready; empty: nothing to wait for."""
    process: tuple[str, ...] = ()
    """The command line of the process that counts, where `command` reaches into a container; empty: `command`."""

    @property
    def runs_as(self) -> tuple[str, ...]:
        """The command line by which its process is known; this machine sees into its containers."""
        return self.process or self.command

    def as_json(self, pid: int | None) -> dict[str, Any]:
        """Return its entry in cluster.json; `pid` is None while it is dead."""
        return {
            "name": self.name,
            "kind": self.kind,
            "pid": pid,
            "command": list(self.command),
            "env": dict(self.env),
            "grpc": self.grpc or None,
            "http": self.http or None,
            "ready": self.ready or None,
            "process": list(self.process) or None,
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> tuple[Part, int | None]:
        """Read an entry: the part and its pid; raise KeyError, TypeError or ValueError when it is none."""
        if entry["kind"] not in get_args(Kind):
            raise ValueError(entry["kind"])
        part = cls(
            str(entry["name"]),
            entry["kind"],
            tuple(map(str, entry["command"])),
            tuple((str(name), str(value)) for name, value in entry["env"].items()),
            entry["grpc"] or "",
            entry["http"] or "",
            entry.get("ready") or "",
            tuple(map(str, entry.get("process") or ())),
        )
        return part, None if entry["pid"] is None else int(entry["pid"])


@dataclass(frozen=True, slots=True)
class ClusterFile:
    """DIR/cluster.json."""

    directory: Path
    choices: Mapping[str, object] = field(default_factory=dict)
    """What the user chose: the same choices find the same plan again."""

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.directory / "cluster.json"

    def write(self, state: State, parts: Sequence[Part], pids: Mapping[str, int | None]) -> None:
        """Replace it, so that no reader ever sees half of it."""
        content = {
            "state": state,
            "supervisor": os.getpid(),
            "choices": dict(self.choices),
            **{kind: address_of(parts, kind) or None for kind in ("master", "service", "batch")},
            "parts": [part.as_json(pids.get(part.name)) for part in parts],
        }
        new = self.path.with_name(f"{self.path.name}.new")
        new.write_text(json.dumps(content, indent=2) + "\n")
        new.replace(self.path)

    def read(self) -> list[tuple[Part, int | None]]:
        """Return the parts and their pids as last written; [] when there is no file; raise InvalidInput."""
        content = self._content()
        if content is None:
            return []
        try:
            return [Part.from_json(entry) for entry in content["parts"]]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidInput(
                "--data-dir", str(self.path), f"what `runrig dev` wrote; {error!r}: delete it if no part runs"
            ) from None

    def planned_before(self) -> list[Part]:
        """Return the parts of the last cluster that was planned with the same choices; [] when it was not."""
        content = self._content()
        is_same = isinstance(content, dict) and content.get("choices") == dict(self.choices)
        return [part for part, _ in self.read()] if is_same else []

    def _content(self) -> Any:
        try:
            return json.loads(self.path.read_text())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise InvalidInput("--data-dir", str(self.path), f"JSON, but: {error}") from None

    def survivors(self) -> dict[str, int]:
        """Return the parts that still run, with their pids."""
        return {part.name: pid for part, pid in self.read() if pid is not None and runs(pid, part.runs_as)}


def address_of(parts: Sequence[Part], kind: str) -> str:
    """Return what clients name with --master, --service or --batch."""
    found = next((part for part in parts if part.kind == kind), None)
    if found is None:
        return ""
    return found.grpc if kind == "master" else found.http


@contextmanager
def only_supervisor(directory: Path) -> Iterator[None]:
    """Hold the directory for this process; raise Conflict, naming the pid, when another holds it."""
    with (directory / "dev.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            pid = lock.read().strip() or "unknown"
            raise Conflict(
                f"`runrig dev` (pid {pid}) runs the cluster in {directory}; "
                f"end it first (kill {pid}), or use another --data-dir"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
