"""What the end of an attempt means for its index: who pays, and whether another attempt has a chance."""

from __future__ import annotations

from enum import Enum

from runrig.tasks import CLUSTER_REASONS, Reason, TaskState


class Verdict(Enum):
    """The meaning of an end."""

    SUCCESS = "success"
    FAILURE = "failure"
    """The task's own fault: it uses up a retry."""
    FAULT = "fault"
    """The cluster's fault: the task is tried again without charge."""
    YIELD = "yield"
    """Its place was asked back, for a drain or for who is more urgent: tried again at once, however often."""
    HOPELESS = "hopeless"
    """The task can never run, so that no retry helps."""


_OWN_REASONS = frozenset({Reason.MAX_RUN_TIME, Reason.OUT_OF_MEMORY, Reason.HEALTH_CHECK, Reason.EXITED})
"""The task's own fault, by whatever state its end is told."""
_ASKED_BACK = frozenset({Reason.PREEMPTED, Reason.AGENT_DRAINED})


def verdict_of(state: TaskState, reason: Reason, *, is_given_back: bool = False) -> Verdict:
    """Judge the end of an attempt; what was stopped here was stopped to give its place back."""
    if state is TaskState.TASK_FINISHED:
        return Verdict.SUCCESS
    if is_given_back or reason in _ASKED_BACK:
        return Verdict.YIELD
    if state is TaskState.TASK_FAILED:
        return Verdict.FAULT if reason in CLUSTER_REASONS else Verdict.FAILURE
    if state is TaskState.TASK_ERROR:
        is_fault = reason in CLUSTER_REASONS or reason is Reason.TASK_ID_USED
        return Verdict.FAULT if is_fault else Verdict.HOPELESS
    return Verdict.FAILURE if reason in _OWN_REASONS else Verdict.FAULT


def delay_s(first_s: float, times: int, most_s: float) -> float:
    """Return the pause after the `times`-th end: `first_s`, doubling each time, at most `most_s`."""
    return float(min(first_s * 2 ** min(times - 1, 30), most_s))
