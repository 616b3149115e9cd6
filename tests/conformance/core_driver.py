"""The master's real core behind the wire mapping, in this process, on a virtual clock: a case takes milliseconds.

The loop, the store's records and the operator service are the master's own; only the streams and the clock are played.
After each event the books of the core are checked, and all it does is judged by a witness (tests/master/core).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, cast

from runrig._numbering import Numbering
from runrig._wire import add_news, add_order, call_from_wire, report_from_wire
from runrig.errors import InvalidInput, ProtocolError
from runrig.ids import FrameworkId
from runrig.offers import CallRefused, RefusalCode, StreamRefused
from runrig.v1 import agent_pb2, operator_pb2_grpc, scheduler_pb2
from runrig_master.core.events import (
    AgentReported,
    AgentStreamClosed,
    Event,
    SchedulerCalled,
    SchedulerStreamClosed,
)
from runrig_master.core.settings import CoreSettings
from runrig_master.loop import Ends
from runrig_master.operator_grpc import OperatorService
from runrig_master.records_grpc import record
from runrig_master.settings import MasterSettings
from runrig_master.store import MemoryStore
from tests.conformance.lines import AGENT, CLEAN, Answer, Line, Refused
from tests.conformance.virtual_master import CheckedMaster, Clock, VirtualLoop
from tests.master.core.witness import Witness

LEAST_STEP_S = 0.001


class VirtualLine(Line):
    """A stream without a network: what is written is serialized, read again, and told to the core in one turn."""

    def __init__(self, kind: str, loop: VirtualLoop) -> None:
        super().__init__(kind)
        self._loop = loop
        self._numbering = Numbering()
        self._sent = 0
        self.id = loop.open_stream(Ends(self._send, self._close))

    async def write(self, *items: Any, number: int | None = None) -> None:
        """Write an envelope; all that follows from it has happened when this returns."""
        envelope = self.envelope(items, number)
        if self.end is not None:
            return
        try:
            if self._numbering.admits(envelope.number):
                for event in self._events(type(envelope).FromString(envelope.SerializeToString())):
                    self._loop.tell(event)
        except InvalidInput as error:
            self._close(StreamRefused(RefusalCode.INVALID, str(error)))
        except ProtocolError as error:
            self._close(StreamRefused(RefusalCode.OUT_OF_ORDER, str(error)))
        await self._loop.turn()

    async def break_off(self) -> None:
        """Break the stream."""
        self._end("CANCELLED")
        await self._loop.turn()

    def freeze(self) -> None:
        """Nothing: who breaks off is as silent, and a stream that stays open is the edge's business."""
        raise AssertionError("a case that freezes a stream needs the wire")

    def _events(self, envelope: Any) -> Iterable[Event]:
        if self.kind == AGENT:
            return [AgentReported(self.id, report_from_wire(report)) for report in envelope.reports]
        events: list[Event] = []
        for call in envelope.calls:
            try:
                events.append(SchedulerCalled(self.id, call_from_wire(call), FrameworkId(f"fresh-{self.id}")))
            except InvalidInput as error:
                kind = call.WhichOneof("call") or "unknown"
                if kind == "subscribe":
                    raise
                self._send(CallRefused(kind, str(error)))
        return events

    def _send(self, item: Any) -> None:
        self._sent += 1
        epoch = self._loop.master.cluster.epoch
        envelope: Any
        if self.kind == AGENT:
            envelope = agent_pb2.AgentServiceConnectResponse(number=self._sent, epoch=epoch)
            add_order(envelope, item)
        else:
            envelope = scheduler_pb2.SchedulerServiceConnectResponse(number=self._sent, epoch=epoch)
            add_news(envelope, item)
        self.heard(type(envelope).FromString(envelope.SerializeToString()))

    def _close(self, refusal: StreamRefused) -> None:
        self._send(refusal)
        self._end(CLEAN)

    def _end(self, status: str) -> None:
        self.end = status
        self._loop.forget_stream(self.id)
        if self.kind == AGENT:
            self._loop.tell(AgentStreamClosed(self.id, self._loop.now()))
        else:
            self._loop.tell(SchedulerStreamClosed(self.id))


