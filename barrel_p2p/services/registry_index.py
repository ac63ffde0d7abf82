"""Which services there are: by name for those who look, by node for those who die.

An instance is *held* for as long as its entry is in the map, and *shown* while the
node that registered it is a member in the same life. Looking up a name costs the same
however many names there are.

Bounded by ``SERVICES_MAX`` and ``SERVICES_PER_NODE_MAX``.
"""

from __future__ import annotations

from typing import Final, final

from barrel_p2p.services.service_events import ServiceEntry
from barrel_p2p.wire.terms import key_bytes

__all__ = [
    "SERVICES_MAX",
    "SERVICES_PER_NODE_MAX",
    "Held",
    "ServiceIndex",
    "Slot",
    "slot_of",
]

SERVICES_MAX: Final = 262_144
"""Instances that a node holds, of all nodes together."""

SERVICES_PER_NODE_MAX: Final = 65_536
"""Instances that it holds of one node, itself included."""

type Slot = str | bytes
"""A name as a dict's key: text as it is, anything else as its canonical bytes."""


def slot_of(name: object) -> Slot:
    """Where ``name`` is kept.

    Raises:
        NotEncodable: It is no key term.
    """
    return name if type(name) is str else key_bytes(name)


@final
class Held:
    """One instance.

    Attributes:
        slot: Where its name is kept.
        name: Its name.
        node: Who registered it.
        creation: In which life.
        entry: What is to be found; None when its process is down.
        shown: Whether it is to be found.
        since_ms: Since when it is hidden.
    """

    __slots__ = ("creation", "entry", "name", "node", "shown", "since_ms", "slot")

    def __init__(
        self,
        slot: Slot,
        name: object,
        node: str,
        creation: int,
        entry: ServiceEntry | None,
    ) -> None:
        self.slot = slot
        self.name = name
        self.node = node
        self.creation = creation
        self.entry = entry
        self.shown = False
        self.since_ms = 0


class ServiceIndex:
    """All instances that are held."""

    def __init__(self) -> None:
        self._shown: dict[Slot, list[Held]] = {}
        self._held: dict[str, dict[Slot, Held]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, node: str, slot: Slot) -> Held | None:
        """What is held of ``node`` under a name."""
        found = self._held.get(node)
        return None if found is None else found.get(slot)

    def of(self, node: str) -> list[Held]:
        """All that is held of ``node``, in the order in which it came."""
        return list(self._held.get(node, {}).values())

    def nodes(self) -> list[str]:
        """Of whom something is held."""
        return list(self._held)

    def is_full(self, node: str) -> bool:
        """Whether there is no room for another one of ``node``."""
        return (
            self._count >= SERVICES_MAX
            or len(self._held.get(node, ())) >= SERVICES_PER_NODE_MAX
        )

    def shown(self, slot: Slot) -> list[Held]:
        """The instances to be found under a name. Not to be changed."""
        return self._shown.get(slot, [])

    def names(self) -> list[object]:
        """The names under which something is to be found, by their canonical bytes."""
        names = [instances[0].name for instances in self._shown.values()]
        return sorted(names, key=key_bytes)

    def hold(self, held: Held) -> None:
        """Hold ``held``, hidden, in place of whatever had its place."""
        known = self._held.setdefault(held.node, {})
        old = known.get(held.slot)
        if old is None:
            self._count += 1
        elif old.shown:
            self.hide(old, 0)
        known[held.slot] = held

    def release(self, held: Held) -> None:
        """Hold ``held`` no more."""
        if held.shown:
            self.hide(held, 0)
        known = self._held[held.node]
        del known[held.slot]
        self._count -= 1
        if not known:
            del self._held[held.node]

    def show(self, held: Held) -> None:
        """Let it be found."""
        held.shown = True
        self._shown.setdefault(held.slot, []).append(held)

    def hide(self, held: Held, now_ms: int) -> None:
        """Let it be found no more, and keep it."""
        held.shown = False
        held.since_ms = now_ms
        instances = self._shown[held.slot]
        instances.remove(held)
        if not instances:
            del self._shown[held.slot]
