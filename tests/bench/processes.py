"""The processes that are measured, and what the kernel says that they cost."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 20.0
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used, in steps of 10 ms: what to trust on a machine with other work."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) / 1024


@contextlib.contextmanager
def running(
    argv: list[str], stdout: IO[str] | int, stderr: IO[str] | None, stdin: int
) -> Iterator[subprocess.Popen[str]]:
    """Run a program of this installation; end it at the end, by force if it takes too long."""
    process = subprocess.Popen([sys.executable, "-m", *argv], stdin=stdin, stdout=stdout, stderr=stderr, text=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


class Master:
    """A master process, and where it listens."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        """Wait until it serves; `log` is what it writes to stderr, as JSON lines."""
        self.pid = process.pid
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and process.poll() is None:
            for line in log.read_text().splitlines():
                if '"master leads"' in line:
                    entry = json.loads(line)
                    self.grpc, self.http = str(entry["grpc"]), str(entry["http"])
                    return
            time.sleep(0.02)
        raise RuntimeError(f"the master does not serve:\n{log.read_text()}")


@contextlib.contextmanager
def master_process(directory: Path) -> Iterator[Master]:
    """Run a master with a SQLite store in `directory`, on ports that were free.

    Offers outlive every benchmark, so that none is measured with expiries in it.
    """
    log = directory / "master.log"
    argv = ["runrig_master", "--state", f"sqlite:///{directory.resolve()}/master.db", "--log-format", "json"]
    argv += ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--offer-timeout", "600"]
    with log.open("w") as errors, running(argv, subprocess.DEVNULL, errors, subprocess.DEVNULL) as process:
        yield Master(process, log)


@contextlib.contextmanager
def agent_process(directory: Path, master: Master, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Run a real agent in `directory`."""
    argv = ["runrig_agent", "--master", master.grpc, "--work-dir", str(directory / "agent"), "--ports", "auto"]
    with (
        (directory / "agent.log").open("w") as errors,
        running([*argv, *options], subprocess.DEVNULL, errors, subprocess.DEVNULL) as process,
    ):
        yield process


class EmulatedAgents:
    """The process of `tests.bench.emulated`: many agents at the far ends of real gRPC streams."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.pid = process.pid
        self._process = process

    async def answer(self, timeout_s: float) -> dict[str, Any]:
        """Return the next line that it writes."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(self._process.stdout.readline), timeout_s)
        if not line:
            raise RuntimeError("the emulated agents have ended; see what they wrote to stderr")
        return dict(json.loads(line))

    async def count(self) -> dict[str, Any]:
        """Return what they have counted: tasks launched, updates sent and not yet acknowledged."""
        assert self._process.stdin is not None
        self._process.stdin.write("count\n")
        self._process.stdin.flush()
        return await self.answer(START_TIMEOUT_S)


@contextlib.contextmanager
def emulated_agents(master: Master, agents: int, resources: str, connections: int) -> Iterator[EmulatedAgents]:
    """Run agents that are emulated, over as many gRPC connections as said; they register at once."""
    argv = ["tests.bench.emulated", "--master", master.grpc, "--agents", str(agents), "--resources", resources]
    argv += ["--connections", str(connections)]
    with running(argv, subprocess.PIPE, None, subprocess.PIPE) as process:
        yield EmulatedAgents(process)
