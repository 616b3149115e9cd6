"""The master's HTTP port: is it alive, is it ready, its metrics, and why something waits."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from runrig.errors import InvalidInput, RunrigError, http_status
from runrig.ids import FrameworkId
from runrig.resources import Resources
from runrig_master.core.cluster import Cluster
from runrig_master.core.explain import explain, pending_by_reason
from runrig_master.core.explanation import Subject, SubjectKind
from runrig_master.core.state import Presence
from runrig_master.loop import Loop
from runrig_master.measures import Distribution


class ClusterMetrics(Collector):
    """Read from the core's state at each scrape."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Yield every family."""
        cluster = self._loop.master.cluster
        yield _gauge("runrig_epoch", "The epoch of this leadership", cluster.epoch)
        yield _by_state("runrig_agents", "Agents by state", Tally(a.presence.value for a in cluster.agents.values()))
        yield _by_state("runrig_tasks", "Tasks known to the master by state", _task_states(cluster))
        yield _gauge("runrig_offers_outstanding", "Offers that have not ended", len(cluster.offers))
        yield _gauge("runrig_frameworks", "Frameworks that were not removed", len(cluster.frameworks))
        yield _gauge("runrig_frameworks_disconnected", "Of those, without a scheduler", len(cluster.absent))
        yield from self._resources(cluster)
        yield self._shares(cluster)
        yield _by(
            "runrig_pending_demand",
            "Tasks that are wanted and have no offer, by what is first in the way",
            "reason",
            pending_by_reason(cluster, self._loop.now()),
        )
        measures = self._loop.measures
        yield _histogram(
            "runrig_offer_wait_seconds", "From when a task was wanted until its offer", measures.offer_wait_s
        )
        yield _histogram("runrig_offer_answer_seconds", "From an offer until its answer", measures.offer_answer_s)
        yield _histogram(
            "runrig_allocation_seconds", "Ends of turns in which resources were given out", measures.allocation_s
        )
        yield _counter("runrig_allocation_passes", "Passes of allocation", cluster.passes)
        yield _counter("runrig_turns", "Turns of the core's loop", self._loop.turns)
        yield _counter("runrig_turn_seconds", "Time spent in the core", self._loop.turn_seconds)
        yield _counter("runrig_commits", "Commits to the store", self._loop.commits)
        yield _counter("runrig_commit_seconds", "Time spent waiting for the store", self._loop.commit_seconds)

    def _resources(self, cluster: Cluster) -> Iterator[Metric]:
        family = GaugeMetricFamily("runrig_resources", "Resources of agents in the pool", labels=["resource", "kind"])
        pooled = [agent for agent in cluster.agents.values() if agent.presence is Presence.CONNECTED]
        for kind, amounts in (
            ("total", [agent.info.resources for agent in pooled]),
            ("used", [agent.used for agent in pooled]),
            ("offered", [agent.offered for agent in pooled]),
        ):
            for resource, value in _sums(amounts):
                family.add_metric([resource, kind], value)
        yield family

    def _shares(self, cluster: Cluster) -> Metric:
        family = GaugeMetricFamily("runrig_role_dominant_share", "Weighted dominant share", labels=["role"])
        for node in cluster.tree:
            family.add_metric([node.role], node.share(cluster.tree.total))
        return family


def _sums(amounts: list[Resources]) -> Iterator[tuple[str, float]]:
    yield "cpus", sum(item.cpu_millis for item in amounts) / 1000
    yield "mem_bytes", sum(item.mem_mib for item in amounts) * 1048576
    yield "disk_bytes", sum(item.disk_mib for item in amounts) * 1048576
    yield "gpus", sum(item.gpus for item in amounts)


def _task_states(cluster: Cluster) -> Tally[str]:
    return Tally(task.state.name for framework in cluster.frameworks.values() for task in framework.tasks.values())


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value=value)


def _by_state(name: str, text: str, counts: Tally[str]) -> Metric:
    return _by(name, text, "state", counts)


def _by(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[label])
    for value, count in sorted(counts.items()):
        family.add_metric([value], count)
    return family


def _histogram(name: str, text: str, distribution: Distribution) -> Metric:
    family = HistogramMetricFamily(name, text)
    family.add_metric([], distribution.cumulative(), distribution.sum)
    return family


def http_app(loop: Loop) -> Starlette:
    """Build the application."""
    registry = CollectorRegistry()
    registry.register(ClusterMetrics(loop))

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        cluster = loop.master.cluster
        back = sum(agent.presence is Presence.RECOVERING for agent in cluster.agents.values())
        return JSONResponse({"ready": True, "epoch": cluster.epoch, "agents_recovering": back})

    async def explained(request: Request) -> Response:
        try:
            return JSONResponse(explain(loop.master.cluster, _subject(request.query_params), loop.now()).as_json())
        except RunrigError as error:
            return JSONResponse(_error_json(error), http_status(error))

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4")

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
            Route("/v1/explain", explained),
        ]
    )


def _subject(query: QueryParams) -> Subject:
    """Read what is to be explained; raise InvalidInput."""
    for name in query:
        if name not in ("kind", "id", "framework"):
            raise InvalidInput(name, query[name], "no such parameter; there are kind, id, framework")
    kinds = {kind.name.lower(): kind for kind in SubjectKind}
    given = query.get("kind", SubjectKind.ANY.name.lower())
    if given not in kinds:
        raise InvalidInput("kind", given, ", ".join(kinds))
    if not query.get("id"):
        raise InvalidInput("id", query.get("id"), "the id of what is to be explained")
    return Subject(kinds[given], query["id"], FrameworkId(query.get("framework", "")))


def _error_json(error: RunrigError) -> dict[str, object]:
    said: dict[str, object] = {"message": str(error)}
    if isinstance(error, InvalidInput):
        said |= {"field": error.field, "value": str(error.value), "allowed": error.allowed}
    return said
