"""Why it waits, what it holds, what would help: by the predicates that decide, run dry.

An explanation is computed from the cluster as it stands; it changes nothing. `funnel` asks the predicates of every
agent, `details` puts them in words, `remedies` tries what would help, `demand` judges. The other subjects have a file
each. docs/explain.md shows how to read what comes of it.
"""

from __future__ import annotations

from runrig_master.core.explain.answers import explain
from runrig_master.core.explain.pending import pending_by_reason

__all__ = ["explain", "pending_by_reason"]
