"""What a server of gRPC must do itself: answer bytes that are no message by the fault of the caller.

gRPC calls them UNKNOWN and logs a traceback, as if the program had a bug.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import grpc
from google.protobuf.message import DecodeError

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]  # generic in the stubs only

Context = grpc.aio.ServicerContext[Any, Any]
Behaviour = Callable[[Any, Context], Any]


@dataclass(frozen=True, slots=True)
class _NoMessage:
    """Stands for a request that could not be read."""

    error: DecodeError


class RefuseNoMessages(grpc.aio.ServerInterceptor):
    """Answers INVALID_ARGUMENT to a request that is no message, be it the only one or one of a stream."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Put the check before the method that is called."""
        handler = await continuation(handler_call_details)
        return None if handler is None else _checked(handler)


def _checked(handler: Handler) -> Handler:
    makers = cast(
        "dict[str, Callable[[Behaviour, Callable[[bytes], Any], Any], Handler]]",
        {
            "unary_unary": grpc.unary_unary_rpc_method_handler,
            "unary_stream": grpc.unary_stream_rpc_method_handler,
            "stream_unary": grpc.stream_unary_rpc_method_handler,
            "stream_stream": grpc.stream_stream_rpc_method_handler,
        },
    )
    [(make, behaviour)] = [(make, found) for name, make in makers.items() if (found := getattr(handler, name))]
    deserialize = handler.request_deserializer
    assert deserialize is not None, "every method of a service reads messages"
    if not handler.request_streaming:
        deserialize = _reading(deserialize)
    answering = _streaming if inspect.isasyncgenfunction(behaviour) else _answering
    return make(answering(behaviour), deserialize, handler.response_serializer)


def _reading(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Keep what cannot be read for the method: an error raised here would be logged as a bug."""

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except DecodeError as error:
            return _NoMessage(error)

    return read


def _answering(behaviour: Behaviour) -> Behaviour:
    @functools.wraps(behaviour)
    async def answer(request: Any, context: Context) -> Any:
        try:
            return await behaviour(_read(request), context)
        except DecodeError as error:
            await _refuse(error, context)

    return answer


def _streaming(behaviour: Behaviour) -> Behaviour:
    @functools.wraps(behaviour)
    async def answer(request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            async for response in behaviour(_read(request), context):
                yield response
        except DecodeError as error:
            await _refuse(error, context)

    return answer


def _read(request: Any) -> Any:
    if isinstance(request, _NoMessage):
        raise request.error
    return request


async def _refuse(error: DecodeError, context: Context) -> None:
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"what was sent is no message: {error}")
