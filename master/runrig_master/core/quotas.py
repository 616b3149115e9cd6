"""What roles may hold at most, and what they are served before fairness: which quotas can be, and which cannot.

A quota counts in the dimensions that it names, for its role with all below it. Guarantees need room: a role's own, or
what those below it are guaranteed together if that is more, stays within the limit of each role above and, unless
forced, all of them within the cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from runrig.errors import InvalidInput
from runrig.ids import Role, checked_role
from runrig.resources import Resources
from runrig_master.core.resources import Holding

MAX_QUOTA = 2**53
"""Of any dimension: more than any cluster has, and exact in every language's numbers."""
MAX_QUOTAS = 10_000
"""Of one call."""
DIMENSIONS = ("cpu_millis", "mem_mib", "disk_mib", "gpus")

Amounts = Mapping[str, int]
"""By dimension."""


@dataclass(frozen=True, slots=True)
class Quota:
    """An amount of some dimensions; those that are None do not count."""

    cpu_millis: int | None = None
    mem_mib: int | None = None
    disk_mib: int | None = None
    gpus: int | None = None

    def amounts(self) -> dict[str, int]:
        """Return what it names."""
        pairs = ((name, getattr(self, name)) for name in DIMENSIONS)
        return {name: amount for name, amount in pairs if amount is not None}

    def exceeds(self, held: Holding) -> bool:
        """Say whether it is more than what is held, in any dimension that it names."""
        return (
            (self.cpu_millis is not None and self.cpu_millis > held.cpu_millis)
            or (self.mem_mib is not None and self.mem_mib > held.mem_mib)
            or (self.disk_mib is not None and self.disk_mib > held.disk_mib)
            or (self.gpus is not None and self.gpus > held.gpus)
        )

    def admits(self, held: Holding, more: Resources) -> bool:
        """Say whether `more` can be added to what is held within it; where it is nothing, nothing matters."""
        cpu, mem, disk, gpus = more.cpu_millis, more.mem_mib, more.disk_mib, more.gpus
        return not (
            (self.cpu_millis is not None and cpu and held.cpu_millis + cpu > self.cpu_millis)
            or (self.mem_mib is not None and mem and held.mem_mib + mem > self.mem_mib)
            or (self.disk_mib is not None and disk and held.disk_mib + disk > self.disk_mib)
            or (self.gpus is not None and gpus and held.gpus + gpus > self.gpus)
        )

    def cut(self, held: Holding, resources: Resources) -> Resources:
        """Return as much of `resources` as can be added to what is held within it."""
        if self.admits(held, resources):
            return resources
        return replace(
            resources,
            cpu_millis=_cut(resources.cpu_millis, self.cpu_millis, held.cpu_millis),
            mem_mib=_cut(resources.mem_mib, self.mem_mib, held.mem_mib),
            disk_mib=_cut(resources.disk_mib, self.disk_mib, held.disk_mib),
            gpus=_cut(resources.gpus, self.gpus, held.gpus),
        )


def _cut(amount: int, most: int | None, held: int) -> int:
    return amount if most is None else max(0, min(amount, most - held))


@dataclass(frozen=True, slots=True)
class RoleQuota:
    """The limit and the guarantee of a role; None: none."""

    role: Role
    limit: Quota | None = None
    guarantee: Quota | None = None


def check_quotas(
    asked: Sequence[RoleQuota], standing: Mapping[Role, RoleQuota], capacity: Amounts, is_forced: bool
) -> None:
    """Raise InvalidInput unless all of `asked` can take the place of what stands, beside the rest of it.

    `capacity` is what the cluster has; more than that may be guaranteed only if `is_forced`, or if it is not more than
    is guaranteed already.
    """
    if not 1 <= len(asked) <= MAX_QUOTAS:
        raise InvalidInput("quotas", len(asked), f"1 to {MAX_QUOTAS}")
    seen: set[Role] = set()
    for number, quota in enumerate(asked):
        checked_role(f"quotas[{number}].role", quota.role)
        if quota.role in seen:
            raise InvalidInput(f"quotas[{number}].role", quota.role, "each role once")
        seen.add(quota.role)
        _check_amounts(quota)
    quotas = {**standing, **{quota.role: quota for quota in asked}}
    guaranteed = _guaranteed(quotas)
    _check_limits(quotas, guaranteed)
    if not is_forced:
        _check_capacity(_sum_of_tops(guaranteed), _sum_of_tops(_guaranteed(standing)), capacity)


