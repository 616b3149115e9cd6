"""Connections to agents' sandboxes, shared by all who read the output of tasks there."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from runrig.ids import FrameworkId, TaskId
from runrig.sandbox import Sandbox
from runrig_batch.mind import Stream, Wanted

MAX_IDLE = 64
"""Connections that are kept open though nobody reads: a new one costs milliseconds, ends come in bursts."""


@dataclass(slots=True)
class _Shared:
    sandbox: Sandbox
    readers: int = 0


class AgentSandboxes:
    """Output of this framework's tasks, read from their agents."""

    def __init__(self, framework_id: Callable[[], FrameworkId]) -> None:
        self._framework_id = framework_id
        self._open: dict[str, _Shared] = {}

    async def read(
        self, address: str, task_id: TaskId, wanted: Wanted, *, follow: bool
    ) -> AsyncGenerator[tuple[Stream, bytes], None]:
        """Yield pieces of output from its beginning."""
        stream = None if wanted == "both" else wanted
        async with self._connection(address) as sandbox:
            reading = sandbox.read_logs(self._framework_id(), task_id, stream=stream, follow=follow)
            async with aclosing(reading) as pieces:
                async for name, data in pieces:
                    yield name, data

    async def close(self) -> None:
        """Close every connection."""
        while self._open:
            _, shared = self._open.popitem()
            await shared.sandbox.close()

    @asynccontextmanager
    async def _connection(self, address: str) -> AsyncIterator[Sandbox]:
        shared = self._open.pop(address, None) or _Shared(Sandbox(address))
        self._open[address] = shared  # the latest used stands last
        shared.readers += 1
        try:
            yield shared.sandbox
        finally:
            shared.readers -= 1
            await self._close_idle()

    async def _close_idle(self) -> None:
        idle = [address for address, shared in self._open.items() if not shared.readers]
        for address in idle[: max(len(idle) - MAX_IDLE, 0)]:
            await self._open.pop(address).sandbox.close()
