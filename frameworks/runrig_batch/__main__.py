"""`python -m runrig_batch`: the same as `runrig batch`."""

from __future__ import annotations

from runrig_batch.cli import batch

if __name__ == "__main__":
    batch()
