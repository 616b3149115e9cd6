"""Simulate one seed after the other until one fails: the half of the hunt that runs in a copy with a bug in it.

    python -m tests.sim.seek COPY BOUND

It writes one line of JSON: the seed that failed, who objected and to what; or a seed of null.
"""

from __future__ import annotations

import json
import resource
import sys
import traceback
from pathlib import Path

import runrig
import runrig_agent
import runrig_batch
import runrig_master
import runrig_service
from tests.sim import market, run

MOST_MEMORY = 2 << 30
"""Bytes: a bug that gathers without end must not take the machine with it."""


def seek(bound: int) -> dict[str, object]:
    """Return which of the first `bound` seeds fails first, and how; whatever is raised is a failure."""
    for seed in range(bound):
        try:
            market.simulate(seed)
            run.simulate(seed)
        except run.Failed as failure:
            return {"seed": seed, "where": failure.where, "what": failure.what, "story": str(failure)}
        except Exception as error:  # noqa: BLE001 - a core that raises anything has fallen over
            place = traceback.extract_tb(error.__traceback__)[-1]
            what = f"{type(error).__name__}: {error}"
            where = f"{Path(place.filename).name}:{place.lineno}"
            return {"seed": seed, "where": where, "what": what, "story": traceback.format_exc()}
    return {"seed": None}


def check_imports(copy: Path) -> None:
    """Assert that what is simulated is the copy, not the installed tree."""
    for module in (runrig, runrig_agent, runrig_batch, runrig_master, runrig_service, run):
        assert module.__file__ is not None
        assert Path(module.__file__).is_relative_to(copy), f"{module.__file__} is not of {copy}"


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    check_imports(Path(sys.argv[1]))
    sys.stdout.write(json.dumps(seek(int(sys.argv[2]))) + "\n")
