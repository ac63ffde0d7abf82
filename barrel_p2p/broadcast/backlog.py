"""What a peer is still owed while the queue to it is full: ids, never payloads.

Bounded by ``BACKLOG_IDS_MAX`` ids of each sort.
"""

from __future__ import annotations

from typing import Final

from barrel_p2p.broadcast.messages import IHAVE_IDS_MAX, IHave

__all__ = ["BACKLOG_IDS_MAX", "Backlog"]

BACKLOG_IDS_MAX: Final = 1 << 16
"""Ids that wait to be announced to a peer; as many that it asked for."""


class Backlog:
    """One peer's.

    Attributes:
        unannounced: Ids to announce, each with its hops.
        asked: Ids whose messages to send, oldest first.
        lost: Ids that found no room here.
    """

    __slots__ = ("asked", "lost", "unannounced")

    def __init__(self) -> None:
        self.unannounced: dict[bytes, int] = {}
        self.asked: dict[bytes, None] = {}
        self.lost = 0

    def announce(self, message_id: bytes, hops: int) -> None:
        """Announce it when there is room."""
        if len(self.unannounced) < BACKLOG_IDS_MAX:
            self.unannounced[message_id] = hops
        else:
            self.lost += 1

    def ask(self, message_id: bytes) -> None:
        """Send it when there is room."""
        if len(self.asked) < BACKLOG_IDS_MAX:
            self.asked[message_id] = None
        else:
            self.lost += 1

    def announcements(self, *, owed: bool) -> list[IHave]:
        """All that is to be announced, which is then no longer to be."""
        ids, hops = list(self.unannounced), list(self.unannounced.values())
        self.unannounced = {}
        return [
            IHave(
                b"".join(ids[start : start + IHAVE_IDS_MAX]),
                bytes(hops[start : start + IHAVE_IDS_MAX]),
                owed,
            )
            for start in range(0, len(ids), IHAVE_IDS_MAX)
        ]
