"""Persistent volumes: one task at a time uses each, and a destroyed one goes as soon as none does.

Where their data lies is the edge's matter. What is to be destroyed is not kept on disk here: the master says it
again at each registration until it has heard that the data is gone.
"""

from __future__ import annotations

from enum import IntEnum

from runrig.agents import VolumeDestroyed
from runrig.tasks import Reason, TaskSpec, TaskState
from runrig_agent.core.account import Account
from runrig_agent.core.admission import LaunchRefused
from runrig_agent.core.commands import DeleteVolume
from runrig_agent.core.effects import Effects
from runrig_agent.core.policy import Policy
from runrig_agent.core.timers import TimerKind, Timers


class Doom(IntEnum):
    """How far the destruction of a volume is."""

    WAITING = 0
    """A task uses it."""
    DELETING = 1
    FAILED = 2
    """Something of it could not be deleted; it is tried again."""


class Volumes:
    """Keep tasks from volumes that others use or that are to go, and have those deleted."""

    def __init__(self, policy: Policy, effects: Effects, timers: Timers, account: Account) -> None:
        self._policy = policy
        self._effects = effects
        self._timers = timers
        self._account = account
        self._doomed: dict[str, Doom] = {}

    def problem(self, spec: TaskSpec) -> LaunchRefused | None:
        """Return why a task cannot have its volumes now; the master offers neither kind, but news may cross."""
        for volume_id in spec.volume_ids:
            if volume_id in self._doomed:
                return _refused(f"volume {volume_id} is being destroyed; launch it with another one")
            if self._account.has_volume(volume_id):
                return _refused(f"volume {volume_id} is used by another task; launch it when that has ended")
        return None

    def destroy(self, volume_id: str) -> None:
        """Delete a volume's data: now, or when the task that uses it has ended."""
        if self._doomed.get(volume_id) is not Doom.DELETING:
            self._doomed[volume_id] = Doom.WAITING
            self._delete_unused(volume_id)

    def released(self, spec: TaskSpec) -> None:
        """Note that a task has ended."""
        for volume_id in spec.volume_ids:
            if self._doomed.get(volume_id) is Doom.WAITING:
                self._delete_unused(volume_id)

    def deleted(self, volume_id: str, problem: str | None, now: float) -> None:
        """Tell the master that the data is gone, or try again later."""
        if problem is None:
            self._doomed.pop(volume_id, None)
            self._effects.tell(VolumeDestroyed(volume_id))
        elif volume_id in self._doomed:
            self._doomed[volume_id] = Doom.FAILED
            if not self._timers.is_set(TimerKind.VOLUMES):
                self._timers.set(TimerKind.VOLUMES, now + self._policy.volume_retry_s)

    def retry(self) -> None:
        """Try again what could not be deleted."""
        for volume_id, doom in list(self._doomed.items()):
            if doom is Doom.FAILED:
                self._delete_unused(volume_id)

    def _delete_unused(self, volume_id: str) -> None:
        if not self._account.has_volume(volume_id):
            self._doomed[volume_id] = Doom.DELETING
            self._effects.do(DeleteVolume(volume_id))


def _refused(message: str) -> LaunchRefused:
    return LaunchRefused(TaskState.TASK_DROPPED, Reason.AGENT_REFUSED, message)
