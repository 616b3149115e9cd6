"""Which instances the master asks back, because their agents are drained.

Nothing of it is durable: what stands is told again to a framework that subscribes.
"""

from __future__ import annotations

from runrig.ids import TaskId
from runrig_service.core.instance import Instance


class AskedBack:
    """The instances that are to leave their agents, by the inverse offer that says so."""

    def __init__(self) -> None:
        self._by_offer: dict[str, tuple[Instance, ...]] = {}
        self._by_app: dict[str, dict[TaskId, set[str]]] = {}

    def note(self, inverse_offer_id: str, instances: list[Instance]) -> None:
        """Take up an inverse offer; one that is told again says all there is to say."""
        self.forget(inverse_offer_id)
        self._by_offer[inverse_offer_id] = tuple(instances)
        for each in instances:
            self._by_app.setdefault(each.app_id, {}).setdefault(each.task_id, set()).add(inverse_offer_id)

    def forget(self, inverse_offer_id: str) -> list[str]:
        """Forget an inverse offer that has ended; return the apps that it was about."""
        instances = self._by_offer.pop(inverse_offer_id, ())
        for each in instances:
            of_app = self._by_app[each.app_id]
            of_app[each.task_id].discard(inverse_offer_id)
            if not of_app[each.task_id]:
                del of_app[each.task_id]
            if not of_app:
                del self._by_app[each.app_id]
        return list(dict.fromkeys(each.app_id for each in instances))

    def clear(self) -> list[str]:
        """Forget all; return the apps that they were about."""
        apps = list(self._by_app)
        self._by_offer.clear()
        self._by_app.clear()
        return apps

    def next_to_leave(self, app_id: str, instances: list[Instance]) -> Instance | None:
        """Return the instance of an app that is replaced now: one at a time, the oldest first."""
        asked = self._by_app.get(app_id)
        if not asked:
            return None
        for each in instances:
            if each.task_id in asked and not (each.is_stopping or each.is_waiting or each.is_unreachable):
                return each
        return None

    def concerns(self, app_id: str) -> bool:
        """Say whether an instance of an app is asked back."""
        return app_id in self._by_app
