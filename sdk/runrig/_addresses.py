"""Addresses as `host:port`."""

from __future__ import annotations

from ipaddress import ip_address

from runrig.errors import InvalidInput


def split_address(field: str, address: str) -> tuple[str, int]:
    """Read `host:port`, an IPv6 host in brackets; raise InvalidInput naming `field`."""
    host, separator, port = address.rpartition(":")
    if not separator or not (port.isdecimal() and len(port) <= 5) or int(port) > 65535:
        raise InvalidInput(field, address, "host:port, such as 127.0.0.1:5055")
    return host.strip("[]") or "127.0.0.1", int(port)


def host_of(address: str) -> str:
    """Return the host of an address with or without a port."""
    name, colon, port = address.rpartition(":")
    return (name if colon and port.isdigit() else address).strip("[]")


def is_loopback(address: str) -> bool:
    """Say whether only this machine can reach `address`, with or without a port."""
    host = host_of(address)
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
