"""What Linux tells of processes: who they are, who is below them, and how they end."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import struct
from pathlib import Path

from runrig_agent.warden import TOKEN_VARIABLE

_ENDED = ("Z", "X")
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38

# linux/pidfd.h: PIDFD_GET_INFO with the first, 64 bytes long, version of struct pidfd_info.
_PIDFD_INFO = struct.Struct("=QQ11Ii")
_PIDFD_GET_INFO = (3 << 30) | (_PIDFD_INFO.size << 16) | (0xFF << 8) | 11
_PIDFD_INFO_EXIT = 1 << 3


def boot_id() -> str:
    """Return the name of this boot of the host: pids mean nothing beyond it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def become_subreaper() -> None:
    """Make orphans below this process its children, so that they are found and reaped."""
    _prctl(_PR_SET_CHILD_SUBREAPER)


def renounce_new_privileges() -> None:
    """Keep this process and all below it from gaining privileges by exec, as of setuid programs."""
    _prctl(_PR_SET_NO_NEW_PRIVS)


def start_ticks(pid: int) -> int | None:
    """Return when the process started, in clock ticks since boot; None when there is none."""
    words = _stat(pid)
    return None if words is None else int(words[19])


def is_zombie(pid: int) -> bool:
    """Say whether the process has ended and waits to be reaped by its parent."""
    words = _stat(pid)
    return words is not None and words[0] in _ENDED


def open_running(pid: int, ticks: int) -> int | None:
    """Return a pidfd of the process if it is still the one that started at `ticks`, and runs."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return None
    if start_ticks(pid) == ticks and not is_zombie(pid):
        return pidfd
    os.close(pidfd)
    return None


def exit_code_by_pidfd(pidfd: int) -> int | None:
    """Return how the process behind `pidfd` ended, though it is no child of ours: kernels since 6.15 know."""
    buffer = bytearray(_PIDFD_INFO.pack(_PIDFD_INFO_EXIT, *[0] * 13))
    try:
        fcntl.ioctl(pidfd, _PIDFD_GET_INFO, buffer)
    except OSError:
        return None
    fields = _PIDFD_INFO.unpack(buffer)
    return exit_code_of(fields[-1]) if fields[0] & _PIDFD_INFO_EXIT else None


def exit_code_of(status: int) -> int:
    """Return a wait status as shells do: 128 + n after signal n."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def children(pid: int) -> list[int]:
    """List the living children of a process; empty also where the kernel keeps no such list."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    return found


def descendants(pid: int) -> list[int]:
    """List the process and all below it, parents first."""
    found = [pid]
    for each in found:
        found += children(each)
    return found


def usage(pid: int) -> tuple[float | None, int | None]:
    """Return the cpu seconds and resident bytes of a process and those below it; None: it is gone."""
    ticks = pages = 0
    found = [words for each in descendants(pid) if (words := _stat(each)) is not None]
    for words in found:
        ticks += sum(map(int, words[11:15]))  # own and waited-for children's, user and system
        pages += int(words[21])
    if not found:
        return None, None
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE")


def members(pid: int, token: str) -> set[int]:
    """Find all processes of a task without cgroups; takes some 20 us for each process of the host.

    They are in the group or session of its first process, carry its token in their environment, or descend
    from such.
    """
    parents: dict[int, int] = {}
    found: set[int] = set()
    for name in os.listdir("/proc"):
        if not name.isdigit() or (words := _stat(int(name))) is None or words[0] in _ENDED:
            continue
        each = int(name)
        parents[each] = int(words[1])
        if (pid and pid in (each, int(words[2]), int(words[3]))) or token_of(each) == token:
            found.add(each)
    return _with_descendants(found, parents)


def first_of(pids: set[int]) -> int | None:
    """Return the process that started before all others of a task: the one that the warden started."""
    started = [(ticks, pid) for pid in pids if (ticks := start_ticks(pid)) is not None]
    return min(started)[1] if started else None


def token_of(pid: int) -> str:
    """Return the token in the environment of a process; empty when it has none or is not ours to read."""
    prefix = f"{TOKEN_VARIABLE}=".encode()
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if line.startswith(prefix):
                return line[len(prefix) :].decode(errors="replace")
    return ""


def environment_of(pid: int) -> dict[str, str]:
    """Return the environment that a process was started with, or nothing when it is gone."""
    pairs: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            name, equals, value = line.partition(b"=")
            if equals:
                pairs[os.fsdecode(name)] = os.fsdecode(value)
    return pairs


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal; that the process is gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)


def kill_group(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process group; that it is gone is no error."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _with_descendants(found: set[int], parents: dict[int, int]) -> set[int]:
    while more := {pid for pid, parent in parents.items() if parent in found and pid not in found}:
        found |= more
    return found


def _stat(pid: int) -> list[str] | None:
    """Return the words of /proc/PID/stat that follow the name: state, parent, group, session, ..."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def _prctl(option: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, 1, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
