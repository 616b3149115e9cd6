"""Numbers for Prometheus, made from the mind's totals at each scrape."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from runrig_batch.core.views import Totals
from runrig_batch.shapes import counts_json

MEDIA_TYPE = CONTENT_TYPE_LATEST


class _Snapshot(Collector):
    def __init__(self, totals: Totals, is_connected: bool) -> None:
        self._totals = totals
        self._is_connected = is_connected

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        totals = self._totals
        jobs = GaugeMetricFamily("runrig_batch_jobs", "Jobs that are remembered, by state.", labels=["state"])
        for state, count in totals.jobs.items():
            jobs.add_metric([state.value], count)
        yield jobs
        tasks = GaugeMetricFamily("runrig_batch_tasks", "Indices of remembered jobs, by state.", labels=["state"])
        for name, count in counts_json(totals.tasks).items():
            tasks.add_metric([name], count)
        yield tasks
        ends = CounterMetricFamily(
            "runrig_batch_attempts_ended",
            "Attempts that ended since this process began, by verdict.",
            labels=["verdict"],
        )
        for verdict, count in totals.ends.items():
            ends.add_metric([verdict], count)
        yield ends
        yield _gauge("outputs_waiting", "Ended tasks whose output is still to be fetched.", totals.outputs)
        yield _gauge("waits", "Questions that wait for something to happen.", totals.waits)
        yield _gauge("connected", "1 while subscribed to a master.", int(self._is_connected))


def exposition(totals: Totals, is_connected: bool) -> bytes:
    """Return the text that Prometheus reads."""
    registry = CollectorRegistry()
    registry.register(_Snapshot(totals, is_connected))
    return generate_latest(registry)


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(f"runrig_batch_{name}", help_, value=value)
