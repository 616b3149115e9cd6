"""What of the agent's resources its live tasks hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from runrig.resources import Resources, ports_contain, ports_text
from runrig.tasks import TaskSpec


class Account:
    """Sums of what live tasks hold: never more than the agent has, unless its resources shrank under them."""

    def __init__(self) -> None:
        self._cpu_millis = 0
        self._mem_mib = 0
        self._disk_mib = 0
        self._gpus = 0
        self._ports: set[int] = set()
        self._volumes: set[str] = set()
        self._custom: Counter[str] = Counter()

    def take(self, spec: TaskSpec) -> None:
        """Let a task hold its resources from now on."""
        self._add(spec.resources, 1)
        self._ports.update(_each_port(spec.resources))
        self._volumes.update(spec.volume_ids)

    def release(self, spec: TaskSpec) -> None:
        """Free what an ended task held."""
        self._add(spec.resources, -1)
        self._ports.difference_update(_each_port(spec.resources))
        self._volumes.difference_update(spec.volume_ids)

    def has_volume(self, volume_id: str) -> bool:
        """Say whether a live task uses a persistent volume. Its disk is the volume's own, not counted as the task's."""
        return volume_id in self._volumes

    def shortage(self, total: Resources, need: Resources) -> str | None:
        """Say of what too little is left in `total` for `need`; None: it fits."""
        short = [
            f"{name}: {need_of} needed, {max(0, total_of - held)} of {total_of} left"
            for name, held, total_of, need_of in self._scalars(total, need)
            if need_of > max(0, total_of - held)
        ]
        if not ports_contain(total.ports, need.ports):
            short.append(f"ports: {ports_text(need.ports)} needed, this agent has {ports_text(total.ports)}")
        elif taken := [port for port in _each_port(need) if port in self._ports]:
            short.append(f"ports: other tasks hold {', '.join(map(str, taken[:10]))}")
        return ", ".join(short) or None

    def _scalars(self, total: Resources, need: Resources) -> list[tuple[str, int, int, int]]:
        has = dict(total.custom)
        return [
            ("cpu_millis", self._cpu_millis, total.cpu_millis, need.cpu_millis),
            ("mem_mib", self._mem_mib, total.mem_mib, need.mem_mib),
            ("disk_mib", self._disk_mib, total.disk_mib, need.disk_mib),
            ("gpus", self._gpus, total.gpus, need.gpus),
            *((f"{name} millis", self._custom[name], has.get(name, 0), amount) for name, amount in need.custom),
        ]

    def _add(self, resources: Resources, sign: int) -> None:
        self._cpu_millis += sign * resources.cpu_millis
        self._mem_mib += sign * resources.mem_mib
        self._disk_mib += sign * resources.disk_mib
        self._gpus += sign * resources.gpus
        for name, amount in resources.custom:
            self._custom[name] += sign * amount


def _each_port(resources: Resources) -> Iterator[int]:
    for begin, end in resources.ports:
        yield from range(begin, end + 1)
