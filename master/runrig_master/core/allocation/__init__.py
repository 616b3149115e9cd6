"""Who is offered what: docs/allocation.md in code. The README beside this file walks through it."""

from __future__ import annotations

from runrig_master.core.allocation.passes import allocate

__all__ = ["allocate"]
