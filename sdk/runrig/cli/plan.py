"""What `runrig dev` starts: the parts of a cluster, with their ports and their share of the machine."""

from __future__ import annotations

import dataclasses
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from runrig.cli.cluster import Part
from runrig.cli.ports import LOCALHOST, Claim, FreePorts
from runrig.cli.version import installed
from runrig.resources import Resources

MASTER_GRPC, MASTER_HTTP = 5055, 5050
AGENT_GRPC, AGENT_HTTP = 5051, 5151  # of the first; 5055 is left out
SERVICE, BATCH = 8080, 8090
MAX_AGENTS = 64
RACKS = "ab"  # an attribute to try constraints with

TASK_PORTS = 31_000  # of the first agent; all agents share TASK_PORT_COUNT
TASK_PORT_COUNT = 1_000
LEAST_CPU_MILLIS = 2_000  # cpus are shares, not walls: an app of one cpu must fit somewhere on a small machine
MEM_SHARE = 0.8  # the rest is for Runrig and the person at the keyboard
DISK_SHARE = 0.5

SILENCE_TIMEOUT_S = 30.0  # a person waits for what a silent agent does; in production it is 75
HEARTBEAT_S = 5.0

ENV = (("PYTHONUNBUFFERED", "1"),)  # a log must be whole when its writer is killed


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user chose; paths are absolute."""

    agents: int
    data_dir: Path
    runtime: str = "auto"
    docker_host: str = ""
    resources: str = ""
    """Of each agent; what it does not name is the share of the machine."""
    auto_ports: bool = False
    master_host: str = LOCALHOST
    """Where the master listens; all others listen on LOCALHOST."""

    def as_json(self) -> dict[str, object]:
        """Return what a plan depends on: the same again is the same plan."""
        return {
            **dataclasses.asdict(self),
            "data_dir": str(self.data_dir),
            "python": sys.executable,
            "version": installed(),
        }


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to share."""

    cpu_millis: int
    mem_mib: int
    disk_mib: int

    @classmethod
    def this(cls, directory: Path) -> Machine:
        """Look at this machine, and at the disk that holds `directory`."""
        disk = os.statvfs(directory)
        return cls(
            len(os.sched_getaffinity(0)) * 1000 if hasattr(os, "sched_getaffinity") else 1000 * (os.cpu_count() or 1),
            os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
            disk.f_bavail * disk.f_frsize >> 20,
        )


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports of a cluster; those of agents in their order."""

    master_grpc: int
    master_http: int
    service: int
    batch: int
    agents: tuple[tuple[int, int], ...]
    tasks: int
    """The first of those that tasks get."""

    @classmethod
    def default(cls, agents: int) -> Ports:
        """Return the documented ports."""
        grpc = [port for port in range(AGENT_GRPC, AGENT_GRPC + agents + 1) if port != MASTER_GRPC][:agents]
        http = range(AGENT_HTTP, AGENT_HTTP + agents)
        return cls(MASTER_GRPC, MASTER_HTTP, SERVICE, BATCH, tuple(zip(grpc, http, strict=True)), TASK_PORTS)

    @classmethod
    def free(cls, agents: int) -> Ports:
        """Choose ports that nobody uses."""
        free = FreePorts()
        master = free.one(), free.one()
        pairs = tuple((free.one(), free.one()) for _ in range(agents))
        return cls(*master, free.one(), free.one(), pairs, free.block(TASK_PORT_COUNT))


def claims(parts: list[Part]) -> list[Claim]:
    """Say who wants which port."""
    return [
        Claim(int(port), f"{part.name}{kind}", host)
        for part in parts
        for address, kind in ((part.grpc, ""), (part.http.removeprefix("http://"), " (HTTP)" if part.grpc else ""))
        if address
        for host, _, port in [address.rpartition(":")]
    ]


def plan(choices: Choices, ports: Ports, machine: Machine) -> list[Part]:
    """Return the parts in the order of their start."""
    master = _master(choices, ports)
    agents = [_agent(choices, ports, machine, master.grpc, number) for number in range(choices.agents)]
    return [
        master,
        *agents,
        _framework("service", ("service", "run"), ports.service, choices, master.grpc),
        _framework("batch", ("batch", "serve"), ports.batch, choices, master.grpc),
    ]


def share(machine: Machine, agents: int, number: int, first_port: int, given: str) -> Resources:
    """Return what agent `number` of `agents` offers: its part of the machine, save for what was given."""
    size = TASK_PORT_COUNT // agents
    begin = first_port + number * size
    default = {
        "cpus": f"{max(machine.cpu_millis // agents, LEAST_CPU_MILLIS) / 1000:.1f}",
        "mem": f"{int(machine.mem_mib * MEM_SHARE) // agents}M",
        "disk": f"{int(machine.disk_mib * DISK_SHARE) // agents}M",
        "ports": f"[{begin}-{begin + size - 1}]",
    }
    Resources.parse(given, "--resources")
    named = {part.partition(":")[0].strip() for part in given.split(";")}
    both = [given, *(f"{name}:{amount}" for name, amount in default.items() if name not in named)]
    return Resources.parse(";".join(filter(None, both)), "--resources")


def runrig(*words: str) -> tuple[str, ...]:
    """Return the command line of a command of this very installation."""
    return (sys.executable, "-m", "runrig", *words)


def _master(choices: Choices, ports: Ports) -> Part:
    grpc = f"{choices.master_host}:{ports.master_grpc}"
    http = f"{choices.master_host}:{ports.master_http}"
    state = f"sqlite:///{choices.data_dir / 'master' / 'master.db'}"
    command = runrig(
        *("master", "--listen", grpc, "--http", http, "--state", state),
        *("--silence-timeout", f"{SILENCE_TIMEOUT_S:g}", "--heartbeat", f"{HEARTBEAT_S:g}"),
        *(() if choices.master_host == LOCALHOST else ("--allow-remote",)),
    )
    return Part("master", "master", command, ENV, grpc, f"http://{http}", f"http://{http}/readyz")


def _agent(choices: Choices, ports: Ports, machine: Machine, master: str, number: int) -> Part:
    name = f"agent-{number + 1}"
    grpc, http = (f"{LOCALHOST}:{port}" for port in ports.agents[number])
    resources = share(machine, choices.agents, number, ports.tasks, choices.resources)
    command = runrig(
        "agent",
        *("--master", master, "--work-dir", str(choices.data_dir / "agents" / name)),
        *("--listen", grpc, "--http", http, "--hostname", name),
        *(
            "--resources",
            str(resources),
            "--attributes",
            f"rack:{RACKS[number % len(RACKS)]}",
            "--runtime",
            choices.runtime,
        ),
        *(("--docker-host", choices.docker_host) if choices.docker_host else ()),
        "--remove-ended",
    )
    return Part(name, "agent", command, ENV, grpc, f"http://{http}", f"http://{http}/readyz")


def _framework(
    kind: Literal["service", "batch"], words: tuple[str, str], port: int, choices: Choices, master: str
) -> Part:
    listen = f"{LOCALHOST}:{port}"
    data = str(choices.data_dir / kind)
    command = runrig(*words, "--master", master, "--listen", listen, "--data-dir", data)
    return Part(kind, kind, command, ENV, "", f"http://{listen}", f"http://{listen}/readyz")
