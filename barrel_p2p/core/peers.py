"""What every room may learn about other nodes.

A node is *up* while this node holds an admitted channel to it. It is a *peer* while it
is in this node's active view, the neighbours that gossip goes to. Whether it is a
member of the cluster, or dead, is decided elsewhere and by other rules: no channel, or
no place in a view, is no death.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from barrel_p2p.core.events import Event
from barrel_p2p.core.records import quickly_made

__all__ = ["Joined", "Left", "NodeDown", "NodeUp", "PeerDown", "PeerUp"]


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class NodeUp(Event):
    """A channel to ``node`` was admitted; frames to it may be sent from now on."""

    node: str


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class NodeDown(Event):
    """The channel to ``node`` ended, and all that was in flight is lost.

    ``reason`` is the documented code of the end, such as ``superseded``.
    """

    node: str
    reason: str


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class PeerUp(Event):
    """``node`` has entered the active view, and this node its."""

    node: str


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class PeerDown(Event):
    """``node`` has left the active view.

    ``reason``: ``dropped``, ``disconnected``, ``left``, ``blocked``, or why its channel
    went down.
    """

    node: str
    reason: str


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class Joined(Event):
    """This node has its first peer."""


@final
@quickly_made
@dataclass(frozen=True, slots=True)
class Left(Event):
    """This node has left its cluster, as it was told to."""
