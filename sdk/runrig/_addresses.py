"""Addresses as `host:port`."""

from __future__ import annotations

from runrig.errors import InvalidInput


def split_address(field: str, address: str) -> tuple[str, int]:
    """Read `host:port`; raise InvalidInput naming `field`."""
    host, separator, port = address.rpartition(":")
    if not separator or not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(field, address, "host:port, such as 127.0.0.1:5055")
    return host.strip("[]") or "127.0.0.1", int(port)


def is_loopback(address: str) -> bool:
    """Say whether only this machine can reach `address` (`host:port`)."""
    host = address.rpartition(":")[0].strip("[]")
    return host in ("localhost", "::1") or host.startswith("127.")
