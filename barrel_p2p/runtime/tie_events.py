"""What happens to links and monitors, and what follows from it: plain values.

A process of this node is its id, because its node and creation are this node's own; any
process is a ``Pid``. ``creation`` in an event is that of the peer's node as the channel
has it, or None while there is no channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from barrel_p2p.core.events import Down
from barrel_p2p.core.names import At
from barrel_p2p.core.terms import Pid
from barrel_p2p.runtime.messages import TieFrame

__all__ = [
    "ChannelUp",
    "DemonitorAsked",
    "Dial",
    "Effect",
    "Ended",
    "Event",
    "LinkAsked",
    "MonitorAsked",
    "NodeLost",
    "Received",
    "SendTie",
    "Signal",
    "TellDown",
    "UnlinkAsked",
]


@final
@dataclass(frozen=True, slots=True)
class LinkAsked:
    """Process ``me`` links itself to ``to``."""

    me: int
    to: Pid
    creation: int | None


@final
@dataclass(frozen=True, slots=True)
class UnlinkAsked:
    """Process ``me`` undoes its link to ``to``, if it has one."""

    me: int
    to: Pid


@final
@dataclass(frozen=True, slots=True)
class MonitorAsked:
    """Process ``me`` monitors ``target``; ``name`` is the key of an ``At``.

    ``ref`` is above 0 and was never used before.
    """

    me: int
    ref: int
    target: Pid | At
    name: bytes
    creation: int | None


@final
@dataclass(frozen=True, slots=True)
class DemonitorAsked:
    """Process ``me`` wants no word about ``ref`` any more."""

    me: int
    ref: int


@final
@dataclass(frozen=True, slots=True)
class Ended:
    """Process ``id`` of this node has ended, and is found no more."""

    id: int
    reason: object


@final
@dataclass(frozen=True, slots=True)
class Received:
    """A frame of a peer, from its only channel."""

    message: TieFrame


@final
@dataclass(frozen=True, slots=True)
class ChannelUp:
    """There is a channel to ``node`` now."""

    node: str
    creation: int


@final
@dataclass(frozen=True, slots=True)
class NodeLost:
    """The channel to ``node`` is gone, or none could be opened."""

    node: str


type Event = (
    LinkAsked
    | UnlinkAsked
    | MonitorAsked
    | DemonitorAsked
    | Ended
    | Received
    | ChannelUp
    | NodeLost
)


@final
@dataclass(frozen=True, slots=True)
class TellDown:
    """Put ``down`` into the mailbox of process ``to``."""

    to: int
    down: Down


@final
@dataclass(frozen=True, slots=True)
class Signal:
    """Give process ``to`` an exit signal, of a link or sent by ``sender``."""

    to: int
    sender: Pid
    reason: object
    linked: bool


@final
@dataclass(frozen=True, slots=True)
class SendTie:
    """Send a frame over the channel to ``node``."""

    node: str
    message: TieFrame


@final
@dataclass(frozen=True, slots=True)
class Dial:
    """A channel to ``node`` is wanted; then ``ChannelUp`` or ``NodeLost``."""

    node: str


type Effect = TellDown | Signal | SendTie | Dial
