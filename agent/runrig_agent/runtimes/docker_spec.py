"""From a task to a container: the body of the engine's `create`, as plain data.

Secure by default: never privileged, no namespace of the host but the network when asked for, no new
privileges, few capabilities, bounded memory, processes and logs. What a task may not have is refused here,
with words.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from runrig.ids import FrameworkId, TaskId
from runrig.tasks import Command, Container, NetworkMode, Reason, TaskSpec, Volume
from runrig_agent.runtime import LaunchFailed, LaunchOrder, TaskKey
from runrig_agent.runtimes.docker_settings import ContainerSettings

SANDBOX = "/mnt/runrig/sandbox"
"""Where a container finds its sandbox; RUNRIG_SANDBOX says so."""

AGENT_LABEL = "runrig.agent"
FRAMEWORK_LABEL = "runrig.framework"
TASK_LABEL = "runrig.task"
SPEC_LABEL = "runrig.spec"

MIN_MEMORY_BYTES = 6 << 20
"""The engine takes no lower limit."""

_Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ContainerPlan:
    """What to create: under which name, and with which body."""

    name: str
    body: _Body

    @property
    def labels(self) -> dict[str, str]:
        """The labels by which the container is known again."""
        labels: dict[str, str] = self.body["Labels"]
        return labels


def planned(order: LaunchOrder, agent: str, settings: ContainerSettings) -> ContainerPlan:
    """Return the container for a task; raises LaunchFailed for what it may not have."""
    spec = order.spec
    container = spec.container
    assert container is not None, "checked_task admits no docker task without container"
    host: _Body = {
        "NetworkMode": _network(container),
        "PortBindings": _port_bindings(spec, container),
        "Mounts": [_mount(str(order.sandbox), SANDBOX), *(_volume(each, order, settings) for each in spec.volumes)],
        "ReadonlyRootfs": container.read_only_root,
        "Init": settings.use_init,
        "Privileged": False,
        "SecurityOpt": ["no-new-privileges"],
        "CapDrop": list(settings.dropped_capabilities),
        "LogConfig": _log_config(settings),
        **_limits(spec, settings),
    }
    body: _Body = {
        "Image": container.image,
        "Env": environment_inside(order.env),
        "User": spec.command.user or settings.default_user,
        "Labels": labels_of(agent, order.key),
        "ExposedPorts": {port: {} for port in host["PortBindings"]},
        "Healthcheck": {"Test": ["NONE"]},  # the agent checks health itself
        "HostConfig": host,
        **_command(spec.command),
    }
    for name, value in container.parameters:
        _add_parameter(body, name, value, settings)
    body["Labels"][SPEC_LABEL] = _digest(json.dumps(body, sort_keys=True))
    return ContainerPlan(container_name(agent, order.key), body)


def container_name(agent: str, key: TaskKey) -> str:
    """Return the name for a task's container: readable, and its own by a hash."""
    words = (re.sub(r"[^A-Za-z0-9_.-]+", "-", word) for word in (agent[:12], key[1][:40]))
    return "-".join(["runrig", *words, _digest("\0".join((agent, *key)))[:10]])


def labels_of(agent: str, key: TaskKey) -> dict[str, str]:
    """Return the labels that say whose container it is."""
    return {AGENT_LABEL: agent, FRAMEWORK_LABEL: key[0], TASK_LABEL: key[1]}


def key_of(labels: dict[str, str]) -> TaskKey:
    """Return the task that a container's labels name."""
    return FrameworkId(labels.get(FRAMEWORK_LABEL, "")), TaskId(labels.get(TASK_LABEL, ""))


def environment_inside(env: Iterable[tuple[str, str]]) -> list[str]:
    """Return a task's environment in the engine's form, with its sandbox where the container has it."""
    return [f"{name}={SANDBOX if name == 'RUNRIG_SANDBOX' else value}" for name, value in env]


def _command(command: Command) -> _Body:
    """Let a shell replace the image's entry point, words be given to it, and nothing leave it as it is."""
    body: _Body = {}
    if command.shell:
        body |= {"Entrypoint": ["/bin/sh", "-c", command.shell], "Cmd": []}
    elif command.argv:
        body |= {"Cmd": list(command.argv)}
    if command.working_directory:
        body |= {"WorkingDir": str(PurePosixPath(SANDBOX, command.working_directory))}
    return body


def _network(container: Container) -> str:
    names = {NetworkMode.HOST: "host", NetworkMode.BRIDGE: "bridge", NetworkMode.NONE: "none"}
    if container.network in names:
        return names[container.network]
    name = container.network_name
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) or name in ("host", "none", "bridge", "default"):
        raise _refused("container.network_name", name, "the name of a network that was made on the agent's engine")
    return name


def _port_bindings(spec: TaskSpec, container: Container) -> _Body:
    """Map ports of the host; on the host's own network there is nothing to map."""
    if container.network not in (NetworkMode.BRIDGE, NetworkMode.USER):
        return {}
    bindings: dict[str, list[_Body]] = {}
    for port in spec.ports:
        inside = f"{port.container_port or port.host_port}/{port.protocol}"
        bindings.setdefault(inside, []).append({"HostPort": str(port.host_port)})
    return bindings


