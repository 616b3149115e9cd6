"""How much the framework lets itself be asked for: each field is a setting."""

from __future__ import annotations

from dataclasses import dataclass

from runrig.ids import Role


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that one app, and all of them together, may be."""

    apps: int = 10_000
    """Apps: ten times what the largest clusters known to us ran."""

    instances: int = 10_000
    """Instances of one app: each is a few kilobytes of memory and one durable entry."""

    ports: int = 100
    """Ports of one instance: an agent has a thousand by default."""

    list_length: int = 256
    """Entries of any list or map in an app, env excepted: the SDK's own bound (`runrig.tasks.MAX_LIST`)."""

    env_length: int = 900
    """Variables of one app: the SDK allows 1024, and the framework and the SDK add their own."""

    text_length: int = 16_384
    """Characters of one text, such as `cmd`, or one variable's value."""

    cpus: float = 100_000
    """Cpus of one instance."""

    mib: int = 1 << 30
    """MiB of memory, or of disk, of one instance."""

    gpus: int = 1024
    """Gpus of one instance."""

    priority: int = 1000
    """The highest priority; 0 is the lowest and the default, as of batch jobs."""

    seconds: int = 366 * 86_400
    """Seconds that any interval, delay or timeout may be long."""


UNLIMITED = Limits(
    apps=1 << 60,
    instances=1 << 60,
    ports=1 << 60,
    list_length=1 << 60,
    env_length=1 << 60,
    text_length=1 << 60,
    cpus=float(1 << 60),
    mib=1 << 60,
    gpus=1 << 60,
    priority=1 << 60,
    seconds=1 << 60,
)
"""For what was admitted once: a limit that is lowered later must not make stored apps unreadable."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the framework does where the app does not say."""

    roles: tuple[Role, ...] = (Role("service"),)
    """The framework's roles; an app without a role runs in the first."""

    versions_kept: int = 25
    """Versions of each app that can be rolled back to; those that instances still run come on top."""

    service_ports: tuple[int, int] = (10_000, 20_000)
    """The range, ends included, of the service ports given to apps that do not choose their own."""
