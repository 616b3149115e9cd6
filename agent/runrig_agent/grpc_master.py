"""The agent's stream to a master: translates between the wire and the core's events and commands; no policy."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import grpc
import structlog

from runrig._numbering import Numbering
from runrig._streams import ClientStream, StreamSettings
from runrig._wire import ForwardedTask, add_report, order_from_wire, task_from_wire
from runrig.agents import Launch, Order, Report
from runrig.errors import InvalidInput, ProtocolError
from runrig.offers import LaunchableTask, StreamRefused
from runrig.v1 import agent_pb2, agent_pb2_grpc
from runrig_agent.core import events
from runrig_agent.core.admission import UnreadableTask

log = structlog.get_logger()

Sent = agent_pb2.AgentServiceConnectRequest
Received = agent_pb2.AgentServiceConnectResponse
Stream = ClientStream[Report, Sent, Received]


class MasterStreams:
    """At most one stream at a time; each tells that it opened, what it heard, and once that it closed."""

    def __init__(
        self,
        tell: Callable[[events.Event], None],
        is_behind: Callable[[], bool],
        settings: StreamSettings,
    ) -> None:
        self._tell = tell
        self._is_behind = is_behind
        self._settings = settings
        self._session = 0
        self._stream: Stream | None = None
        self._run: asyncio.Task[None] | None = None

    def open(self, session: int, master: str) -> None:
        """Connect to a master."""
        log.info("connecting", master=master, session=session)
        numbering = Numbering()
        refusals: list[StreamRefused] = []

        def heard(envelope: Received) -> None:
            if numbering.admits(envelope.number):
                orders = _orders(envelope)
                refusals.extend(order for order in orders if isinstance(order, StreamRefused))
                self._tell(events.OrdersReceived(session, envelope.epoch, orders))
            if self._is_behind():
                stream.close("this agent cannot keep up; connecting again")

        stream: Stream = ClientStream(master, _open_call, Sent, add_report, heard, self._settings)
        self._session, self._stream = session, stream
        self._run = asyncio.create_task(self._run_to_end(session, stream, refusals))

    def send(self, session: int, reports: tuple[Report, ...]) -> None:
        """Queue reports on the stream of a session; if it has ended, registration will say it all."""
        if self._stream is not None and session == self._session:
            for report in reports:
                self._stream.put(report)

    def set_heartbeat(self, session: int, interval_s: float) -> None:
        """Send an empty envelope when nothing else was sent for so long."""
        if self._stream is not None and session == self._session:
            self._stream.heartbeat_s = interval_s

    def close(self, session: int, why: str) -> None:
        """End the stream of a session."""
        if self._stream is not None and session == self._session:
            self._stream.close(why)

    async def end(self) -> None:
        """End whatever stream there is, without a word to the core."""
        if self._run is not None:
            self._run.cancel()
            await asyncio.gather(self._run, return_exceptions=True)

    async def _run_to_end(self, session: int, stream: Stream, refusals: list[StreamRefused]) -> None:
        why = await stream.run(lambda: self._tell(events.StreamOpened(session)))
        log.info("disconnected", master=stream.address, session=session, why=why)
        refusal = refusals[-1] if refusals else None
        self._tell(events.StreamClosed(session, why, random.random(), refusal))


def _open_call(channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall[Sent, Received]:
    stub = agent_pb2_grpc.AgentServiceStub(channel)
    return stub.Connect()  # envelopes are written, not yielded


def _orders(envelope: Received) -> tuple[Order, ...]:
    """Read an envelope; raise ProtocolError when more than one task of it cannot be read."""
    try:
        return tuple(_with_full_tasks(order_from_wire(item)) for item in envelope.commands)
    except InvalidInput as error:
        raise ProtocolError(f"the master sent what this agent cannot read: {error}") from error


def _with_full_tasks(order: Order) -> Order:
    if not isinstance(order, Launch):
        return order
    tasks = tuple(_full_task(task) for task in order.tasks)
    return Launch(order.framework_id, order.framework_name, order.role, tasks, order.is_group)


def _full_task(task: LaunchableTask) -> LaunchableTask:
    """Read a task that the master only forwarded; one that cannot be read says why, and the rest go on."""
    assert isinstance(task, ForwardedTask)
    try:
        return task_from_wire(task.body)
    except InvalidInput as error:
        return UnreadableTask(
            task.task_id, task.name, task.resources, task.labels, str(error), task.terms, task.volume_ids
        )
