"""A master under fire on loopback, whose core the test can look into, and bystanders whose work must go on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc

from runrig.serving import serving_http
from runrig_master.core.settings import CoreSettings
from runrig_master.http import http_app
from runrig_master.loop import Loop
from runrig_master.server_grpc import _grpc_server, _restored
from runrig_master.settings import MasterSettings
from runrig_master.store import MemoryStore
from tests.edges.master_server import Served
from tests.fuzz.bystander import Bystander, steady
from tests.fuzz.faults import no_faults
from tests.master.core.books import check_books


@dataclass
class Target:
    """The master, and those who work with it all along."""

    served: Served
    loop: Loop
    store: MemoryStore
    bystander: Bystander

    async def check(self) -> None:
        """See that its state is valid, its records can be read again, and the bystanders' next task runs to its end."""
        check_books(self.loop.master.cluster)
        await self.bystander.runs_a_task()
        check_books(self.loop.master.cluster)

    def raw(self, method: str, metadata: Any = None) -> Any:
        """Open a stream over which any bytes can be sent."""
        return self.served.channel.stream_stream(f"/runrig.v1.{method}")(metadata=metadata)


@contextlib.asynccontextmanager
async def under_fire(core: CoreSettings = CoreSettings(), **edges: Any) -> AsyncIterator[Target]:
    """Run a master and its bystanders; see at the end that nothing was logged that is a bug."""
    settings = MasterSettings("127.0.0.1:0", "127.0.0.1:0", "memory:", core=core, **edges)
    store = MemoryStore()
    loop = await _restored(store, await store.campaign(), settings)
    with no_faults():
        async with serving_http(http_app(loop), settings.http, "HTTP") as http_address:
            server, address = await _grpc_server(loop, settings)
            turning = asyncio.create_task(loop.run())
            try:
                async with grpc.aio.insecure_channel(address) as channel:
                    served = Served(address, http_address, channel)
                    async with steady(served) as bystander:
                        target = Target(served, loop, store, bystander)
                        yield target
                        assert not turning.done(), f"the master has ended: {turning}"
                        await target.check()
                        await _restored(store, await store.campaign(), settings)
            finally:
                turning.cancel()
                await asyncio.gather(turning, return_exceptions=True)
                await server.stop(grace=None)