class CoreDriver:
    """A master in this process, started anew from its store when a case asks for it."""

    is_immediate = True

    def __init__(self, settings: CoreSettings = CoreSettings()) -> None:
        self._settings = settings
        self._clock = Clock()
        self._store = MemoryStore()
        self._witness = Witness(settings)
        self._lines: list[VirtualLine] = []

    async def begin(self) -> None:
        """Start a master from what the store holds."""
        term = await self._store.campaign()
        if term.epoch > 1:
            self._witness.master_died(term.epoch)
        entries = await self._store.read("")
        records = [item for key, value in entries.items() if (item := record(key, value)) is not None]
        master = CheckedMaster(term, self._settings, records, self._clock.now, self._witness)
        self._loop = VirtualLoop(master, self._store, term, self._clock)
        self._service = OperatorService(self._loop, MasterSettings(core=self._settings))
        await self._loop.turn()

    def line(self, kind: str) -> Line:
        """Open a stream."""
        line = VirtualLine(kind, self._loop)
        self._lines.append(line)
        return line

    @property
    def operator(self) -> operator_pb2_grpc.OperatorServiceAsyncStub:
        """Return the operator's calls: the master's own service, without a network before it."""
        return cast("operator_pb2_grpc.OperatorServiceAsyncStub", _Unserved(self._service))

    async def asked(self, call: Awaitable[Answer]) -> Answer:
        """Await an operator's call."""
        return await call

    def now_ms(self) -> float:
        """Return the virtual time."""
        return self._clock.now * 1000

    async def wait(self, condition: Callable[[], bool], within_ms: float) -> None:
        """Let time pass from one deadline of the master to the next until `condition` holds."""
        end = self._clock.now + within_ms / 1000 + LEAST_STEP_S
        while within_ms and not condition() and self._clock.now < end:
            await self._step(end)

    async def poll(self, condition: Callable[[], Awaitable[bool]], within_ms: float) -> bool:
        """Ask at each deadline of the master."""
        end = self._clock.now + within_ms / 1000 + LEAST_STEP_S
        while not (holds := await condition()) and within_ms and self._clock.now < end:
            await self._step(end)
        return holds

    async def pass_time(self, milliseconds: float) -> None:
        """Let time pass from one deadline of the master to the next."""
        end = self._clock.now + milliseconds / 1000
        while self._clock.now < end:
            await self._step(end)

    async def _step(self, end: float) -> None:
        due = self._loop.master.next_deadline()
        self._clock.now = end if due is None else min(end, max(due, self._clock.now + LEAST_STEP_S))
        await self._loop.turn()

    async def restart(self) -> None:
        """Begin again with nothing but the store."""
        for line in self._lines:
            if line.end is None:
                line.end = "UNAVAILABLE"
        self._lines.clear()
        await self.begin()


class _Aborted(Exception):
    pass


class _Context:
    """As much of a gRPC context as the service uses: how to refuse a call."""

    def __init__(self) -> None:
        self.refusal: Refused | None = None

    async def abort(self, code: Any, details: str = "") -> None:
        self.refusal = Refused(code.name, details)
        raise _Aborted


class _Unserved:
    """Calls of a servicer, made through serialized messages."""

    def __init__(self, service: OperatorService) -> None:
        self._service = service

    def __getattr__(self, name: str) -> Callable[[Any], Awaitable[Any]]:
        async def call(request: Any) -> Any:
            context = _Context()
            try:
                answer = await getattr(self._service, name)(
                    type(request).FromString(request.SerializeToString()), context
                )
            except _Aborted:
                assert context.refusal is not None
                raise context.refusal from None
            return type(answer).FromString(answer.SerializeToString())

        return call
