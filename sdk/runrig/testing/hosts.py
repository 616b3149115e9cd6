"""A cluster over docker-in-docker hosts: a master and both frameworks here, an agent with its own engine on each host.

For integration tests of whatever must survive a host: cut it off, freeze it, kill it, bring it back, restart its
engine. Needs root, a Docker engine and this machine's files (see `runrig._hosts`); the tests of Runrig use it in
`tests/dind`.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from runrig._hosts import Host, Hosts, HostSettings
from runrig.testing.processes import until

AGENT_PORT, AGENT_HTTP_PORT = 5051, 5052
WORK_DIR = "/var/lib/runrig/agent"  # on the host's own disk, which survives the host's death
ENGINE = "unix:///var/run/docker.sock"  # the host's own


class Process:
    """A process of `runrig` that can be killed and started again."""

    def __init__(self, name: str, words: Sequence[str], log: Path) -> None:
        self.name = name
        self.words = words
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "runrig", *self.words]
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def kill(self) -> None:
        """Kill it at once, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class HostsCluster:
    """`hosts` with an agent each, and the `processes` master, service and batch on this machine."""

    def __init__(self, directory: Path, hosts: Hosts, silence_timeout_s: float) -> None:
        self.directory = directory
        self.hosts = hosts
        ports = _free_ports(hosts.gateway, 4)
        self.master = f"{hosts.gateway}:{ports[0]}"
        self.service = f"http://127.0.0.1:{ports[2]}"
        self.batch = f"http://127.0.0.1:{ports[3]}"
        self.processes = {
            name: Process(name, words, directory / f"{name}.log")
            for name, words in {
                "master": (
                    *("master", "--listen", self.master, "--http", f"127.0.0.1:{ports[1]}", "--allow-remote"),
                    *("--state", f"sqlite:{directory}/master.db"),
                    *("--silence-timeout", f"{silence_timeout_s:g}", "--heartbeat", f"{silence_timeout_s / 5:g}"),
                ),
                "service": (
                    *("service", "run", "--master", self.master, "--listen", f"127.0.0.1:{ports[2]}"),
                    *("--data-dir", f"{directory}/service"),
                ),
                "batch": (
                    *("batch", "serve", "--master", self.master, "--listen", f"127.0.0.1:{ports[3]}"),
                    *("--data-dir", f"{directory}/batch"),
                ),
            }.items()
        }

    def start(self) -> None:
        """Start all processes and agents, and wait until every agent is there and both frameworks are subscribed."""
        for process in self.processes.values():
            process.start()
        for host in self.hosts:
            host.start_agent(self._agent(host))
        until(lambda: self._count("agents", "active") == len(self.hosts), "every agent is active", 60)
        until(lambda: self._count("frameworks", "active") == 2, "both frameworks are subscribed", 60)

    def close(self) -> None:
        """Kill all processes; the hosts, and the tasks within them, end with their owner."""
        for process in self.processes.values():
            process.kill()

    def runrig(self, *words: str, timeout_s: float = 60.0) -> str:
        """Run a command of `runrig` against this cluster and return what it says."""
        return self._run(words, {}, timeout_s)

    def json(self, *words: str) -> Any:
        """Return what a command of `runrig` says in JSON."""
        return json.loads(self._run(words, {"RUNRIG_OUTPUT": "json"}))

    def _run(self, words: Sequence[str], more_env: Mapping[str, str], timeout_s: float = 60.0) -> str:
        addresses = {"RUNRIG_MASTER": self.master, "RUNRIG_SERVICE": self.service, "RUNRIG_BATCH": self.batch}
        command = [sys.executable, "-m", "runrig", *words]
        env = {**os.environ, **addresses, **more_env}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=timeout_s, check=False)
        if done.returncode != 0:
            raise AssertionError(f"runrig {' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def tasks(self, state: str = "TASK_RUNNING") -> dict[str, dict[str, Any]]:
        """Return the tasks in a state, by id."""
        return {task["id"]: task for task in self.json("tasks", "ls") if task["state"] == state}

    def agent_state(self, host: Host) -> str:
        """Return the state of a host's agent, in lower case."""
        return next(str(a["state"]).lower() for a in self.json("agents", "ls") if a["hostname"] == host.name)

    def containers(self, host: Host) -> list[str]:
        """Return the ids of the containers that run on a host, whoever started them."""
        return host.docker("ps", "-q", "--no-trunc").split()

    def _count(self, kind: str, state: str) -> int:
        return sum(str(item["state"]).lower().endswith(state) for item in self.json(kind, "ls"))

    def _agent(self, host: Host) -> list[str]:
        return [
            *(sys.executable, "-m", "runrig", "agent", "--master", self.master, "--work-dir", WORK_DIR),
            *("--listen", f"{host.address}:{AGENT_PORT}", "--http", f"{host.address}:{AGENT_HTTP_PORT}"),
            *("--hostname", host.name, "--allow-remote", "--docker-host", ENGINE),
            *("--resources", "cpus:4;mem:1G;ports:[31000-31099]"),
        ]


@contextmanager
def hosts_cluster(
    directory: Path, count: int = 3, silence_timeout_s: float = 5.0, settings: HostSettings | None = None
) -> Iterator[HostsCluster]:
    """Bring up `count` hosts with agents, a master and both frameworks, while the block runs.

    `silence_timeout_s` is short, so that a test need not wait long for an agent to be given up.
    """
    with ExitStack() as stack:
        hosts = stack.enter_context(Hosts.up(count, settings=settings if settings is not None else HostSettings()))
        cluster = HostsCluster(directory, hosts, silence_timeout_s)
        stack.callback(cluster.close)
        cluster.start()
        yield cluster


def _free_ports(host: str, count: int) -> list[int]:
    held = [socket.create_server((host, 0)) for _ in range(count)]
    ports = [int(item.getsockname()[1]) for item in held]
    for item in held:
        item.close()
    return ports
