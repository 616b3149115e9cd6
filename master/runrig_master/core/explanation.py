"""What `explain` is asked and what it answers: the vocabulary is the SDK's, as clients read it too."""

from __future__ import annotations

from dataclasses import dataclass

from runrig.explanations import (
    DeclineCount,
    DemandExplanation,
    Explanation,
    FunnelStep,
    NearMiss,
    SubjectKind,
    Verdict,
)
from runrig.ids import FrameworkId

__all__ = [
    "DeclineCount",
    "DemandExplanation",
    "Explanation",
    "FunnelStep",
    "NearMiss",
    "Subject",
    "SubjectKind",
    "Verdict",
]


@dataclass(frozen=True, slots=True)
class Subject:
    """What is to be explained.

    `framework_id` is needed for demand, and for a task id that several frameworks use; else it is empty.
    """

    kind: SubjectKind
    id: str
    framework_id: FrameworkId = FrameworkId("")
