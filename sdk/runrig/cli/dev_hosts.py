"""`runrig dev --hosts N`: agents on hosts of their own, each a container with its own engine."""

from __future__ import annotations

import dataclasses
import sys

from runrig._hosts import Host, Hosts, HostSettings
from runrig.cli.cluster import ClusterFile
from runrig.cli.dev import Ending, run_parts
from runrig.cli.output import hint
from runrig.cli.plan import AGENT_GRPC, AGENT_HTTP, Choices, Machine, Ports, claims, plan, share
from runrig.cli.ports import check_free
from runrig.cli.supervisor import SupervisorSettings
from runrig.errors import InvalidInput

WORK_DIR = "/var/lib/runrig/agent"  # on the host's own disk
ENGINE = "unix:///var/run/docker.sock"  # the host's own


def run_on_hosts(count: int, choices: Choices, settings: SupervisorSettings, ending: Ending) -> None:
    """Bring up hosts, run master and frameworks here and an agent on each; remove the hosts at the end."""
    if choices.agents:
        raise InvalidInput("--agents", choices.agents, "0 with --hosts, or left out: each host has one agent")
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

        # The tasks run inside the hosts and end with them.
        file = ClusterFile(choices.data_dir)
        names = {host.name for host in hosts}
        run_parts(parts, {}, file, settings, ending, hostnames=names, also_start=start_agents)


def _command(host: Host, master: str, machine: Machine, number: int, hosts: int, choices: Choices) -> tuple[str, ...]:
    resources = share(machine, hosts, number, 31_000, choices.resources)
    return (
        *(sys.executable, "-m", "runrig", "agent", "--master", master, "--work-dir", WORK_DIR),
        *("--listen", f"{host.address}:{AGENT_GRPC}", "--http", f"{host.address}:{AGENT_HTTP}"),
        *("--hostname", host.name, "--resources", str(resources), "--docker-host", ENGINE),
        *("--runtime", choices.runtime, "--allow-remote"),
    )
