"""Who is next: the tree of roles as one queue of clients, the poorest first, while a pass lasts.

The tree keeps its orders sorted between passes. A pass walks a sorted list with an index, and puts members whose share
has grown during the pass on a small heap beside it: it neither sorts nor asks anybody twice who can take nothing more.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

from runrig_master.core.clients import Client
from runrig_master.core.resources import Holding
from runrig_master.core.roles import Entry, Member, Order, OwnFrameworks, RoleNode


class _Line:
    """The members of one order that have not dropped out of the pass."""

    __slots__ = ("_at", "_entries", "_moved")

    def __init__(self, entries: list[Entry]) -> None:
        self._entries = list(entries)
        self._at = 0
        self._moved: list[Entry] = []

    def first(self) -> Member | None:
        """Return the poorest member."""
        if self._at < len(self._entries):
            if self._moved and self._moved[0] < self._entries[self._at]:
                return self._moved[0][2]
            return self._entries[self._at][2]
        return self._moved[0][2] if self._moved else None

    def drop_first(self) -> None:
        """Have the poorest member drop out."""
        if self._at < len(self._entries) and not (self._moved and self._moved[0] < self._entries[self._at]):
            self._at += 1
        else:
            heapq.heappop(self._moved)

    def move_first(self, share: float) -> None:
        """Put the poorest member where its share now belongs."""
        moved, at = self._moved, self._at
        if at < len(self._entries) and not (moved and moved[0] < self._entries[at]):
            self._at += 1
            _, name, member = self._entries[at]
            heapq.heappush(moved, (share, name, member))
        else:
            _, name, member = moved[0]
            heapq.heapreplace(moved, (share, name, member))


class Queue:
    """The clients below one role, or below the root."""

    def __init__(self, top: RoleNode, total: Holding) -> None:
        self._top = top
        self._total = total
        self._lines: dict[Order, _Line] = {}

    def serve(self, step: Callable[[Client], bool]) -> bool:
        """Have the first client that can take a step; False: none can. Who cannot drops out."""
        return self._serve_node(self._top, step)

    def _serve_node(self, node: RoleNode, step: Callable[[Client], bool]) -> bool:
        if not node.children:
            return self._serve_own(node.own, step)
        line = self._lines.get(node.order) or self._line(node.order)
        while (member := line.first()) is not None:
            assert not isinstance(member, Client)
            if isinstance(member, OwnFrameworks):
                is_served = self._serve_own(member, step)
            else:
                is_served = self._serve_node(member, step)
            if is_served:
                line.move_first(member.share(self._total))
                return True
            line.drop_first()
        return False

    def _serve_own(self, own: OwnFrameworks, step: Callable[[Client], bool]) -> bool:
        line = self._lines.get(own.order) or self._line(own.order)
        while (client := line.first()) is not None:
            assert isinstance(client, Client)
            if step(client):
                line.move_first(client.share(self._total))
                return True
            line.drop_first()
        return False

    def _line(self, order: Order) -> _Line:
        line = self._lines[order] = _Line(order.entries(self._total))
        return line
