"""Masters that this suite starts itself, each a process with a store of its own that is killed and started again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from tests.edges.master_server import process
from tests.free_ports import free_ports

HASTY = ("--offer-timeout", "2.5", "--silence-timeout", "3.5", "--heartbeat", "0.5")
"""Short enough to wait for, long enough for a busy machine: cases that wait for neither have a patient master."""
PATIENT: tuple[str, ...] = ()


class OwnMaster:
    """A `runrig master` on ports of its own, started when it is first asked for."""

    def __init__(self, folder: Path, name: str, flags: tuple[str, ...]) -> None:
        self._state = folder / f"{name}.db"
        self._flags = flags
        self._grpc_port, self._http_port = free_ports(2)
        self._stack = contextlib.ExitStack()
        self._is_started = False

    @property
    def address(self) -> str:
        """Return where it answers, starting it if it was not."""
        if not self._is_started:
            self.kill_and_start()
        return f"127.0.0.1:{self._grpc_port}"

    def kill_and_start(self) -> None:
        """Kill it as nothing can prepare for, and start it again with the same store and ports."""
        self._stack.close()
        self._stack.enter_context(process(self._state, self._grpc_port, self._http_port, *self._flags))
        self._is_started = True

    def stop(self) -> None:
        """Kill it."""
        self._stack.close()


@contextlib.contextmanager
def own_masters(folder: Path) -> Iterator[tuple[OwnMaster, OwnMaster]]:
    """Yield a patient and a hasty master, and kill what was started of them."""
    patient, hasty = OwnMaster(folder, "patient", PATIENT), OwnMaster(folder, "hasty", HASTY)
    try:
        yield patient, hasty
    finally:
        patient.stop()
        hasty.stop()
