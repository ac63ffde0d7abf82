"""What every room may learn about other nodes: that a channel to one came up or ended.

A node is up while this node holds an admitted channel to it. Whether a node is a member
of the cluster, or dead, is decided elsewhere and by other rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

__all__ = ["NodeDown", "NodeUp"]


@final
@dataclass(frozen=True, slots=True)
class NodeUp:
    """A channel to ``node`` was admitted; frames to it may be sent from now on."""

    node: str


@final
@dataclass(frozen=True, slots=True)
class NodeDown:
    """The channel to ``node`` ended, and all that was in flight is lost.

    ``reason`` is the documented code of the end, such as ``superseded``.
    """

    node: str
    reason: str
