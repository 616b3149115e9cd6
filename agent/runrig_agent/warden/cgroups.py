"""Cgroups of tasks: limits, usage, out of memory, and the certainty that nothing of a task is left.

Which controllers can be used is found out by using them, never guessed: a trial group is made, entered and
left. The groups lie below the warden's own, or below the root of the hierarchy when its own cannot be used:
`runrig-NAME/TOKEN`, in one hierarchy for version 2 and in one for each controller for version 1.

A task is born in its groups: the warden steps into them, starts it, and steps out. Moving it in after its start
would let children escape; a shell that moves itself costs more time (measured: 1.3 against 2.0 ms for a launch).
While the warden is inside memory and pids have some more room, or it would be the kernel's first victim.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runrig_agent.warden import processes

V2 = "v2"
CPU_PERIOD_US = 100_000
WARDEN_MEMORY_BYTES = 64 << 20
"""Some times what a warden takes (14 MB measured)."""
_CONTROLLERS = ("memory", "cpu", "pids")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a task may use; 0: no limit."""

    cpu_shares: int = 0
    """Weight against others, 1024 for one cpu."""
    cpu_millis: int = 0
    """Hard cap."""
    memory_bytes: int = 0
    pids: int = 0


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A place for groups: `home` is where the warden lives, `base` where its tasks' groups are."""

    name: str
    home: Path
    base: Path


class Stuck(Exception):
    """The warden cannot get out of a task's cgroup: it must end before it is taken for a part of the task."""


