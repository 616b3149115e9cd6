"""What this host has: cpus, memory, disk, gpus, ports; and what an operator says instead."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import fields, replace
from pathlib import Path

import psutil

from runrig.agents import checked_static
from runrig.errors import InvalidInput
from runrig.ids import Role
from runrig.reservations import Reservation, checked_reservation
from runrig.resources import Resources, checked_resources

DEFAULT_PORTS = ((31000, 32000),)
MEM_RESERVED_MIB = 1024
"""Left to the system and the agent, or half of the memory where that is less (as Mesos does)."""
DISK_RESERVED_MIB = 5 * 1024
"""Left free on the disk of the work directory, or half of it where that is less (as Mesos does)."""
GPU_TIMEOUT_S = 10.0
_CGROUP = Path("/sys/fs/cgroup")


def agent_resources(text: str, work_dir: Path) -> Resources:
    """Return what `text` names (`cpus:4;mem:8G;ports:[31000-31999]`), and what was found for the rest.

    Raises InvalidInput.
    """
    given = Resources.parse(text, "--resources")
    named = {part.partition(":")[0].strip() for part in text.split(";")}
    found = detected(work_dir, has_gpus_given="gpus" in named)
    keep = {
        field.name: getattr(given, field.name)
        for field in fields(Resources)
        if _NAMES.get(field.name, "") in named or field.name == "custom"
    }
    resources = checked_resources("--resources", replace(found, **keep))
    if not resources.cpu_millis or not resources.mem_mib:
        raise InvalidInput("--resources", text, "some cpus and mem")
    return resources


_NAMES = {"cpu_millis": "cpus", "mem_mib": "mem", "disk_mib": "disk", "gpus": "gpus", "ports": "ports"}


def detected(work_dir: Path, has_gpus_given: bool = False) -> Resources:
    """Look at the host, within the limits of the group that the agent itself runs in."""
    memory = min(psutil.virtual_memory().total, _memory_limit()) >> 20
    disk = shutil.disk_usage(work_dir).total >> 20
    return Resources(
        cpu_millis=min(len(os.sched_getaffinity(0)) * 1000, _cpu_limit_millis()),
        mem_mib=max(memory - MEM_RESERVED_MIB, memory // 2),
        disk_mib=max(disk - DISK_RESERVED_MIB, disk // 2),
        gpus=0 if has_gpus_given else count_gpus(),
        ports=DEFAULT_PORTS,
    )


def count_gpus(program: str = "nvidia-smi") -> int:
    """Count what the driver's tool lists; 0 where there is none."""
    try:
        listing = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=GPU_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return 0
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def parse_attributes(text: str) -> tuple[tuple[str, str], ...]:
    """Read `rack:a;zone:eu-1`; raise InvalidInput."""
    attributes: list[tuple[str, str]] = []
    for part in filter(None, (piece.strip() for piece in text.split(";"))):
        name, separator, value = (piece.strip() for piece in part.partition(":"))
        if not separator or not name or not value or max(len(name), len(value)) > 255:
            raise InvalidInput("--attributes", part, "name:value pairs joined by `;`, such as rack:a;zone:eu-1")
        if name == "hostname":
            raise InvalidInput("--attributes", part, "any name but hostname, which every agent has by itself")
        if name in dict(attributes):
            raise InvalidInput("--attributes", part, f"each attribute once, but {name} is given twice")
        attributes.append((name, value))
    return tuple(attributes)


def parse_reservations(texts: tuple[str, ...], resources: Resources) -> tuple[Reservation, ...]:
    """Read `ssd=db:cpus:2;mem:4G;disk:100G` each, out of `resources`; raise InvalidInput."""
    reservations = tuple(map(_parse_reservation, texts))
    checked_static("--reserve", reservations, resources)
    return reservations


def _parse_reservation(text: str) -> Reservation:
    name, has_role, rest = text.partition("=")
    role, has_amounts, amounts = rest.partition(":")
    if not has_role or not has_amounts:
        raise InvalidInput("--reserve", text, "ID=ROLE:NAME:AMOUNT;…, such as ssd=db:cpus:2;mem:4G;disk:100G")
    resources = Resources.parse(amounts, f"--reserve {name}")
    reservation = Reservation(name.strip(), Role(role.strip()), resources, is_static=True)
    return checked_reservation("--reserve", reservation)


def default_hostname() -> str:
    """Return the host's own name."""
    return platform.node() or "localhost"


def _memory_limit() -> int:
    """Return the bytes that the control group allows; without a limit, more than any host has."""
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(_CGROUP / name)
        if text.isdecimal():
            return int(text)
    return 1 << 62


def _cpu_limit_millis() -> int:
    for names in (("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")):
        words = " ".join(_read(_CGROUP / name) for name in names).split()
        if len(words) == 2 and all(word.isdecimal() for word in words) and int(words[1]):
            return max(1, int(words[0]) * 1000 // int(words[1]))
    return 1 << 31


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
