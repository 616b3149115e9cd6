"""AgentService: agents' streams."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import grpc

from runrig._wire import add_order, report_from_wire
from runrig.agents import AcknowledgeUpdate, Order, checked_report
from runrig.offers import StreamRefused
from runrig.v1 import agent_pb2, agent_pb2_grpc
from runrig_master.core.events import AgentReported, AgentStreamClosed, Event, StreamId
from runrig_master.loop import Loop
from runrig_master.settings import MasterSettings
from runrig_master.streams_grpc import Dialect, ServedStream, check_count

Request = agent_pb2.AgentServiceConnectRequest
Response = agent_pb2.AgentServiceConnectResponse


class AgentService(agent_pb2_grpc.AgentServiceServicer):
    """What agents speak with."""

    def __init__(self, loop: Loop, settings: MasterSettings) -> None:
        self._loop = loop
        self._settings = settings
        self._dialect: Dialect[Request, Response] = Dialect(
            "agent", self._events, Response, add_order, AgentStreamClosed, self._linger_s
        )

    async def Connect(  # type: ignore[override]
        self,
        request_iterator: AsyncIterator[Request],
        context: grpc.aio.ServicerContext[Request, Response],
    ) -> None:
        """Serve one agent's stream."""
        core = self._settings.core
        stream = ServedStream(
            self._loop, self._dialect, self._settings.agent_outbox_items, core.heartbeat_s, core.silence_timeout_s
        )
        await stream.serve(context)

    def _linger_s(self, order: Order | StreamRefused) -> float:
        return self._settings.receipt_linger_s if isinstance(order, AcknowledgeUpdate) else 0.0

    def _events(self, stream: StreamId, envelope: Request) -> Iterator[Event]:
        check_count("reports", len(envelope.reports), self._settings.max_items)
        for report in envelope.reports:
            check_count("register.tasks", len(report.register.tasks), self._settings.max_items)
            yield AgentReported(stream, checked_report(report_from_wire(report)))