class Cgroups:
    """The groups of one warden's tasks: of each task a dict from the hierarchy's name to a directory."""

    def __init__(self, hierarchies: list[Hierarchy], problems: list[str]) -> None:
        self.problems = problems
        self._hierarchies = {each.name: each for each in hierarchies}

    @property
    def names(self) -> list[str]:
        """List the hierarchies in use: `v2`, or controllers of version 1."""
        return list(self._hierarchies)

    def make(self, token: str, limits: Limits) -> dict[str, str]:
        """Make the groups of a task, with its share and limits that leave room for the warden; raises OSError."""
        groups = {name: str(each.base / token) for name, each in self._hierarchies.items()}
        for directory in groups.values():
            os.mkdir(directory)
        self.share(groups, limits)
        self.limit(groups, _widened(limits))
        return groups

    def share(self, groups: dict[str, str], limits: Limits) -> None:
        """Set a task's part of the cpu; raises OSError."""
        if limits.cpu_shares and "cpu" in groups:
            _write(groups["cpu"], "cpu.shares", max(2, limits.cpu_shares))
        elif limits.cpu_shares and V2 in groups:
            _write(groups[V2], "cpu.weight", _weight(limits.cpu_shares))
        if limits.cpu_millis and "cpu" in groups:
            _write(groups["cpu"], "cpu.cfs_period_us", CPU_PERIOD_US)
            _write(groups["cpu"], "cpu.cfs_quota_us", limits.cpu_millis * CPU_PERIOD_US // 1000)
        elif limits.cpu_millis and V2 in groups:
            _write(groups[V2], "cpu.max", f"{limits.cpu_millis * CPU_PERIOD_US // 1000} {CPU_PERIOD_US}")

    @contextlib.contextmanager
    def inside(self, groups: dict[str, str]) -> Iterator[None]:
        """Be in a task's groups, so that what is started is born there.

        Raises Stuck when there is no way out: a warden in a task's group would be killed with it.
        """
        try:
            for directory in groups.values():
                _write(directory, "cgroup.procs", 0)
            yield
        finally:
            try:
                for name in groups:
                    _write(str(self._hierarchies[name].home), "cgroup.procs", 0)
            except OSError as error:
                raise Stuck(f"the warden cannot leave {groups}: {error}") from error

    def limit(self, groups: dict[str, str], limits: Limits) -> None:
        """Limit memory and pids, exactly so once the warden is out again; raises OSError."""
        if limits.memory_bytes and "memory" in groups:
            _write(groups["memory"], "memory.limit_in_bytes", limits.memory_bytes)
            if os.path.exists(f"{groups['memory']}/memory.memsw.limit_in_bytes"):
                _write(groups["memory"], "memory.memsw.limit_in_bytes", limits.memory_bytes)
        elif limits.memory_bytes and V2 in groups:
            _write(groups[V2], "memory.max", limits.memory_bytes)
            with contextlib.suppress(FileNotFoundError):
                _write(groups[V2], "memory.swap.max", 0)
        pids = groups.get("pids") or groups.get(V2)
        if limits.pids and pids:
            _write(pids, "pids.max", limits.pids)

    def add(self, groups: dict[str, str], pid: int) -> None:
        """Move a process into a task's groups."""
        for directory in groups.values():
            _write(directory, "cgroup.procs", pid)

    def sweep(self, tokens: set[str]) -> None:
        """Remove empty groups of tasks that nobody knows, which a killed warden left."""
        for each in self._hierarchies.values():
            for directory in each.base.iterdir():
                if directory.is_dir() and directory.name not in tokens:
                    with contextlib.suppress(OSError):
                        directory.rmdir()

    def close(self) -> None:
        """Remove the bases when no task has a group any more."""
        for each in self._hierarchies.values():
            with contextlib.suppress(OSError):
                os.rmdir(each.base)


def members(groups: dict[str, str]) -> set[int]:
    """List the living processes of a task that has groups."""
    for directory in groups.values():
        with contextlib.suppress(OSError):
            return set(map(int, Path(directory, "cgroup.procs").read_text().split()))
    return set()


def kill(groups: dict[str, str]) -> None:
    """Send SIGKILL to all of a task that has groups, and let nothing new be born in them."""
    if V2 in groups:
        with contextlib.suppress(OSError):
            _write(groups[V2], "cgroup.kill", 1)
            return
    for pid in members(groups):  # first: a shell that could not fork any more would end with an exit code of its own
        processes.kill(pid)
    if pids := groups.get("pids") or groups.get(V2):
        with contextlib.suppress(OSError):
            _write(pids, "pids.max", 0)
        for pid in members(groups):
            processes.kill(pid)


def remove(groups: dict[str, str]) -> bool:
    """Remove the groups of a task; return whether all are gone, else ask again later."""
    for directory in groups.values():
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass
        except OSError:
            return False
    return True


def was_out_of_memory(groups: dict[str, str]) -> bool:
    """Say whether the kernel killed something in a task's groups because they were out of memory."""
    for name, file in (("memory", "memory.oom_control"), (V2, "memory.events")):
        if name in groups:
            with contextlib.suppress(OSError):
                text = Path(groups[name], file).read_text()
                return any(line.startswith("oom_kill ") and line != "oom_kill 0" for line in text.splitlines())
    return False


def groups_of(pid: int) -> dict[str, str]:
    """Return the groups that a process is in: hierarchy to directory, as far as they can be seen from here."""
    mounts = _mounts()
    groups: dict[str, str] = {}
    for name, path in _paths_of(pid).items():
        if name in mounts and (directory := mounts[name] / path.lstrip("/")).is_dir():
            groups[name] = str(directory)
    return groups


def usage(groups: dict[str, str]) -> tuple[float | None, int | None]:
    """Return the cpu seconds and the bytes of memory that a task has used and uses; None: not known."""
    return _cpu_seconds(groups), _memory_bytes(groups)


def _cpu_seconds(groups: dict[str, str]) -> float | None:
    with contextlib.suppress(OSError, ValueError):
        if accounts := groups.get("cpuacct") or groups.get("cpu"):  # often one hierarchy
            return int(Path(accounts, "cpuacct.usage").read_text()) / 1e9
        if V2 in groups:
            return _field(Path(groups[V2], "cpu.stat"), "usage_usec") / 1e6
    return None


def _memory_bytes(groups: dict[str, str]) -> int | None:
    """Return what is used without the file cache that could be dropped, as kubelet and docker count it."""
    with contextlib.suppress(OSError, ValueError):
        if "memory" in groups:
            used = int(Path(groups["memory"], "memory.usage_in_bytes").read_text())
            return max(0, used - _field(Path(groups["memory"], "memory.stat"), "total_inactive_file"))
        if V2 in groups:
            used = int(Path(groups[V2], "memory.current").read_text())
            return max(0, used - _field(Path(groups[V2], "memory.stat"), "inactive_file"))
    return None


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        if line.startswith(f"{name} "):
            return int(line.split()[1])
    return 0


def detect(name: str, parent: Path | None = None) -> Cgroups:
    """Find out which cgroups can be used, below `parent` (version 2 only) if given.

    `name` tells wardens of one host apart.
    """
    own, mounts = _paths_of(os.getpid()), _mounts()
    problems: list[str] = []
    found = [each for controller in _CONTROLLERS if (each := _detect_v1(controller, name, own, mounts, problems))]
    if not found and (each := _detect_v2(name, parent, own, mounts, problems)):
        found = [each]
    return Cgroups(found, problems)


def _detect_v1(
    controller: str, name: str, own: dict[str, str], mounts: dict[str, Path], problems: list[str]
) -> Hierarchy | None:
    if controller not in mounts or controller not in own:
        return None
    return _first_usable(controller, _candidates(mounts[controller], own[controller]), name, [], problems)


def _detect_v2(
    name: str, parent: Path | None, own: dict[str, str], mounts: dict[str, Path], problems: list[str]
) -> Hierarchy | None:
    if V2 not in mounts or V2 not in own:
        return None
    home, *others = _candidates(mounts[V2], own[V2])
    controllers = [each for each in _CONTROLLERS if each in _words(home / "cgroup.controllers")]
    if not controllers:
        problems.append("v2: no controller of memory, cpu and pids is there")
        return None
    parents = [parent] if parent is not None else [home, *others]
    return _first_usable(V2, parents, name, controllers, problems, home)


def _first_usable(
    hierarchy: str,
    parents: list[Path],
    name: str,
    enable: list[str],
    problems: list[str],
    home: Path | None = None,
) -> Hierarchy | None:
    """Try to make, enter and leave a group below each of `parents` in turn."""
    for parent in parents:
        each = Hierarchy(hierarchy, home or parents[0], parent / f"runrig-{name}")
        try:
            each.base.mkdir(exist_ok=True)
            for directory in (parent, each.base) if enable else ():
                _write(str(directory), "cgroup.subtree_control", " ".join(f"+{one}" for one in enable))
            _try(each)
        except OSError as error:
            problems.append(f"{hierarchy}: {parent}: {error.strerror}")
            with contextlib.suppress(OSError):
                each.base.rmdir()
            continue
        return each
    return None


def _try(hierarchy: Hierarchy) -> None:
    cgroups = Cgroups([hierarchy], [])
    remove({hierarchy.name: str(hierarchy.base / "trial")})
    groups = cgroups.make("trial", Limits(cpu_shares=1024))
    try:
        with cgroups.inside(groups):
            pass
        cgroups.limit(groups, Limits(memory_bytes=1 << 30, pids=1000))
    finally:
        remove(groups)


def _candidates(mount: Path, own: str) -> list[Path]:
    """Return our own group, as far as this mount shows it, and the root of the hierarchy."""
    below = mount / own.lstrip("/")
    return [below, mount] if below != mount and below.is_dir() else [mount]


def _paths_of(pid: int) -> dict[str, str]:
    """Map each controller, and V2, to the path of a process' group in its hierarchy."""
    paths: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(",") if controllers else [V2]:
                paths[controller] = path
    return paths


def _mounts() -> dict[str, Path]:
    """Map each controller, and V2, to where its hierarchy is mounted."""
    mounts: dict[str, Path] = {}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, directory, kind, options, *_ = line.split()
        if kind == "cgroup2":
            mounts.setdefault(V2, Path(directory))
        elif kind == "cgroup":
            for option in options.split(","):
                mounts.setdefault(option, Path(directory))
    return mounts


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


def _widened(limits: Limits) -> Limits:
    """Return limits under which the warden can be inside: it counts, and must never be the largest process."""
    return replace(
        limits,
        memory_bytes=limits.memory_bytes and limits.memory_bytes + WARDEN_MEMORY_BYTES,
        pids=limits.pids and limits.pids + 1,
    )


def _weight(shares: int) -> int:
    """Convert shares of version 1 (2 to 262144) to a weight of version 2 (1 to 10000), as runc does."""
    return 1 + (min(max(shares, 2), 262_144) - 2) * 9999 // 262_142


def _write(directory: str, file: str, value: Any) -> None:
    """Write a control file, in one write and without making it."""
    fd = os.open(f"{directory}/{file}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(value).encode())
    finally:
        os.close(fd)
