"""The tree of roles: who stands above whom, what each holds with all below it, and who is served first.

`eng/ads` is a child of `eng`. At every level members are ordered by dominant share divided by weight, then by name. A
role's own frameworks stand beside its children as one member, called `.`, of weight 1.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeAlias

from runrig.ids import Role
from runrig.resources import Resources
from runrig_master.core.commands import DEFAULT_WEIGHT_MILLIS, RoleRecord
from runrig_master.core.quotas import Quota
from runrig_master.core.resources import Holding

if TYPE_CHECKING:
    from runrig_master.core.clients import Client

Member: TypeAlias = "RoleNode | OwnFrameworks | Client"
Entry: TypeAlias = "tuple[float, str, Member]"

OWN_FRAMEWORKS = "."


class Order:
    """Members sorted by share, the poorest first; members whose share has changed are put right when it is read."""

    __slots__ = ("_entries", "_keys", "_moved")

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._keys: dict[Member, float | None] = {}
        self._moved: dict[Member, None] = {}

    def __len__(self) -> int:
        """Return how many members it has."""
        return len(self._keys)

    def __contains__(self, member: Member) -> bool:
        """Say whether somebody is a member."""
        return member in self._keys

    def add(self, member: Member) -> None:
        """Take a member in."""
        self._keys[member] = None
        self._moved[member] = None

    def remove(self, member: Member) -> None:
        """Take a member out."""
        share = self._keys.pop(member)
        self._moved.pop(member, None)
        if share is not None:
            del self._entries[bisect_left(self._entries, (share, member.name))]

    def move(self, member: Member) -> None:
        """Learn that a member's share may have changed; who is no member is passed over."""
        if member in self._keys:
            self._moved[member] = None

    def members(self) -> Iterator[Member]:
        """Yield the members, in no order."""
        yield from self._keys

    def entries(self, total: Holding) -> list[Entry]:
        """Return share, name and member of all, the poorest first; not to be changed."""
        if self._moved:
            if len(self._moved) * 8 > len(self._keys):
                self._sort_anew(total)
            else:
                self._put_right(total)
        return self._entries

    def all_moved(self) -> None:
        """Learn that the total has changed, of which shares are fractions."""
        self._moved = dict.fromkeys(self._keys)

    def _sort_anew(self, total: Holding) -> None:
        self._entries = sorted((member.share(total), member.name, member) for member in self._keys)
        self._keys = {member: share for share, _, member in self._entries}
        self._moved.clear()

    def _put_right(self, total: Holding) -> None:
        entries, keys = self._entries, self._keys
        for member in self._moved:
            before, share = keys[member], member.share(total)
            if share == before:
                continue
            if before is not None:
                del entries[bisect_left(entries, (before, member.name))]
            insort(entries, (share, member.name, member))
            keys[member] = share
        self._moved.clear()


class OwnFrameworks:
    """The frameworks of one role itself, as one member beside the roles below it."""

    __slots__ = ("holding", "node", "order")

    name = OWN_FRAMEWORKS

    def __init__(self, node: RoleNode) -> None:
        self.node = node
        self.holding = Holding()
        self.order = Order()

    def share(self, total: Holding) -> float:
        """Return the dominant share of what they hold."""
        return self.holding.dominant_share(total)


class RoleNode:
    """A role with all below it."""

    __slots__ = (
        "children",
        "guarantee",
        "holding",
        "is_optimistic",
        "limit",
        "name",
        "order",
        "own",
        "parent",
        "role",
        "turned_away",
        "weight_millis",
    )

    def __init__(self, role: Role, name: str, parent: RoleNode | None) -> None:
        self.role = role
        self.name = name
        self.parent = parent
        self.children: dict[str, RoleNode] = {}
        self.own = OwnFrameworks(self)
        self.holding = Holding()
        self.order = Order()
        """Its children and its own frameworks."""
        self.order.add(self.own)
        self.weight_millis = DEFAULT_WEIGHT_MILLIS
        self.limit: Quota | None = None
        self.guarantee: Quota | None = None
        self.is_optimistic = False
        self.turned_away: dict[Client, None] = {}
        """Whom its limit has kept from something since it last had more room."""

    def share(self, total: Holding) -> float:
        """Return the dominant share of what it holds, divided by its weight."""
        return self.holding.dominant_share(total, self.weight_millis)

    def lacks(self) -> bool:
        """Say whether it holds less than it is guaranteed, of anything."""
        guarantee = self.guarantee
        return guarantee is not None and guarantee.exceeds(self.holding)

    def satisfaction(self) -> float:
        """Return the smallest part that it holds of what it is guaranteed."""
        guarantee, held = self.guarantee, self.holding
        assert guarantee is not None
        part = float("inf")
        if guarantee.cpu_millis:
            part = held.cpu_millis / guarantee.cpu_millis
        if guarantee.mem_mib:
            part = min(part, held.mem_mib / guarantee.mem_mib)
        if guarantee.disk_mib:
            part = min(part, held.disk_mib / guarantee.disk_mib)
        if guarantee.gpus:
            part = min(part, held.gpus / guarantee.gpus)
        return part if part != float("inf") else 1.0

    @property
    def clients(self) -> int:
        """Return how many frameworks have this very role."""
        return len(self.own.order)

    @property
    def is_needed(self) -> bool:
        """Say whether anything is known of the role beside its name."""
        return bool(
            self.children
            or self.clients
            or not self.holding.is_empty
            or self.limit
            or self.guarantee
            or self.is_optimistic
            or self.weight_millis != DEFAULT_WEIGHT_MILLIS
        )


