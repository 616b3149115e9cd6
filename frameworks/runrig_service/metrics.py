"""What Prometheus is told, counted from what there is at the moment."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Gauge, generate_latest

from runrig_service.core.questions import Totals


def prometheus_text(totals: Totals, is_connected: bool) -> tuple[bytes, str]:
    """Return the metrics, and the type of their text."""
    registry = CollectorRegistry()

    def gauge(name: str, text: str, value: float) -> None:
        Gauge(f"runrig_service_{name}", text, registry=registry).set(value)

    gauge("connected", "1 while the framework is subscribed to a master", is_connected)
    gauge("apps", "Apps", totals.apps)
    gauge("changes", "Apps whose last change is not complete", totals.changes)
    gauge("instances_wanted", "Instances that apps ask for", totals.wanted)
    instances = Gauge("runrig_service_instances", "Instances by where they stand", ["state"], registry=registry)
    for state in ("waiting", "staged", "running", "healthy", "unhealthy", "unreachable", "stopping"):
        instances.labels(state).set(getattr(totals, state))
    return generate_latest(registry), CONTENT_TYPE_LATEST
