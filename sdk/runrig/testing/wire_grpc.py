"""Envelopes through protobuf and back, for simulations in which the wire mapping has a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runrig._wire import (
    ForwardedTask,
    add_call,
    add_news,
    add_order,
    add_report,
    call_from_wire,
    news_from_wire,
    order_from_wire,
    report_from_wire,
    task_from_wire,
)
from runrig.agents import Launch
from runrig.errors import InvalidInput
from runrig.offers import CallRefused
from runrig.testing.network import Kind
from runrig.v1 import agent_pb2, scheduler_pb2


class WireCodec:
    """The edges' mapping of all four kinds of envelope; it is a `runrig.testing.network.Codec`."""

    def encode(self, kind: Kind, is_up: bool, items: Sequence[Any]) -> bytes:
        """Return an envelope's bytes."""
        if kind is Kind.AGENT and is_up:
            return _filled(agent_pb2.AgentServiceConnectRequest(), add_report, items)
        if kind is Kind.AGENT:
            return _filled(agent_pb2.AgentServiceConnectResponse(), add_order, items)
        if is_up:
            return _filled(scheduler_pb2.SchedulerServiceConnectRequest(), add_call, items)
        return _filled(scheduler_pb2.SchedulerServiceConnectResponse(), add_news, items)

    def decode(self, kind: Kind, is_up: bool, data: bytes) -> tuple[list[Any], list[Any]]:
        """Return what was said, and what the reader answers to what it cannot read."""
        if kind is Kind.AGENT and is_up:
            reports = agent_pb2.AgentServiceConnectRequest.FromString(data).reports
            return [report_from_wire(report) for report in reports], []
        if kind is Kind.AGENT:
            commands = agent_pb2.AgentServiceConnectResponse.FromString(data).commands
            return [_with_full_tasks(order_from_wire(command)) for command in commands], []
        if is_up:
            return _calls(scheduler_pb2.SchedulerServiceConnectRequest.FromString(data))
        events = scheduler_pb2.SchedulerServiceConnectResponse.FromString(data).events
        return [news_from_wire(event) for event in events], []


def _filled(envelope: Any, add: Any, items: Sequence[Any]) -> bytes:
    for item in items:
        add(envelope, item)
    data: bytes = envelope.SerializeToString()
    return data


def _calls(envelope: scheduler_pb2.SchedulerServiceConnectRequest) -> tuple[list[Any], list[Any]]:
    said: list[Any] = []
    answers: list[Any] = []
    for call in envelope.calls:
        try:
            said.append(call_from_wire(call))
        except InvalidInput as error:
            answers.append(CallRefused(call.WhichOneof("call") or "unknown", str(error)))
    return said, answers


def _with_full_tasks(order: Any) -> Any:
    """Read the tasks that the master has only passed on, as the agent's edge does."""
    if not isinstance(order, Launch):
        return order
    return replace(order, tasks=tuple(_full(task) for task in order.tasks))


def _full(task: Any) -> Any:
    return task_from_wire(task.body) if isinstance(task, ForwardedTask) else task