class RoleTree:
    """All roles that anything is known of, below a root without a name."""

    def __init__(self) -> None:
        self.root = RoleNode(Role(""), "", None)
        self.total = Holding()
        """What all agents that count have together."""
        self.guaranteed: list[RoleNode] = []
        """Roles with a guarantee, by name."""
        self.has_limits = False
        self.optimistic: list[RoleNode] = []
        """Roles whose offers are optimistic, by name."""
        self._nodes: dict[Role, RoleNode] = {}
        self._is_total_new = False
        self._limited: dict[RoleNode, tuple[RoleNode, ...]] = {}
        self.eased: dict[RoleNode, None] = {}
        """Roles that hold less than when their limit kept somebody from something."""

    def __iter__(self) -> Iterator[RoleNode]:
        """Yield every role, by name."""
        for role in sorted(self._nodes):
            yield self._nodes[role]

    def get(self, role: Role) -> RoleNode | None:
        """Return a role if anything is known of it."""
        return self._nodes.get(role)

    def node(self, role: Role) -> RoleNode:
        """Return a role, made if need be."""
        node = self._nodes.get(role)
        if node is None:
            above, _, name = role.rpartition("/")
            parent = self.node(Role(above)) if above else self.root
            node = self._nodes[role] = parent.children[name] = RoleNode(role, name, parent)
            parent.order.add(node)
        return node

    def set_role(self, record: RoleRecord) -> None:
        """Take up a role's weight, quotas and kind of offers."""
        node = self.node(record.role)
        node.weight_millis = record.weight_millis
        node.limit = record.limit
        node.guarantee = record.guarantee
        node.is_optimistic = record.is_optimistic
        assert node.parent is not None
        node.parent.order.move(node)
        self.guaranteed = [each for each in self if each.guarantee is not None]
        self.optimistic = [each for each in self if each.is_optimistic]
        self.has_limits = any(each.limit is not None for each in self)
        self._limited.clear()
        self.prune(node)

    def prune(self, node: RoleNode) -> None:
        """Forget a role of which nothing is known any more, and those above it likewise."""
        while node.parent is not None and not node.is_needed:
            del self._nodes[node.role]
            self._limited.pop(node, None)
            del node.parent.children[node.name]
            node.parent.order.remove(node)
            node = node.parent

    def path(self, node: RoleNode) -> Iterator[RoleNode]:
        """Yield a role and those above it, without the root."""
        while node.parent is not None:
            yield node
            node = node.parent

    def limits_of(self, node: RoleNode) -> tuple[RoleNode, ...]:
        """Return the roles with a limit among a role and those above it, the lowest first."""
        if not self.has_limits:
            return ()
        limited = self._limited.get(node)
        if limited is None:
            limited = self._limited[node] = tuple(each for each in self.path(node) if each.limit is not None)
        return limited

    # Holdings

    def total_changed(self) -> None:
        """Learn that what all agents have has changed."""
        self._is_total_new = True

    def hold(self, client: Client, resources: Resources) -> None:
        """Count `resources` into what a client and the roles above it hold."""
        node = client.node
        client.holding.add(resources)
        node.own.holding.add(resources)
        node.own.order.move(client)
        node.order.move(node.own)
        while (parent := node.parent) is not None:
            node.holding.add(resources)
            parent.order.move(node)
            node = parent

    def release(self, client: Client, resources: Resources) -> None:
        """Count them out."""
        client.holding.remove(resources)
        node = client.node
        node.own.holding.remove(resources)
        for above in self.path(node):
            above.holding.remove(resources)
            if above.turned_away:
                self.eased[above] = None
        self._moved(client)

    def settle(self) -> None:
        """Have all orders read their shares anew if the total has changed."""
        if self._is_total_new:
            self._is_total_new = False
            for node in (self.root, *self._nodes.values()):
                node.order.all_moved()
                node.own.order.all_moved()

    def _moved(self, client: Client) -> None:
        node = client.node
        node.own.order.move(client)
        node.order.move(node.own)
        while node.parent is not None:
            node.parent.order.move(node)
            node = node.parent
