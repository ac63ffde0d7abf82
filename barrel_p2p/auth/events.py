"""What happens to a handshake, and what it wants done.

Source: docs/design/0004-nodes.md, "From a dial to a channel".
"""

from __future__ import annotations

from dataclasses import dataclass

from barrel_p2p.auth.messages import Message, Mode
from barrel_p2p.errors import BarrelError, WireError

__all__ = [
    "Admitted",
    "AskWanted",
    "DeadlinePassed",
    "Effect",
    "Event",
    "Malformed",
    "PeerEnded",
    "PeerIdentity",
    "PinFailed",
    "PinStored",
    "Received",
    "Refused",
    "SendMessage",
    "Started",
    "StorePin",
    "Unwanted",
    "Wanted",
]


@dataclass(frozen=True, slots=True)
class PeerIdentity:
    """Who was admitted.

    Args:
        name: The node's name, proved by its key; by nothing but the cookie if ``mode``
            is COOKIE.
        key: Its public key; None if ``mode`` is COOKIE.
        protocol: The version both speak from here on.
        mode: What was proved.
        first_contact: Whether ``key`` was pinned just now.
    """

    name: str
    key: bytes | None
    protocol: int
    mode: Mode
    first_contact: bool


@dataclass(frozen=True, slots=True)
class Started:
    """The connection is up. First event of all."""


@dataclass(frozen=True, slots=True)
class Received:
    """``message`` came on the peer's auth stream."""

    message: Message


@dataclass(frozen=True, slots=True)
class Malformed:
    """What came on the peer's auth stream was no message."""

    error: WireError


@dataclass(frozen=True, slots=True)
class PeerEnded:
    """The peer's auth stream or the connection ended; ``how``, for people."""

    how: str = "the connection ended"


@dataclass(frozen=True, slots=True)
class DeadlinePassed:
    """The time for the whole handshake is over."""


@dataclass(frozen=True, slots=True)
class PinStored:
    """The pin asked for is on the disk."""


@dataclass(frozen=True, slots=True)
class PinFailed:
    """The pin asked for is not on the disk, or another one is."""

    error: BarrelError


@dataclass(frozen=True, slots=True)
class Wanted:
    """Yes: this session may stay."""


@dataclass(frozen=True, slots=True)
class Unwanted:
    """No, for a reason that is not the peer's identity."""

    code: str
    text: str


Event = (
    Started
    | Received
    | Malformed
    | PeerEnded
    | DeadlinePassed
    | PinStored
    | PinFailed
    | Wanted
    | Unwanted
)


@dataclass(frozen=True, slots=True)
class SendMessage:
    """Send ``message`` on our auth stream."""

    message: Message


@dataclass(frozen=True, slots=True)
class StorePin:
    """Pin ``key`` for ``name`` and sync it; answer PinStored or PinFailed."""

    name: str
    key: bytes


@dataclass(frozen=True, slots=True)
class AskWanted:
    """Acceptor: may the session with ``peer`` stay? Answer Wanted or Unwanted."""

    peer: PeerIdentity


@dataclass(frozen=True, slots=True)
class Admitted:
    """The end: the peer is ``peer``, and both sides know that the other knows."""

    peer: PeerIdentity


@dataclass(frozen=True, slots=True)
class Refused:
    """The end: no session.

    Args:
        code: The reason, as ``auth.failures`` lists them. A peer may send others.
        text: What happened, for people.
        by_peer: Whether the peer refused us. If we refuse, SendMessage(Fail) precedes.
        presented: SHA-256 of the key that the peer showed, where that is the reason.
    """

    code: str
    text: str
    by_peer: bool
    presented: bytes | None = None


Effect = SendMessage | StorePin | AskWanted | Admitted | Refused
