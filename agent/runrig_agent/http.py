"""The agent's HTTP port: is it alive, is it registered, and its metrics."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from runrig.resources import Resources
from runrig_agent.core.agent import AgentCore
from runrig_agent.loop import Loop


class AgentMetrics(Collector):
    """Read from the core's state at each scrape."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        loop, core = self._loop, self._loop.core
        yield _gauge("runrig_agent_registered", "1 while a master has this agent", core.is_registered)
        yield _gauge("runrig_agent_epoch", "The highest epoch seen", core.epoch)
        tasks = GaugeMetricFamily("runrig_agent_tasks", "Tasks by what was last said of them", labels=["state"])
        for state, count in sorted(core.count_states().items()):
            tasks.add_metric([state.name], count)
        yield tasks
        yield _gauge("runrig_agent_updates_unacknowledged", "Updates to be sent again", core.count_unacknowledged())
        if core.has_started:
            yield _resources(core)
        yield _counter("runrig_agent_events", "Events handled by the core", loop.events_handled)
        yield _counter("runrig_agent_turns", "Turns of the core's loop", loop.turns)
        yield _counter("runrig_agent_turn_seconds", "Time spent in the core", loop.turn_seconds)
        yield _counter("runrig_agent_commits", "Commits to the checkpoint", loop.commits)
        yield _counter("runrig_agent_commit_seconds", "Time spent waiting for the checkpoint", loop.commit_seconds)


def http_app(loop: Loop) -> Starlette:
    """Build the application."""
    registry = CollectorRegistry()
    registry.register(AgentMetrics(loop))

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        core = loop.core
        if not core.has_started:
            return JSONResponse({"ready": False}, status_code=503)
        status = {
            "ready": core.is_registered,
            "agent_id": core.info.agent_id,
            "master": core.master,
            "epoch": core.epoch,
            "runtimes": [kind.name.lower() for kind in core.info.runtimes],
        }
        return JSONResponse(status, status_code=200 if core.is_registered else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

    return Starlette(routes=[Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)])


def _resources(core: AgentCore) -> Metric:
    family = GaugeMetricFamily("runrig_agent_resources", "What the agent has", labels=["resource", "kind"])
    used = [task.spec.resources for task in core.live_tasks()]
    for kind, amounts in (("total", [core.info.resources]), ("used", used)):
        for resource, value in _sums(amounts):
            family.add_metric([resource, kind], value)
    return family


def _sums(amounts: list[Resources]) -> Iterator[tuple[str, float]]:
    yield "cpus", sum(item.cpu_millis for item in amounts) / 1000
    yield "mem_bytes", sum(item.mem_mib for item in amounts) * 1048576
    yield "disk_bytes", sum(item.disk_mib for item in amounts) * 1048576
    yield "gpus", sum(item.gpus for item in amounts)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)
