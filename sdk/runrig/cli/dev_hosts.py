"""`runrig dev --hosts N`: agents on hosts of their own, each a container with its own engine."""

from __future__ import annotations

import dataclasses

from runrig._hosts import Host, Hosts, HostSettings, sweep
from runrig.cli.cluster import ClusterFile, Part
from runrig.cli.dev import Ending, run_parts
from runrig.cli.output import hint
from runrig.cli.plan import AGENT_GRPC, AGENT_HTTP, ENV, Choices, Machine, Ports, claims, plan, runrig, share
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
    kinds = {part.name: part.kind for part, _ in file.read()}
    survivors = {name: pid for name, pid in file.survivors().items() if kinds[name] != "agent"}
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
        master = parts[0]
        agents = [_agent(host, master.grpc, machine, number, len(hosts), choices) for number, host in enumerate(hosts)]
        for host in hosts:
            hint(f"{host.name}: its engine is at {host.engine}")
        ending = dataclasses.replace(ending, keep_tasks=False)  # they run inside the hosts, and end with them
        run_parts([master, *agents, *parts[1:]], {}, file, settings, ending)


def _agent(host: Host, master: str, machine: Machine, number: int, hosts: int, choices: Choices) -> Part:
    grpc, http = f"{host.address}:{AGENT_GRPC}", f"{host.address}:{AGENT_HTTP}"
    resources = share(machine, hosts, number, 31_000, choices.resources)
    process = runrig(
        *("agent", "--master", master, "--work-dir", WORK_DIR, "--listen", grpc, "--http", http),
        *("--hostname", host.name, "--resources", str(resources), "--docker-host", ENGINE),
        *("--runtime", choices.runtime, "--allow-remote"),
    )
    env = [word for name, value in ENV for word in ("--env", f"{name}={value}")]
    engine = ("--host", host.outer) if host.outer else ()
    command = ("docker", *engine, "exec", *env, host.container, *process)
    return Part(host.name, "agent", command, (), grpc, f"http://{http}", f"http://{http}/readyz", process)