def _volume(volume: Volume, order: LaunchOrder, settings: ContainerSettings) -> _Body:
    """Mount a persistent volume, or what a path of the host really is, so that no link leads elsewhere."""
    is_persistent = bool(volume.volume_id)
    source = order.volumes[volume.volume_id] if is_persistent else Path(volume.host_path).resolve()
    target = PurePosixPath(SANDBOX, volume.container_path)
    roots = [root.resolve() for root in settings.volume_roots]
    if not is_persistent and not any(source.is_relative_to(root) for root in roots):
        allowed = ", ".join(map(str, roots)) or "none"
        raise LaunchFailed(
            Reason.VOLUME_REFUSED,
            f"volume {volume.host_path!r} is not within what this agent allows: {allowed}",
            is_task_fault=True,
        )
    if ".." in target.parts or target == PurePosixPath("/"):
        raise LaunchFailed(
            Reason.VOLUME_REFUSED,
            f"volume {volume.volume_id or volume.host_path!r} cannot be mounted at {volume.container_path!r}",
            is_task_fault=True,
        )
    return _mount(str(source), str(target), volume.read_only)


def _mount(source: str, target: str, read_only: bool = False) -> _Body:
    return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}


def _limits(spec: TaskSpec, settings: ContainerSettings) -> _Body:
    memory = (spec.limits.mem_mib or spec.resources.mem_mib) << 20
    limits: _Body = {
        "CpuShares": max(2, spec.resources.cpu_millis * 1024 // 1000),
        "PidsLimit": spec.limits.pids or settings.default_pids,
    }
    if memory:
        memory = max(memory, MIN_MEMORY_BYTES)
        limits |= {"Memory": memory, "MemorySwap": memory}  # the same: no swap
    if spec.limits.cpu_millis:
        limits |= {"NanoCpus": spec.limits.cpu_millis * 1_000_000}
    return limits


def _log_config(settings: ContainerSettings) -> _Body:
    """Have the engine keep its logs in its compact form: `json-file` takes twice the disk, so it rotates earlier."""
    options = {
        "compress": "false",
        "max-size": f"{max(1, settings.engine_log_max_bytes >> 10)}k",
        "max-file": str(settings.engine_log_max_files),
    }
    return {"Type": "local", "Config": options}


# --- parameters: named and written as the options of `docker run` -----------------------------------------


def _add_parameter(body: _Body, name: str, value: str, settings: ContainerSettings) -> None:
    add = _PARAMETERS.get(name)
    if add is None or name not in settings.allowed_parameters:
        allowed = sorted(settings.allowed_parameters & set(_PARAMETERS))
        raise _refused("container.parameters", name, ", ".join(allowed) or "none on this agent")
    if name == "cap-add" and _capability(value) not in settings.allowed_capabilities:
        allowed = sorted(settings.allowed_capabilities)
        raise _refused("container.parameters cap-add", value, ", ".join(allowed) or "none on this agent")
    add(body, value)


def _add_shm_size(body: _Body, value: str) -> None:
    match = re.fullmatch(r"(\d{1,9})([bkmg]?)b?", value.lower())
    if match is None:
        raise _refused("container.parameters shm-size", value, "a size such as 64m")
    body["HostConfig"]["ShmSize"] = int(match[1]) << {"": 0, "b": 0, "k": 10, "m": 20, "g": 30}[match[2]]


def _add_ulimit(body: _Body, value: str) -> None:
    match = re.fullmatch(r"([a-z]+)=(\d{1,18})(?::(\d{1,18}))?", value)
    if match is None:
        raise _refused("container.parameters ulimit", value, "such as nofile=1024:4096")
    soft, hard = int(match[2]), int(match[3] or match[2])
    body["HostConfig"].setdefault("Ulimits", []).append({"Name": match[1], "Soft": soft, "Hard": hard})


def _add_tmpfs(body: _Body, value: str) -> None:
    path, _, options = value.partition(":")
    if not path.startswith("/"):
        raise _refused("container.parameters tmpfs", value, "an absolute path, such as /tmp:size=64m")
    body["HostConfig"].setdefault("Tmpfs", {})[path] = options


def _add_host(body: _Body, value: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9_.-]+:[0-9A-Fa-f.:]+", value):
        raise _refused("container.parameters add-host", value, "such as db:10.0.0.7")
    body["HostConfig"].setdefault("ExtraHosts", []).append(value)


def _add_hostname(body: _Body, value: str) -> None:
    if body["HostConfig"]["NetworkMode"] == "host":
        raise _refused("container.parameters hostname", value, "none on the host's network, which has its own")
    body["Hostname"] = value


def _listed(name: str) -> Callable[[_Body, str], None]:
    def add(body: _Body, value: str) -> None:
        body["HostConfig"].setdefault(name, []).append(value)

    return add


def _add_capability(body: _Body, value: str) -> None:
    body["HostConfig"].setdefault("CapAdd", []).append(_capability(value))


def _drop_capability(body: _Body, value: str) -> None:
    body["HostConfig"]["CapDrop"].append(_capability(value))


def _capability(value: str) -> str:
    return value.upper().removeprefix("CAP_")


_PARAMETERS: dict[str, Callable[[_Body, str], None]] = {
    "add-host": _add_host,
    "cap-add": _add_capability,
    "cap-drop": _drop_capability,
    "dns": _listed("Dns"),
    "dns-option": _listed("DnsOptions"),
    "dns-search": _listed("DnsSearch"),
    "hostname": _add_hostname,
    "shm-size": _add_shm_size,
    "tmpfs": _add_tmpfs,
    "ulimit": _add_ulimit,
}


def _refused(field: str, value: str, allowed: str) -> LaunchFailed:
    message = f"{field}: {value!r} is not allowed; allowed: {allowed}"
    return LaunchFailed(Reason.INVALID_TASK, message, is_task_fault=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