def ancestors(role: Role) -> Iterator[Role]:
    """Yield the roles above, the nearest first: of `a/b/c` `a/b` and `a`."""
    path = role.rpartition("/")[0]
    while path:
        yield Role(path)
        path = path.rpartition("/")[0]


def is_within(role: Role, top: Role) -> bool:
    """Say whether `role` is `top` or below it."""
    return role == top or role.startswith(f"{top}/")


def _check_amounts(quota: RoleQuota) -> None:
    for kind, item in (("limit", quota.limit), ("guarantee", quota.guarantee)):
        for name, amount in (item or Quota()).amounts().items():
            if not 0 <= amount <= MAX_QUOTA:
                raise InvalidInput(f"quotas {quota.role}.{kind}.{name}", amount, f"0 to {MAX_QUOTA}")


def _guaranteed(quotas: Mapping[Role, RoleQuota]) -> dict[Role, dict[str, int]]:
    """Return what each role needs for its own guarantee or for those below it together, whichever is more."""
    needs: dict[Role, dict[str, int]] = {}
    below: dict[Role, dict[str, int]] = {}
    roles = {role for role, quota in quotas.items() if quota.guarantee is not None}
    roles.update(*(ancestors(role) for role in tuple(roles)))
    for role in sorted(roles, key=lambda role: role.count("/"), reverse=True):
        own, theirs = _named(quotas, role, "guarantee"), below.get(role, {})
        needs[role] = {name: max(own.get(name, 0), theirs.get(name, 0)) for name in DIMENSIONS}
        parent = next(ancestors(role), None)
        if parent is not None:
            _add(below.setdefault(parent, {}), needs[role])
    return needs


def _check_limits(quotas: Mapping[Role, RoleQuota], guaranteed: Mapping[Role, Amounts]) -> None:
    for role, need in guaranteed.items():
        own = _named(quotas, role, "guarantee")
        for above in (role, *ancestors(role)):
            for name, most in _named(quotas, above, "limit").items():
                if own.get(name, 0) > most:
                    whose = "its limit" if above == role else f"the limit of {above}"
                    raise InvalidInput(f"quotas {role}.guarantee.{name}", own[name], f"at most {most}, {whose}")
                if need[name] > most:
                    text = f"at least {need[name]}, which the roles below {role} are guaranteed together"
                    raise InvalidInput(f"quotas {above}.limit.{name}", most, text)


def _named(quotas: Mapping[Role, RoleQuota], role: Role, kind: str) -> dict[str, int]:
    quota: Quota | None = getattr(quotas.get(role), kind, None)
    return quota.amounts() if quota is not None else {}


def _sum_of_tops(guaranteed: Mapping[Role, Amounts]) -> dict[str, int]:
    total = dict.fromkeys(DIMENSIONS, 0)
    for role, need in guaranteed.items():
        if "/" not in role:
            _add(total, need)
    return total


def _check_capacity(wanted: Amounts, before: Amounts, capacity: Amounts) -> None:
    for name in DIMENSIONS:
        most = max(capacity[name], before[name])
        if wanted[name] > most:
            raise InvalidInput(
                f"quotas.guarantee.{name}",
                wanted[name],
                f"all together at most what the cluster has, {capacity[name]}, or any when forced (is_forced, --force)",
            )


def _add(total: dict[str, int], more: Amounts) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount
