"""Through whom broadcasts come to this node, and who could take that place.

Whoever pushed the newest message is one step nearer to where it began. An announcer of
the same message that was no farther from there than this node cannot have it from this
node, so a push by it goes round no circle.

Bounded by the number of lazy peers: one announcement is kept of each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from barrel_p2p.broadcast.dedup import ID_BYTES
from barrel_p2p.broadcast.messages import IHave

__all__ = ["Source"]


@final
class Source:
    """The peer that pushes, as far as the newest message tells.

    Attributes:
        peer: Its name, which counts only while it is an eager peer; empty at first.
        announced: Lazy peers to what each announced last.
    """

    __slots__ = ("_hops", "_message_id", "announced", "peer")

    def __init__(self) -> None:
        self.peer = ""
        self.announced: dict[str, IHave] = {}
        self._message_id = b""
        self._hops = 0

    def pushed(self, peer: str, message_id: bytes, hops: int) -> None:
        """``peer`` was the first to bring a message, over that many links."""
        self.peer = peer
        self._message_id = message_id
        self._hops = hops

    def instead(self, lazy: Iterable[str]) -> str | None:
        """Who of them announced the newest message from nearest by; None if nobody.

        An announcement has the links to the announcer and one more, so whoever is as
        far away as this node says one more than this node was told.
        """
        best, fewest = None, self._hops + 2
        for peer in lazy:
            message = self.announced.get(peer)
            if message is None or not self._message_id:
                continue
            at, odd = divmod(message.ids.rfind(self._message_id), ID_BYTES)
            if at >= 0 and not odd and message.hops[at] < fewest:
                best, fewest = peer, message.hops[at]
        return best
