"""What the agenda calls when a message arrives, in the variants a run may want.

The choice is made once a run, because this is the path that every message takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barrel_p2p.testing.overlay.rooms import UP, End, Receiver
from barrel_p2p.testing.overlay.schedule import Call

if TYPE_CHECKING:
    from barrel_p2p.testing.overlay.world import World

__all__ = ["receiver"]


def receiver(world: World, index: int) -> Call:
    """The call that hands a message to the room of that index, at an end of a channel.

    It counts the message by its class in ``world.received``; notes it where the world
    keeps a trace; and has it encoded and decoded where the world encodes messages.
    """
    plain = _plain(world, index)
    if world.encodes:
        return _encoded(world, index, plain)
    return plain if world.trace is None else _traced(world, index, plain)


def _plain(world: World, index: int) -> Call:
    return Receiver(index, world.received, world.links.not_up)


def _traced(world: World, index: int, plain: Call) -> Call:
    trace, schedule = world.trace, world.schedule
    assert trace is not None
    add = trace.add

    def deliver(end: End, message: object) -> None:
        kinds = end.peer.rooms[index].codec.kinds if end.peer.rooms else {}
        kind = kinds.get(message.__class__, 0)
        add(schedule.now_ms, end.node.index, end.peer.index, kind)
        plain(end, message)

    return deliver  # type: ignore[return-value]


def _encoded(world: World, index: int, plain: Call) -> Call:
    trace, schedule = world.trace, world.schedule

    def deliver(end: End, message: object) -> None:
        if end.state != UP:
            plain(end, message)
            return
        codec = end.node.rooms[index].codec
        kind, body = codec.encode(message)
        if trace is not None:
            trace.add(schedule.now_ms, end.node.index, end.peer.index, kind)
        plain(end, codec.decode(kind, body))

    return deliver  # type: ignore[return-value]
