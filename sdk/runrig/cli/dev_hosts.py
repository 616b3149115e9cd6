"""`runrig dev --hosts N`: agents on hosts of their own, each a container with its own engine."""

from __future__ import annotations

import dataclasses
import sys

from runrig._hosts import Host, Hosts, HostSettings, sweep
from runrig.cli.cluster import ClusterFile
from runrig.cli.dev import Ending, run_parts
from runrig.cli.output import hint
from runrig.cli.plan import AGENT_GRPC, AGENT_HTTP, Choices, Machine, Ports, claims, plan, share
from runrig.cli.ports import check_free
from runrig.cli.supervisor import SupervisorSettings
from runrig.errors import Conflict, InvalidInput

WORK_DIR = "/var/lib/runrig/agent"  # on the host's own disk
ENGINE = "unix:///var/run/docker.sock"  # the host's own


def run_on_hosts(count: int, choices: Choices, settings: SupervisorSettings, ending: Ending) -> None:
    """Bring up hosts, run master and frameworks here and an agent on each; remove the hosts at the end."""
    if choices.agents:
        raise InvalidInput("--agents", choices.agents, "0 with --hosts, or left out: each host has one agent")
    file = ClusterFile(choices.data_dir)
    survivors = file.survivors()
    if survivors:
        pids = " ".join(map(str, survivors.values()))
        raise Conflict(
            f"{', '.join(survivors)} run already, left by a `runrig dev` that is gone; end them: kill {pids}"
        )
    sweep(choices.docker_host)
    hint(f"bringing up {count} hosts")
    with Hosts.up(count, settings=HostSettings(engine=choices.docker_host)) as hosts:
        choices = dataclasses.replace(choices, master_host=hosts.gateway)
        ports = Ports.free(0) if choices.auto_ports else Ports.default(0)
        machine = Machine.this(choices.data_dir)
        parts = plan(choices, ports, machine)
        check_free(claims(parts))
        master = parts[0].grpc

        def start_agents() -> None:
            for number, host in enumerate(hosts):
                host.start_agent(_command(host, master, machine, number, len(hosts), choices))
                hint(f"{host.name}: agent at {host.address}:{AGENT_GRPC}, engine at {host.engine}")

        names = {host.name for host in hosts}
        ending = dataclasses.replace(ending, keep_tasks=False)  # they run inside the hosts, and end with them
        run_parts(parts, {}, file, settings, ending, hostnames=names, also_start=start_agents)


def _command(host: Host, master: str, machine: Machine, number: int, hosts: int, choices: Choices) -> tuple[str, ...]:
    resources = share(machine, hosts, number, 31_000, choices.resources)
    return (
        *(sys.executable, "-m", "runrig", "agent", "--master", master, "--work-dir", WORK_DIR),
        *("--listen", f"{host.address}:{AGENT_GRPC}", "--http", f"{host.address}:{AGENT_HTTP}"),
        *("--hostname", host.name, "--resources", str(resources), "--docker-host", ENGINE),
        *("--runtime", choices.runtime, "--allow-remote"),
    )
