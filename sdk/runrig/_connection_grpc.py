"""One stream of a framework to the master, over gRPC."""

from __future__ import annotations

from collections.abc import Callable

from runrig._addresses import split_address
from runrig._numbering import Numbering
from runrig._streams import ClientStream, StreamSettings
from runrig._wire import add_call, news_from_wire
from runrig.errors import InvalidInput, ProtocolError
from runrig.offers import Call, News, Subscribed, Teardown
from runrig.session import EnvelopeCame, StreamOpened
from runrig.v1 import scheduler_pb2, scheduler_pb2_grpc

Request = scheduler_pb2.SchedulerServiceConnectRequest
Response = scheduler_pb2.SchedulerServiceConnectResponse


class Connection:
    """Stream `number` to the master at `address`; what happens on it is pushed as session events."""

    def __init__(self, number: int, address: str, push: Callable[[object], None]) -> None:
        self.number = number
        self.address = address
        self._push = push
        self._numbering = Numbering()
        self._stream: ClientStream[Call, Request, Response] = ClientStream(
            address,
            lambda channel: scheduler_pb2_grpc.SchedulerServiceStub(channel).Connect(),
            Request,
            add_call,
            self._heard,
            StreamSettings(),
        )

    async def run(self) -> str:
        """Run until the stream ends; return why."""
        return await self._stream.run(lambda: self._push(StreamOpened(self.number)))

    def send(self, call: Call) -> None:
        """Queue a call."""
        self._stream.put(call)

    def close(self, why: str) -> None:
        """End the stream."""
        self._stream.close(why)

    async def teardown(self, timeout_s: float = 2.0) -> None:
        """Remove the framework and wait until the master has closed the stream, or for `timeout_s`."""
        self.send(Teardown())
        await self._stream.ended(timeout_s)

    def _heard(self, envelope: Response) -> None:
        if not self._numbering.admits(envelope.number):
            return
        try:
            news: tuple[News, ...] = tuple(news_from_wire(event) for event in envelope.events)
        except InvalidInput as error:
            raise ProtocolError(str(error)) from None
        for item in news:
            if isinstance(item, Subscribed):
                self._stream.heartbeat_s = item.heartbeat_ms / 1000
        self._push(EnvelopeCame(self.number, envelope.epoch, news))


def addresses_of(text: str) -> list[str]:
    """Read `host:port` addresses joined by commas; raise InvalidInput."""
    addresses = [part.strip() for part in text.split(",") if part.strip()]
    if not addresses:
        raise InvalidInput("master", text, "host:port, or several joined by commas")
    for address in addresses:
        split_address("master", address)
    return addresses
