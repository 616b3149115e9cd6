"""How long the fuzzing goes on."""

from __future__ import annotations

import os

PATIENCE_S = 30.0
"""Far above what any answer takes: only a hang meets it."""


def rounds(usual: int) -> range:
    """Return the seeds of a barrage: `usual` of them, or as many as RUNRIG_FUZZ_ROUNDS says."""
    return range(int(os.environ.get("RUNRIG_FUZZ_ROUNDS", usual)))
