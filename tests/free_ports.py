"""Ports that nobody listens on at the moment, and that the kernel gives to no outgoing connection meanwhile."""

from __future__ import annotations

from runrig.cli.ports import FreePorts

PORTS = FreePorts()


def free_ports(count: int) -> list[int]:
    """Return `count` ports of 127.0.0.1; none is given twice by this process."""
    return [PORTS.one() for _ in range(count)]


def free_port() -> int:
    """Return one port of 127.0.0.1."""
    return PORTS.one()
