"""Become the warden of a directory: `python -I -m runrig_agent.warden DIRECTORY`.

The command returns when the warden listens, or another one does already: 0. It prints why it cannot on
stderr: 1.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import resource
import socket
import sys
import traceback
from pathlib import Path

from runrig_agent.warden import cgroups, processes
from runrig_agent.warden.server import Server

_MAX_LOG_BYTES = 1 << 20


def main(argv: list[str] | None = None) -> int:
    """Start the warden; return the exit status of the command that starts it."""
    options = _arguments().parse_args(argv)
    directory: Path = options.directory.resolve()
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _take_lock(directory):
            return 0
        os.chdir(directory)  # so that the socket's name is short: the kernel allows 107 bytes
        listener = _listen()
        for name, value in options.rlimit:
            _limit(name, value)
    except OSError as error:
        sys.stderr.write(f"the warden cannot start in {directory}: {error}\n")
        return 1
    if os.fork() == 0:
        _serve(directory, listener, options)
    return 0


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="runrig_agent.warden", description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--idle-s", type=float, default=60.0, help="end when alone and without tasks for so long")
    parser.add_argument("--no-cgroups", action="store_true", help="do not use cgroups even where they work")
    parser.add_argument("--cgroup-parent", type=Path, help="a delegated directory of cgroup version 2")
    parser.add_argument("--allow-new-privileges", action="store_true", help="let tasks run setuid programs")
    parser.add_argument("--rlimit", type=_rlimit, action="append", default=[], help="such as core=0 or nofile=65536")
    return parser


def _rlimit(text: str) -> tuple[int, int]:
    name, _, value = text.partition("=")
    return getattr(resource, f"RLIMIT_{name.upper()}"), int(value)


def _limit(name: int, value: int) -> None:
    _, hard = resource.getrlimit(name)
    is_allowed = hard == resource.RLIM_INFINITY or value <= hard
    with contextlib.suppress(ValueError):  # raising the hard limit needs a right that we may not have
        resource.setrlimit(name, (value, hard if is_allowed and os.geteuid() != 0 else value))


def _take_lock(directory: Path) -> bool:
    """Take the lock for as long as this process, or the one it becomes, lives; the file says who has it."""
    fd = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _listen() -> socket.socket:
    with contextlib.suppress(FileNotFoundError):
        os.unlink("socket")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.setblocking(False)
    before = os.umask(0o177)
    try:
        listener.bind("socket")
    finally:
        os.umask(before)
    listener.listen(64)
    return listener


def _serve(directory: Path, listener: socket.socket, options: argparse.Namespace) -> None:
    """Be the warden, detached from whoever started it; never returns."""
    code = 1
    try:
        os.setsid()
        _redirect(directory)
        (directory / "lock").write_text(f"{os.getpid()}\n")
        processes.become_subreaper()
        if not options.allow_new_privileges:
            processes.renounce_new_privileges()
        name = hashlib.sha256(str(directory).encode()).hexdigest()[:12]
        groups = cgroups.Cgroups([], []) if options.no_cgroups else cgroups.detect(name, options.cgroup_parent)
        Server(directory, listener, groups, options.idle_s).run()
        code = 0
    except BaseException:  # whatever it is, it belongs into the log; tasks live on without us
        traceback.print_exc()
        raise
    finally:
        sys.stderr.flush()
        os._exit(code)


def _redirect(directory: Path) -> None:
    """Give up the starter's files; what is said goes to the log, which is begun anew when it has grown."""
    log = directory / "log"
    fresh = os.O_TRUNC if log.exists() and log.stat().st_size > _MAX_LOG_BYTES else 0
    with open(os.devnull, "r+b") as null:
        os.dup2(null.fileno(), 0)
        os.dup2(null.fileno(), 1)
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | fresh, 0o600)
    os.dup2(fd, 2)
    os.close(fd)


if __name__ == "__main__":
    sys.exit(main())
