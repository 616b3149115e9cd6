"""How long the machines search: a few seconds each in `make test`, longer where RUNRIG_EFFORT says so."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

EFFORT = int(os.environ.get("RUNRIG_EFFORT", "1"))


def searching(examples: int, steps: int = 50) -> settings:
    """Return the settings of a machine that tells `examples` histories, times the effort, of up to `steps` each.

    Time decides nothing here: a busy host must not fail a test. What fails is made short, and not explained line by
    line: that takes minutes.
    """
    return settings(
        max_examples=examples * EFFORT,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        phases=[phase for phase in Phase if phase is not Phase.explain],
    )
