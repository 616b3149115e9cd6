"""One small file beside each sandbox: whose it is, which runtime ran the task, when it ended."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from runrig.ids import FrameworkId, TaskId
from runrig.tasks import RuntimeKind
from runrig_agent.runtime import TaskKey
from runrig_agent.sandbox_paths import safe_name


@dataclass(slots=True)
class Record:
    """What is remembered of one sandbox."""

    key: TaskKey
    runtime: RuntimeKind
    ended_at_unix_ms: int | None = None
    is_forgotten: bool = False
    """Its runtime keeps nothing of it any more."""
    is_removed: bool = False
    """The sandbox is gone; not written down, for the disk says so itself."""


def write_record(root: Path, record: Record) -> None:
    """Write a record, whole or not at all; not synced."""
    path = _path(root, record.key)
    path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
    content = {
        "framework_id": record.key[0],
        "task_id": record.key[1],
        "runtime": record.runtime.name,
        "ended_at_unix_ms": record.ended_at_unix_ms,
        "is_forgotten": record.is_forgotten,
    }
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(content))
    os.replace(draft, path)


def remove_record(root: Path, key: TaskKey) -> None:
    """Remove a record, and its framework's directory with the last one."""
    path = _path(root, key)
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: other tasks of the framework
        path.parent.rmdir()


def read_records(root: Path) -> list[Record]:
    """Read all records; of a sandbox without one, or with a torn one, the names on disk tell whose it was."""
    return list(_read_all(root))


def _read_all(root: Path) -> Iterator[Record]:
    for framework in root.iterdir():
        if framework.name.startswith(".") or not framework.is_dir():
            continue
        names = set(os.listdir(framework))
        tasks = {name for name in names if not name.startswith(".")}
        recorded = {name[1:-5] for name in names if name.startswith(".") and name.endswith(".json")}
        for task in sorted(tasks | recorded):
            record = _read(framework / f".{task}.json") or _guessed(framework.name, task)
            record.is_removed = task not in tasks
            yield record


def _read(path: Path) -> Record | None:
    try:
        content = json.loads(path.read_text())
        key = FrameworkId(content["framework_id"]), TaskId(content["task_id"])
        return Record(key, RuntimeKind[content["runtime"]], content["ended_at_unix_ms"], content["is_forgotten"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _guessed(framework: str, task: str) -> Record:
    key = FrameworkId(unquote(framework)), TaskId(unquote(task))
    return Record(key, RuntimeKind.PROCESS, is_forgotten=True)


def _path(root: Path, key: TaskKey) -> Path:
    framework_id, task_id = key
    return root / safe_name(framework_id) / f".{safe_name(task_id)}.json"
