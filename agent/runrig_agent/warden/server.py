"""The warden's loop: connections of agents, and what wakes it: a child's end, an adopted task's end, time."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runrig_agent.sandbox_logs import LogLimits
from runrig_agent.warden import PROTOCOL_VERSION, TOKEN_VARIABLE, processes
from runrig_agent.warden.cgroups import Cgroups, Limits
from runrig_agent.warden.journal import Identity, Journal, Key, Record
from runrig_agent.warden.spawning import BAD_REQUEST, Failure
from runrig_agent.warden.supervision import Launch, Supervision

MAX_REQUEST_BYTES = 8 << 20
"""Longest line that is taken: a task's environment may have 256 Ki characters, some of 12 bytes in JSON."""
MAX_UNSENT_BYTES = 64 << 20
"""What may wait for a connection that does not read; then it is closed, and its agent asks again."""
TIDY_INTERVAL_S = 1.0
RESTLESS_INTERVAL_S = 0.01

_RECEIVE_BYTES = 1 << 18


class Connection:
    """One agent, or one command that an agent executes in a task."""

    def __init__(self, peer: socket.socket) -> None:
        self.socket = peer
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.files: list[int] = []
        self.wants_notices = False
        self.executed: int | None = None

    def say(self, message: dict[str, Any]) -> None:
        """Queue a message; it is sent after the journal was flushed."""
        self.outbox += json.dumps(message, separators=(",", ":")).encode() + b"\n"

    def close(self) -> None:
        """End it, and what it executes."""
        if self.executed is not None:
            processes.kill_group(self.executed)
        for fd in self.files:
            os.close(fd)
        self.files = []
        self.socket.close()


