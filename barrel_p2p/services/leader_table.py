"""Who stands for what: by name for an election, by node for those who die.

A candidacy is *held* for as long as its entry is in the map, and *shown* while the node
that wrote it is a member in the same life. Only what is shown takes part.

Bounded by ``CANDIDATES_MAX`` and ``CANDIDATES_PER_NODE_MAX``.
"""

from __future__ import annotations

from typing import Any, Final, final

from barrel_p2p.core.hlc import ISSUED_COUNTER_MAX, Timestamp, node_tag
from barrel_p2p.core.ormap import Delta, OrMap
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import InvalidValue
from barrel_p2p.services.leader_events import Candidate
from barrel_p2p.services.leader_inputs import (
    CANDIDATES_MAX,
    CANDIDATES_PER_NODE_MAX,
    PRIORITY_MAX,
    RETAKE_MS,
)
from barrel_p2p.services.registry_index import Slot

__all__ = ["Own", "Race", "Standing", "Table", "is_valid", "packed", "term_of"]

_CREATION_MAX: Final = (1 << 32) - 1
_TERM_FIELDS: Final = 2
_CANDIDACY_FIELDS: Final = 3
_TAG_MAX: Final = 255
_TRIES: Final = 16


@final
class Standing:
    """One candidacy.

    Attributes:
        node: Whose it is.
        creation: In which life it was written.
        pid: The candidate.
        priority: Its priority.
        shown: Whether it takes part.
        since_ms: Since when it does not.
    """

    __slots__ = ("creation", "node", "pid", "priority", "shown", "since_ms")

    def __init__(self, node: str, creation: int, pid: Pid, priority: int) -> None:
        self.node = node
        self.creation = creation
        self.pid = pid
        self.priority = priority
        self.shown = False
        self.since_ms = 0


@final
class Own:
    """This node's candidate in a race.

    Attributes:
        pid: The candidate.
        priority: Its priority.
        stamp: Of its term; None while it does not lead.
        fence: The same, packed.
        taken_ms: When it began.
        retake_ms: How long to wait if a later term ends it.
        not_before_ms: When it may take a term again.
    """

    __slots__ = (
        "fence",
        "not_before_ms",
        "pid",
        "priority",
        "retake_ms",
        "stamp",
        "taken_ms",
    )

    def __init__(self, pid: Pid, priority: int) -> None:
        self.pid = pid
        self.priority = priority
        self.stamp: Timestamp | None = None
        self.fence = 0
        self.taken_ms = 0
        self.retake_ms = RETAKE_MS
        self.not_before_ms = 0


@final
class Race:
    """Everything about one name.

    Attributes:
        slot: Where its name is kept.
        name: Its name.
        standing: Candidacies by node.
        own: This node's candidate.
        has_term: Whether a term of it is in the map.
    """

    __slots__ = ("has_term", "name", "own", "slot", "standing")

    def __init__(self, slot: Slot, name: object) -> None:
        self.slot = slot
        self.name = name
        self.standing: dict[str, Standing] = {}
        self.own: Own | None = None
        self.has_term = False

    def best(self) -> Standing | None:
        """Who should lead: the greatest priority, then the smallest node name."""
        best: Standing | None = None
        for one in self.standing.values():
            if one.shown and (
                best is None or (-one.priority, one.node) < (-best.priority, best.node)
            ):
                best = one
        return best

    def candidates(self) -> list[Candidate]:
        """Who takes part, the best one first."""
        shown = [one for one in self.standing.values() if one.shown]
        shown.sort(key=lambda one: (-one.priority, one.node))
        return [Candidate(one.node, one.pid, one.priority) for one in shown]


@final
class Table:
    """All races of a node."""

    def __init__(self) -> None:
        self.races: dict[Slot, Race] = {}
        self._of: dict[str, dict[Slot, Race]] = {}
        self._count = 0

    def race(self, slot: Slot, name: object) -> Race:
        """The race for a name, which begins if there is none."""
        race = self.races.get(slot)
        if race is None:
            race = self.races[slot] = Race(slot, name)
        return race

    def of(self, node: str) -> list[tuple[Race, Standing]]:
        """What is held of ``node``, in the order in which it came."""
        races = self._of.get(node, {}).values()
        return [(race, race.standing[node]) for race in races]

    def nodes(self) -> list[str]:
        """Of whom something is held."""
        return list(self._of)

    def is_full(self, node: str) -> bool:
        """Whether there is no room for another one of ``node``."""
        return (
            self._count >= CANDIDATES_MAX
            or len(self._of.get(node, ())) >= CANDIDATES_PER_NODE_MAX
        )

    def hold(self, race: Race, standing: Standing) -> None:
        """Hold a candidacy in place of the node's earlier one."""
        if standing.node not in race.standing:
            self._count += 1
            self._of.setdefault(standing.node, {})[race.slot] = race
        race.standing[standing.node] = standing

    def release(self, race: Race, node: str) -> bool:
        """Hold it no more; whether it was held."""
        if race.standing.pop(node, None) is None:
            return False
        self._count -= 1
        races = self._of[node]
        del races[race.slot]
        if not races:
            del self._of[node]
        self.tidy(race)
        return True

    def tidy(self, race: Race) -> None:
        """Forget the race if nothing is left of it."""
        if not (race.standing or race.own or race.has_term):
            self.races.pop(race.slot, None)


def is_valid(key: Any, value: Any) -> bool:
    """Whether ``value`` is what lies under such a key: a term, or a candidacy."""
    fields = _TERM_FIELDS if len(key) == 1 else _CANDIDACY_FIELDS
    if type(value) is not tuple or len(value) != fields:
        return False
    creation, pid = value[:_TERM_FIELDS]
    if type(creation) is not int or not 1 <= creation <= _CREATION_MAX:
        return False
    if type(pid) is not Pid:
        return False
    if fields == _TERM_FIELDS:
        return True
    priority = value[2]
    if pid.node != key[1] or type(priority) is not int:
        return False
    return abs(priority) <= PRIORITY_MAX


def term_of(entries: OrMap, name: object, value: object) -> Delta:
    """Write a term, with a stamp whose counter ends in the node's tag.

    Two terms of one stamp would be ordered by the map as their nodes' names are, and by
    their fences as the tags are: then the later one could have the smaller fence.

    Raises:
        ClockDrift: As ``OrMap.add``.
    """
    clock, tag = entries.clock, node_tag(entries.node)
    delta: Delta = {}
    for _ in range(_TRIES):
        while (clock.now().counter + 1) & _TAG_MAX != tag:
            pass
        delta = entries.add((name,), value)
        if next(iter(delta.values())).stamp.counter & _TAG_MAX == tag:
            break  # Else the wall clock has moved on just now.
    return delta


def packed(stamp: Timestamp, node: str) -> int:
    """A stamp as a fence; of one that no clock issues, the greatest before it."""
    counter = min(stamp.counter, ISSUED_COUNTER_MAX)
    try:
        return Timestamp(stamp.wall_ms, counter).pack(node)
    except InvalidValue:
        return 0
