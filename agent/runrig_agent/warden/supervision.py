"""Starting tasks, watching them end, and leaving nothing of them behind: rules 1 to 4 of the warden."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from runrig_agent.sandbox_logs import STREAMS, open_log, rotate_by_copy
from runrig_agent.warden import TOKEN_VARIABLE, cgroups, processes
from runrig_agent.warden.cgroups import Cgroups, Limits
from runrig_agent.warden.journal import End, Journal, Key, Record
from runrig_agent.warden.spawning import UNKNOWN, Failure, failure, spawn

KILL_PATIENCE_S = 10.0
"""How long an end waits for processes of the task that do not die, such as those stuck in reading a disk."""

_MAYBE_STARTED = "whether it ran is not known: the warden was killed while it started it"
_ALL_CHILDREN = os.WEXITED | os.WNOHANG | os.WNOWAIT


@dataclass(slots=True)
class Launch:
    """What an agent asks to start."""

    key: Key
    argv: list[str]
    env: dict[str, str]
    record: Record
    limits: Limits


@dataclass(slots=True)
class Ending:
    """A task whose first process has ended, while others of it may be dying."""

    record: Record
    code: int | None
    patience_until: float
    pidfd: int | None = None
    was_child: bool = False


class Supervision:
    """All tasks of one warden. `tell` is given each record that has ended, once the journal has it."""

    def __init__(
        self,
        journal: Journal,
        groups: Cgroups,
        tell: Callable[[Record], None],
        watch: Callable[[int, Callable[[], None]], None],
    ) -> None:
        self.boot_id = processes.boot_id()
        self._journal = journal
        self._groups = groups
        self._tell = tell
        self._watch = watch
        self._null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._children: dict[int, Record] = {}
        self._others: dict[int, Callable[[int], None]] = {}  # what was executed in tasks: pid to who is told its exit
        self._endings: list[Ending] = []
        self._old_groups: list[dict[str, str]] = []
        self._forget_at_end: set[Key] = set()
        self._over_limit: set[Key] = set()

    @property
    def records(self) -> dict[Key, Record]:
        """All tasks that nobody asked to forget."""
        return self._journal.records

    @property
    def is_idle(self) -> bool:
        """Say whether nothing runs."""
        return all(record.end is not None for record in self.records.values())

    @property
    def is_restless(self) -> bool:
        """Say whether something is about to end, so that `tick` should be called soon."""
        return bool(self._endings)

    # --- starting -----------------------------------------------------------------------------------------

    def launch(self, launch: Launch) -> Record:
        """Start a task, or return what is known of it when it was started before; raises Failure."""
        known = self.records.get(launch.key)
        if known is not None:
            return known
        record = launch.record
        try:
            record.cgroups = self._groups.make(record.token, launch.limits)
            self._journal.announce(record)
        except OSError as error:
            cgroups.remove(record.cgroups)
            raise failure(error, "prepare its start") from error
        try:
            record.pid = self._start(launch)
        except Failure:
            self._journal.forgotten(record)
            self._remove_groups(record.cgroups)
            raise
        self._children[record.pid] = record
        record.start_ticks = processes.start_ticks(record.pid) or 0
        record.started_at_ms = _now_ms()
        self._journal.started(record)
        self._limit(record, launch.limits)
        return record

    def _start(self, launch: Launch) -> int:
        record = launch.record
        with contextlib.ExitStack() as stack:
            try:
                stdout, stderr = (self._open_log(stack, record, stream) for stream in STREAMS)
            except OSError as error:
                raise failure(error, "open its logs") from error
            with self._groups.inside(record.cgroups):
                return spawn(launch.argv, launch.env, record, (self._null, stdout, stderr))

    def _open_log(self, stack: contextlib.ExitStack, record: Record, stream: str) -> int:
        owner = None if record.identity is None else (record.identity.uid, record.identity.gid)
        fd = open_log(Path(record.sandbox, stream), owner)
        stack.callback(os.close, fd)
        return fd

    def _limit(self, record: Record, limits: Limits) -> None:
        try:
            self._groups.limit(record.cgroups, limits)
        except OSError:  # version 1 refuses a limit below what is used already
            self._over_limit.add(record.key)
            self._kill_all(record)

    def execute(
        self,
        key: Key,
        argv: list[str],
        env: dict[str, str],
        files: tuple[int, int, int],
        has_terminal: bool,
        ended: Callable[[int], None],
    ) -> int:
        """Start a command inside a running task; `ended` is told its exit code. Raises Failure."""
        record = self.records.get(key)
        if record is None or record.end is not None:
            raise Failure(UNKNOWN, f"task {key[1]} does not run")
        env = processes.environment_of(record.pid) | env | {TOKEN_VARIABLE: record.token}
        if has_terminal and record.identity is not None:
            os.fchown(files[0], record.identity.uid, record.identity.gid)
        pid = spawn(argv, env, record, files, has_terminal)
        with contextlib.suppress(OSError):  # it may have ended already
            self._groups.add(record.cgroups, pid)
        self._others[pid] = ended
        return pid

    # --- asked for ----------------------------------------------------------------------------------------

    def signal(self, key: Key, number: int) -> None:
        """Send a signal to a task; SIGKILL reaches all of it, any other its first process' group."""
        record = self.records.get(key)
        if record is None or record.end is not None or record.pid == 0:
            return
        if number == signal.SIGKILL:
            self._kill_all(record)
        elif processes.start_ticks(record.pid) == record.start_ticks:
            processes.kill_group(record.pid, number)

    def forget(self, key: Key) -> None:
        """Forget a task, after it was killed if it runs."""
        record = self.records.get(key)
        if record is None:
            return
        if record.end is not None:
            self._journal.forgotten(record)
        else:
            self._forget_at_end.add(key)
            self._kill_all(record)

    # --- what an earlier warden left ----------------------------------------------------------------------

    def adopt(self) -> None:
        """Find the tasks of an earlier warden again, or note that they have ended."""
        self._groups.sweep({record.token for record in self.records.values()})
        for record in [each for each in self.records.values() if each.end is None]:
            if record.boot_id != self.boot_id:
                message = "the host was restarted while it ran"
                self._journal.ended(record, End(None, _now_ms(), has_host_rebooted=True, message=message))
                self._remove_groups(record.cgroups)
            elif record.pid or self._find_announced(record):
                self._adopt_started(record)
            else:
                self._journal.ended(record, End(None, _now_ms(), message=_MAYBE_STARTED))
                self._remove_groups(record.cgroups)

    def _find_announced(self, record: Record) -> bool:
        """Look for a task that an earlier warden was about to start.

        When it is not there it has ended already, or never was: it must not be started again.
        """
        pid = processes.first_of(cgroups.members(record.cgroups) or processes.members(0, record.token))
        record.started_at_ms = _now_ms()
        if pid is None:
            return False
        record.pid, record.start_ticks = pid, processes.start_ticks(pid) or 0
        self._journal.started(record)
        return True

    def _adopt_started(self, record: Record) -> None:
        pidfd = processes.open_running(record.pid, record.start_ticks)
        if pidfd is None:
            self._endings.append(Ending(record, None, time.monotonic() + KILL_PATIENCE_S))
        else:
            self._watch(pidfd, lambda: self._adopted_ended(record, pidfd))

    def _adopted_ended(self, record: Record, pidfd: int) -> None:
        self._endings.append(Ending(record, None, time.monotonic() + KILL_PATIENCE_S, pidfd))
        self.tick()

    # --- ending -------------------------------------------------------------------------------------------

    def reap(self) -> None:
        """See to all children that have ended: tasks, what was executed in them, and orphans."""
        for pid, code in _ended_children():
            record = self._children.pop(pid, None)
            if record is not None:
                processes.kill_group(pid)  # while the number is still ours
            os.waitpid(pid, 0)
            if record is not None:
                self._endings.append(Ending(record, code, time.monotonic() + KILL_PATIENCE_S, was_child=True))
            elif pid in self._others:
                self._others.pop(pid)(code)
        if self._endings:
            self.tick()

    def tick(self) -> None:
        """Go on with what could not be done at once; called every few milliseconds while `is_restless`."""
        endings, self._endings = self._endings, []
        for ending in endings:
            if not self._has_ended(ending):
                self._endings.append(ending)

    def tidy(self) -> None:
        """Rotate logs that have grown, remove groups that could not be removed; called every second or so."""
        for record in self.records.values():
            if record.end is None:
                for stream in STREAMS:
                    with contextlib.suppress(OSError):
                        rotate_by_copy(Path(record.sandbox, stream), record.log)
        self._old_groups = [each for each in self._old_groups if not cgroups.remove(each)]

    def close(self) -> None:
        """Leave nothing but the journal."""
        self.tidy()
        self._groups.close()
        self._journal.close()
        os.close(self._null)

    def _has_ended(self, ending: Ending) -> bool:
        """Take a task to its end if nothing is left of it, or patience is; return whether it has ended."""
        record = ending.record
        is_patient = time.monotonic() < ending.patience_until
        left = self._left_of(ending)
        for pid in left:
            processes.kill(pid)
        if ending.pidfd is not None and ending.code is None:
            ending.code = processes.exit_code_by_pidfd(ending.pidfd)
        is_unreaped = ending.pidfd is not None and ending.code is None and processes.is_zombie(record.pid)
        if (left or is_unreaped) and is_patient:
            return False
        try:
            self._journal.ended(record, self._end_of(record, ending.code))
        except OSError:  # the disk is full: an end that is not noted is not told
            ending.patience_until = 0.0
            return False
        if ending.pidfd is not None:
            os.close(ending.pidfd)
        self._remove_groups(record.cgroups)
        self._tell(record)
        if record.key in self._forget_at_end:
            self._forget_at_end.discard(record.key)
            self._journal.forgotten(record)
        return True

    def _left_of(self, ending: Ending) -> set[int]:
        """Find what still runs of a task whose first process has ended."""
        record = ending.record
        if record.cgroups:
            return cgroups.members(record.cgroups)
        if ending.was_child and not self._has_orphans():
            return set()
        ticks = processes.start_ticks(record.pid)
        is_number_reused = ticks is not None and ticks != record.start_ticks
        return processes.members(0 if is_number_reused else record.pid, record.token)

    def _has_orphans(self) -> bool:
        """Spare the scan of all processes when nobody below us could be a task's lost child."""
        own = processes.children(os.getpid())
        return any(pid not in self._children and pid not in self._others for pid in own)

    def _kill_all(self, record: Record) -> None:
        if record.cgroups:
            cgroups.kill(record.cgroups)
            return
        for pid in processes.members(record.pid, record.token):
            processes.kill(pid)

    def _end_of(self, record: Record, code: int | None) -> End:
        is_over = record.key in self._over_limit
        self._over_limit.discard(record.key)
        is_out_of_memory = code != 0 and (is_over or cgroups.was_out_of_memory(record.cgroups))
        return End(code, _now_ms(), is_out_of_memory, message=_text(record, code, is_out_of_memory))

    def _remove_groups(self, groups: dict[str, str]) -> None:
        if not cgroups.remove(groups):
            self._old_groups.append(groups)


def _ended_children() -> Iterator[tuple[int, int]]:
    """Yield pid and exit code of each child that has ended; reap it before asking for the next."""
    while True:
        try:
            info = os.waitid(os.P_ALL, 0, _ALL_CHILDREN)
        except ChildProcessError:
            return
        if info is None:
            return
        has_exited = info.si_code == os.CLD_EXITED
        yield info.si_pid, info.si_status if has_exited else 128 + info.si_status


def _text(record: Record, code: int | None, is_out_of_memory: bool) -> str:
    if code is None:
        return "how it ended is not known: the warden that watched it was killed"
    if is_out_of_memory and record.memory_limit_bytes:
        return f"out of memory: it wanted more than its limit of {record.memory_limit_bytes >> 20} MiB"
    if code > 128 and code - 128 in signal.valid_signals():
        return f"ended by {signal.Signals(code - 128).name}" if code - 128 < 32 else f"ended by signal {code - 128}"
    return ""


def _now_ms() -> int:
    return int(time.time() * 1000)