class Server:
    """Serve agents until there is no more reason to be (rule 5)."""

    def __init__(self, directory: Path, listener: socket.socket, groups: Cgroups, idle_s: float) -> None:
        self._directory = directory
        self._identity = directory.stat().st_ino
        self._listener = listener
        self._groups = groups
        self._idle_s = idle_s
        self._selector = selectors.DefaultSelector()
        self._connections: set[Connection] = set()
        self._journal = Journal(directory / "journal")
        self._supervision = Supervision(self._journal, groups, self._tell_ended, self._watch_once)
        self._is_leaving = False
        self._last_busy = time.monotonic()
        self._next_tidy = 0.0
        self._operations = {
            "hello": self._hello,
            "launch": self._launch,
            "list": self._list,
            "signal": self._signal,
            "forget": self._forget,
            "exec": self._exec,
            "leave": self._leave,
        }

    def run(self) -> None:
        """Adopt what is there, then serve."""
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._listen_to_children()
        self._supervision.adopt()
        while not self._is_done():
            for key, _ in self._selector.select(self._patience_s()):
                key.data()
            self._turn()
        self._supervision.close()

    def _turn(self) -> None:
        now = time.monotonic()
        if self._supervision.is_restless:
            self._supervision.tick()
        if now >= self._next_tidy:
            self._next_tidy = now + TIDY_INTERVAL_S
            self._supervision.tidy()
        if self._connections or not self._supervision.is_idle:
            self._last_busy = now
        self._journal.flush()
        for connection in list(self._connections):
            self._send(connection)

    def _patience_s(self) -> float:
        return RESTLESS_INTERVAL_S if self._supervision.is_restless else TIDY_INTERVAL_S

    def _is_done(self) -> bool:
        if self._is_leaving:
            return not any(connection.outbox for connection in self._connections)
        if not self._supervision.is_idle:
            return False
        return time.monotonic() - self._last_busy > self._idle_s or self._is_homeless()

    def _is_homeless(self) -> bool:
        try:
            return self._directory.stat().st_ino != self._identity
        except OSError:
            return True

    # --- what wakes it ------------------------------------------------------------------------------------

    def _listen_to_children(self) -> None:
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

        def children_ended() -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(reader, 4096)
            self._supervision.reap()

        self._selector.register(reader, selectors.EVENT_READ, children_ended)

    def _watch_once(self, fd: int, call: Callable[[], None]) -> None:
        def is_ready() -> None:
            self._selector.unregister(fd)
            call()

        self._selector.register(fd, selectors.EVENT_READ, is_ready)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            peer, _ = self._listener.accept()
            peer.setblocking(False)
            connection = Connection(peer)
            self._connections.add(connection)
            self._selector.register(peer, selectors.EVENT_READ, lambda: self._receive(connection))

    # --- connections --------------------------------------------------------------------------------------

    def _receive(self, connection: Connection) -> None:
        if connection not in self._connections:
            return
        self._send(connection)
        try:
            data, files, _, _ = socket.recv_fds(connection.socket, _RECEIVE_BYTES, 3)
        except BlockingIOError:
            return
        except OSError:
            data, files = b"", []
        connection.files += files
        if not data:
            self._drop(connection)
            return
        connection.inbox += data
        if len(connection.inbox) > MAX_REQUEST_BYTES:
            self._drop(connection)
            return
        *lines, rest = connection.inbox.split(b"\n")
        connection.inbox = bytearray(rest)
        for line in lines:
            self._answer(connection, bytes(line))

    def _send(self, connection: Connection) -> None:
        """Send what the peer takes; while something is left, wait for it to take more."""
        if connection not in self._connections:
            return
        try:
            while connection.outbox:
                del connection.outbox[: connection.socket.send(connection.outbox[:_RECEIVE_BYTES])]
        except BlockingIOError:
            pass
        except OSError:
            self._drop(connection)
            return
        if len(connection.outbox) > MAX_UNSENT_BYTES:
            self._drop(connection)
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if connection.outbox else 0)
        key = self._selector.get_key(connection.socket)
        if key.events != events:
            self._selector.modify(connection.socket, events, key.data)

    def _drop(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._selector.unregister(connection.socket)
        connection.close()

    def _tell_ended(self, record: Record) -> None:
        for connection in self._connections:
            if connection.wants_notices:
                connection.say({"ended": record.described()})

    # --- requests -----------------------------------------------------------------------------------------

    def _answer(self, connection: Connection, line: bytes) -> None:
        identifier: Any = None
        try:
            request = json.loads(line)
            identifier = request["id"]
            result = self._operations[request["op"]](connection, request)
        except Failure as failure:
            result = {"error": {"kind": failure.kind, "message": str(failure)}}
        except (KeyError, TypeError, ValueError, IndexError) as error:
            message = f"{type(error).__name__}: {error}"
            result = {"error": {"kind": BAD_REQUEST, "message": f"the warden does not understand: {message}"}}
        connection.say({"id": identifier, **result})

    def _hello(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        if request["version"] != PROTOCOL_VERSION:
            raise Failure(
                BAD_REQUEST,
                f"this warden speaks version {PROTOCOL_VERSION}, not {request['version']}; "
                f"it makes room for another when its tasks have ended (pid {os.getpid()})",
            )
        connection.wants_notices = True
        return {
            "version": PROTOCOL_VERSION,
            "pid": os.getpid(),
            "cgroups": self._groups.names,
            "why_no_cgroups": self._groups.problems,
        }

    def _launch(self, _: Connection, request: dict[str, Any]) -> dict[str, Any]:
        launch = parsed_launch(request, self._supervision.boot_id)
        return {"task": self._supervision.launch(launch).described()}

    def _list(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        for record in self._supervision.records.values():
            connection.say({"id": request["id"], "item": record.described()})
        return {"done": True}

    def _signal(self, _: Connection, request: dict[str, Any]) -> dict[str, Any]:
        self._supervision.signal(_key(request), int(request["signal"]))
        return {}

    def _forget(self, _: Connection, request: dict[str, Any]) -> dict[str, Any]:
        self._supervision.forget(_key(request))
        return {}

    def _exec(self, connection: Connection, request: dict[str, Any]) -> dict[str, Any]:
        files, connection.files = connection.files, []
        try:
            stdin, stdout, stderr = files
            connection.executed = self._supervision.execute(
                _key(request),
                list(request["argv"]),
                dict(request["env"]),
                (stdin, stdout, stderr),
                bool(request["tty"]),
                lambda code: self._tell_executed(connection, code),
            )
        finally:
            for fd in files:
                os.close(fd)
        return {"pid": connection.executed}

    def _tell_executed(self, connection: Connection, code: int) -> None:
        connection.executed = None
        if connection in self._connections:
            connection.say({"exec_ended": code})

    def _leave(self, _: Connection, __: dict[str, Any]) -> dict[str, Any]:
        self._is_leaving = self._supervision.is_idle
        return {"leaves": self._is_leaving}


def parsed_launch(request: dict[str, Any], boot_id: str) -> Launch:
    """Read a launch request; raises KeyError, TypeError, ValueError."""
    user, limits = request["user"], Limits(**request["limits"])
    record = Record(
        key=_key(request),
        token=os.urandom(8).hex(),
        boot_id=boot_id,
        sandbox=request["sandbox"],
        cwd=request["cwd"],
        identity=user and Identity(user["uid"], user["gid"], tuple(user["groups"])),
        memory_limit_bytes=limits.memory_bytes,
        log=LogLimits(**request["log"]),
    )
    env = {**request["env"], TOKEN_VARIABLE: record.token}
    return Launch(record.key, list(request["argv"]), env, record, limits)


def _key(request: dict[str, Any]) -> Key:
    framework, task = request["key"]
    return str(framework), str(task)
