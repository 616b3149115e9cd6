"""A real master and a real agent, without the two frameworks, for the examples."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runrig.testing.processes import until
from tests.free_ports import free_ports


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a master with one agent."""
    directory: Path = tmp_path_factory.mktemp("examples")
    grpc, http, agent_grpc, agent_http = (f"127.0.0.1:{port}" for port in free_ports(4))
    commands = {
        "master": ["master", "--listen", grpc, "--http", http, "--state", f"sqlite:{directory}/master.db"],
        "agent": [
            *("agent", "--master", grpc, "--work-dir", str(directory / "agent"), "--runtime", "process"),
            *("--listen", agent_grpc, "--http", agent_http, "--resources", "cpus:4;mem:2G;ports:[31900-31999]"),
        ],
    }
    started = []
    for name, words in commands.items():
        log = (directory / f"{name}.log").open("wb")
        started.append(subprocess.Popen([sys.executable, "-m", "runrig", *words], stdout=log, stderr=log))
        log.close()
    try:
        until(lambda: "agent admitted" in (directory / "master.log").read_text(), "the agent is admitted")
        yield grpc
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait(20)
