"""`python -m runrig_service`: the same as `runrig service`."""

from __future__ import annotations

from runrig_service.cli import service

if __name__ == "__main__":
    service()
