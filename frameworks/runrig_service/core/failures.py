"""What went wrong last with each app, and how long its next instance waits for that.

The delay grows by the app's factor with each failure and is forgotten when the app has been quiet for its
largest delay, when its configuration changes and when it is restarted (Marathon's RateLimiter). It is
durable: a restart of the framework is no reason to hammer a cluster with an app that crashes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from runrig.tasks import CLUSTER_REASONS, Reason, StatusUpdate, TaskState
from runrig.wants import Delete, Put
from runrig_service.core.app import App

_REFUSED_AT_ONCE = frozenset(
    {
        Reason.AGENT_REFUSED,
        Reason.DISK_FULL,
        Reason.INVALID_OFFERS,
        Reason.PORT_IN_USE,
        Reason.RUNTIME_UNAVAILABLE,
    }
)
"""The cluster's fault, but certain to happen again at once if nothing slows it down."""


LEAST_DELAY_MS = 100
"""Even for an app without a delay: what is refused at once must not keep the process busy."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """The last failure of an app, as JSON for clients, and the delay that it brought."""

    delay_ms: int = 0
    since_ms: int = 0
    last: str = ""

    @property
    def until_ms(self) -> int:
        """Return when the next instance may be launched."""
        return self.since_ms + self.delay_ms

    def is_forgotten(self, app: App, now_ms: int) -> bool:
        """Say whether the delay has lapsed: nothing has failed for the app's largest delay."""
        return not self.delay_ms or now_ms > self.until_ms + app.max_launch_delay_ms


def after_failure(app: App, trouble: Trouble, now_ms: int) -> Trouble:
    """Return the trouble after one more failure."""
    if trouble.is_forgotten(app, now_ms):
        delay_ms = min(app.backoff_ms, app.max_launch_delay_ms)
    else:
        delay_ms = min(app.max_launch_delay_ms, round(trouble.delay_ms * app.backoff_factor))
    return replace(trouble, delay_ms=max(LEAST_DELAY_MS, delay_ms), since_ms=now_ms)


def is_failure(status: StatusUpdate) -> bool:
    """Say whether an end, that nobody here asked for, counts as a failure of the app.

    Kills do not, except by a health check; nor does what is the cluster's fault and cured by another agent.
    """
    if status.state is TaskState.TASK_KILLED:
        return status.reason is Reason.HEALTH_CHECK
    return status.reason not in CLUSTER_REASONS or status.reason in _REFUSED_AT_ONCE


class Failures:
    """The troubles of all apps; each method returns what must be made durable."""

    def __init__(self) -> None:
        self._troubles: dict[str, Trouble] = {}

    def restore(self, entries: Mapping[str, bytes], now_ms: int) -> None:
        """Take up entries by app id; a clock that was set back makes no delay longer than it ever was."""
        for app_id, value in entries.items():
            record = json.loads(value)
            self._troubles[app_id] = Trouble(record["delay"], min(record["since"], now_ms), record["last"])

    def of(self, app_id: str) -> Trouble:
        """Return the trouble of an app."""
        return self._troubles.get(app_id, Trouble())

    def note(self, app: App, status: StatusUpdate, last: str, now_ms: int) -> Put:
        """Note an end of an instance that nobody here asked for."""
        trouble = replace(self.of(app.app_id), last=last)
        if is_failure(status):
            trouble = after_failure(app, trouble, now_ms)
        return self._put(app.app_id, trouble)

    def reset_delay(self, app_id: str) -> list[Put | Delete]:
        """Forget the delay; the last failure stays to be seen."""
        trouble = self.of(app_id)
        return [self._put(app_id, replace(trouble, delay_ms=0))] if trouble.delay_ms else []

    def forget(self, app_id: str) -> list[Put | Delete]:
        """Forget everything about an app that is removed."""
        return [Delete(key(app_id))] if self._troubles.pop(app_id, None) is not None else []

    def _put(self, app_id: str, trouble: Trouble) -> Put:
        self._troubles[app_id] = trouble
        record = {"delay": trouble.delay_ms, "since": trouble.since_ms, "last": trouble.last}
        return Put(key(app_id), json.dumps(record).encode())


def key(app_id: str) -> str:
    """Return the key of an app's entry."""
    return f"failure{app_id}"
