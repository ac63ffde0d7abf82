"""Broadcasts under simulation: who got them, over how many hops, at what price."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, final

from barrel_p2p.broadcast.machine import BroadcastMessage
from barrel_p2p.broadcast.messages import Delivery, Gossip
from barrel_p2p.core.inputs import Received

if TYPE_CHECKING:
    from barrel_p2p.testing.overlay.nodes import SimNode
    from barrel_p2p.testing.overlay.rooms import Room

__all__ = ["Sent", "Traffic", "relative_redundancy"]

_TOPIC = "sim"


@final
@dataclass(slots=True)
class Sent:
    """One broadcast, as far as it has come.

    Args:
        origin: Index of the node where it began.
        at_ms: When.
        reached: Indexes of the nodes it was delivered on, the origin first.
        hops_max: Links it crossed on its longest way, first copies only.
        last_ms: When it was delivered last.
    """

    origin: int
    at_ms: int
    reached: list[int] = field(default_factory=list)
    hops_max: int = 0
    last_ms: int = 0


@final
class Traffic:
    """Sends broadcasts and hears of their deliveries.

    Attributes:
        sent: Message id to what became of it.
        repeated: Deliveries of a broadcast on a node, in one life, that had it before.
        arrived: Deliveries but for those where a broadcast began: each took a payload.
    """

    def __init__(self) -> None:
        self.sent: dict[bytes, Sent] = {}
        self.repeated = 0
        self.arrived = 0
        self._had: dict[tuple[bytes, int, int], bool] = {}

    def send(self, node: SimNode, payload: bytes = b"x") -> Sent:
        """Let ``node`` tell everybody."""
        number = len(self.sent)
        message_id = (number + 1).to_bytes(16, "big")
        sent = Sent(node.index, node.world.schedule.now_ms)
        self.sent[message_id] = sent
        node.rooms[1].feed(BroadcastMessage(_TOPIC, payload, message_id))
        return sent

    def delivered(self, node: SimNode, room: Room, delivery: Delivery) -> None:
        """A broadcast has reached ``node``."""
        sent = self.sent.get(delivery.message_id)
        if sent is None:
            return
        key = (delivery.message_id, node.index, node.life)
        if key in self._had:
            self.repeated += 1
            return
        self._had[key] = True
        self.arrived += not delivery.own
        sent.reached.append(node.index)
        sent.last_ms = node.world.schedule.now_ms
        cause = room.current
        if isinstance(cause, Received) and isinstance(cause.message, Gossip):
            sent.hops_max = max(sent.hops_max, cause.message.hops)

    def forget(self) -> None:
        """Drop what was counted, to count anew."""
        self.sent.clear()
        self._had.clear()


def relative_redundancy(payloads: int, arrived: int) -> float:
    """Payloads received per node that had to receive one, minus 1.

    Args:
        payloads: How many arrived, answers to GRAFT included.
        arrived: How many of them were the first of their broadcast there. One that is
            late counts when it comes, in both.

    Source: Leitao, Pereira, Rodrigues, "Epidemic Broadcast Trees", SRDS 2007, 4.1.
    """
    return payloads / arrived - 1 if arrived > 0 else 0.0
