"""Whose a sandbox is: the user that the task runs as."""

from __future__ import annotations

import errno
import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path

from runrig.tasks import Reason, RuntimeKind
from runrig_agent.runtime import LaunchFailed
from runrig_agent.sandbox_paths import Owner


def owner_for(user: str, runtime: RuntimeKind) -> Owner | None:
    """Return whom the sandbox of a task run as `user` belongs to; empty: the agent's own user.

    None: a name that only the image knows; whoever the container runs as must then be able to write to the
    sandbox. Raises LaunchFailed(USER_UNKNOWN).
    """
    name, separator, group = user.partition(":")
    if not user:
        return Owner(os.geteuid(), os.getegid())
    if runtime is RuntimeKind.DOCKER and not (name.isdecimal() or name == "root"):
        return None
    try:
        account = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name)
        owner = Owner(account.pw_uid, account.pw_gid)
    except (KeyError, OverflowError):
        if not _is_id(name):
            raise _unknown(user, f"there is no user {name!r} on this agent; name one that it has, or a uid") from None
        owner = Owner(int(name), int(name))
    if separator and runtime is not RuntimeKind.DOCKER:
        owner = Owner(owner.uid, _group(user, group))
    if os.geteuid() != 0 and owner.uid != os.geteuid():
        raise _unknown(user, f"this agent runs as uid {os.geteuid()} and cannot become another; run it as root")
    return owner


def make_private(path: Path, owner: Owner | None, before: Callable[[], None]) -> None:
    """Make the directory `path`, or find it made, for `owner` only; `before` runs once its parent is there.

    Raises LaunchFailed: DISK_FULL, START_FAILED.
    """
    try:
        path.parent.mkdir(mode=0o711, parents=True, exist_ok=True)
        before()
        path.mkdir(mode=0o700, exist_ok=True)
        if owner is None:
            path.chmod(0o777)
        elif os.geteuid() == 0:
            os.chown(path, owner.uid, owner.gid, follow_symlinks=False)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise LaunchFailed(
            Reason.DISK_FULL if full else Reason.START_FAILED,
            f"the sandbox cannot be made: {error.strerror} ({error.filename}); "
            + ("free disk or inodes on the agent" if full else "check the agent's work directory"),
        ) from error


def give_away(folder: Path, owner: Owner) -> None:
    """Make all in `folder` the owner's unless it is; links themselves, never what they point to. Blocks.

    Raises LaunchFailed(START_FAILED).
    """
    try:
        if os.geteuid() != 0 or folder.stat().st_uid == owner.uid:
            return
        for below, folders, files in os.walk(folder):
            for name in (*folders, *files):
                os.chown(os.path.join(below, name), owner.uid, owner.gid, follow_symlinks=False)
        os.chown(folder, owner.uid, owner.gid)
    except OSError as error:
        message = f"{folder} cannot be given to uid {owner.uid}: {error}"
        raise LaunchFailed(Reason.START_FAILED, message) from error


def _group(user: str, group: str) -> int:
    try:
        return int(group) if _is_id(group) else grp.getgrnam(group).gr_gid
    except KeyError:
        raise _unknown(user, f"there is no group {group!r} on this agent; name one that it has, or a gid") from None


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) < 2**32 - 1


def _unknown(user: str, why: str) -> LaunchFailed:
    return LaunchFailed(Reason.USER_UNKNOWN, f"command.user {user!r}: {why}, or leave it empty", is_task_fault=True)
