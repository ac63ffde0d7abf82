"""Members that lie about whom they know.

A tenth of the nodes, all admitted, tell of nodes that do not exist and of one another
wherever a message names nodes: in shuffles, in walks, in answers. What they may not
reach is the places of honest nodes in honest views.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final, final

from barrel_p2p.core.effects import Dial, Effect, Machine, Send
from barrel_p2p.core.names import Address
from barrel_p2p.membership.machine import HyParView
from barrel_p2p.membership.messages import (
    ForwardJoin,
    NeighborReply,
    Shuffle,
    ShuffleReply,
)
from barrel_p2p.testing.experiments.cluster import Cluster
from barrel_p2p.testing.experiments.outcome import Outcome
from barrel_p2p.testing.overlay.chance import SimRng
from barrel_p2p.testing.overlay.graph import components
from barrel_p2p.testing.overlay.nodes import SimNode
from barrel_p2p.testing.overlay.stack import address_of

__all__ = ["liars"]

_FAKE: Final = "fake"
_LISTED: Final = 8


def liars(
    *,
    n: int,
    seed: int,
    share: float = 0.1,
    rounds: int = 20,
    is_credulous: bool = False,
) -> Outcome:
    """Let ``share`` of the nodes lie.

    Args:
        n: Nodes.
        seed: Of the run.
        share: Of liars, who are chosen by chance.
        rounds: How long they may.
        is_credulous: Let honest nodes forget that a dial failed, which has to fail.
    """
    rng = SimRng(seed ^ 0x6C69617273)
    lying = dict.fromkeys(rng.sample(range(1, n), round(share * n)), True)
    names = [f"n{index:05}@sim" for index in lying]
    books: dict[str, _Book] = {}

    def wrap(machine: HyParView) -> Machine:
        name = machine._links.me.name
        if name in colluding:
            return _Liar(machine, [colluding[other] for other in names], rng)
        books[name] = _Book(machine, is_credulous=is_credulous)
        return books[name]

    colluding = {
        f"n{index:05}@sim": address_of(index, f"n{index:05}@sim") for index in lying
    }
    cluster = Cluster(n, seed, policy="three", wrap_membership=wrap)
    cluster.start_all(n)
    cluster.rounds(rounds)
    honest = [node for node in cluster.world.running() if node.index not in lying]
    links = sum(len(node.peers) for node in honest)
    held = sum(1 for node in honest for peer in node.peers if peer in colluding)
    return Outcome(
        f"{share:.0%}",
        seed,
        {
            "components": len(components(honest)),
            "held": held / links,
            "allowed": 2 * share,
            "probes": max(book.worst for book in books.values()),
            "fakes": _fakes_left(honest) / len(honest),
        },
        cluster.world.schedule.events,
    )


def _fakes_left(nodes: list[SimNode]) -> int:
    count = 0
    for node in nodes:
        book = node.rooms[0].machine
        assert isinstance(book, _Book)
        count += sum(1 for name in book.passive_view() if name.startswith(_FAKE))
    return count


@final
class _Book:
    """An honest node, and how often it dials a node that does not exist."""

    def __init__(self, machine: HyParView, *, is_credulous: bool) -> None:
        self._machine = machine
        self._dials: dict[str, int] = {}
        self.worst = 0
        self.passive_view: Callable[[], list[str]] = machine.passive_view
        if is_credulous:
            vars(machine._links)["fail"] = self._forget
        self._is_credulous = is_credulous

    def handle(self, event: object, *, now_ms: int) -> list[Effect]:
        """Hand the input on and look at the dials."""
        effects = self._machine.handle(event, now_ms=now_ms)
        for effect in effects:
            if type(effect) is Dial and effect.node.startswith(_FAKE):
                count = self._dials.get(effect.node, 0) + 1
                self._dials[effect.node] = count
                self.worst = max(self.worst, count)
        return effects

    def _forget(self, entry: object, reason: str) -> None:
        self._machine._links.drop_pending(entry.address.name)  # type: ignore[attr-defined]


@final
class _Liar:
    """A member that replaces every list of nodes by accomplices and inventions."""

    def __init__(self, machine: HyParView, others: list[Address], rng: SimRng) -> None:
        self._machine = machine
        self._others = others
        self._rng = rng
        self._count = 0

    def handle(self, event: object, *, now_ms: int) -> list[Effect]:
        """Hand the input on, and falsify what comes of it."""
        effects = self._machine.handle(event, now_ms=now_ms)
        return [self._falsified(e) if type(e) is Send else e for e in effects]

    def _falsified(self, effect: Send) -> Send:
        message = effect.message
        if isinstance(message, Shuffle | ShuffleReply | NeighborReply):
            return Send(effect.to, replace(message, peers=self._lies()))
        if isinstance(message, ForwardJoin):
            return Send(effect.to, replace(message, newcomer=self._lies()[0]))
        return effect

    def _lies(self) -> tuple[Address, ...]:
        found = self._rng.sample(self._others, _LISTED // 2)
        for _ in range(_LISTED // 2):
            self._count += 1
            number = self._rng.below(1 << 40)
            found.append(Address(f"{_FAKE}{number:x}@sim", "10.255.0.1", 9100))
        return tuple(self._rng.sample(found, len(found)))
