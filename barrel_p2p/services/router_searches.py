"""What a router remembers of the requests that it has sent."""

from __future__ import annotations

from typing import final

from barrel_p2p.services.router_messages import FoundNode, FoundService, Target

__all__ = ["Asked", "Found", "Key", "Search"]

type Found = FoundService | FoundNode
type Key = tuple[str, int, int]
"""Origin, id and ttl of a request as it is passed on: what its replies name."""


@final
class Search:
    """One of our own.

    Attributes:
        ref: Whose answer it is.
        target: What is looked for.
        id: On the wire.
        until_ms: The deadline of all of it.
        ring: The next one, counted from 0.
        open: Rings that have not answered in full; the last one is the present one.
        answered: Replies that say something.
        refused: Replies that say that there was no room.
    """

    __slots__ = (
        "answered",
        "id",
        "open",
        "ref",
        "refused",
        "ring",
        "target",
        "until_ms",
    )

    def __init__(self, ref: int, target: Target, number: int, until_ms: int) -> None:
        self.ref = ref
        self.target = target
        self.id = number
        self.until_ms = until_ms
        self.ring = 0
        self.open: dict[Key, Asked] = {}
        self.answered = 0
        self.refused = 0


@final
class Asked:
    """A request that was passed on.

    Attributes:
        key: What its replies name.
        target: What is looked for.
        waiting: The peers that have yet to reply.
        search: Ours, or None.
        asker: Whose it is else, and ``asker_ttl`` what that one's reply has to name.
        answered: Replies that say something.
        refused: Replies that say that there was no room.
        doubtful: Somebody may know who was not asked.
    """

    __slots__ = (
        "answered",
        "asker",
        "asker_ttl",
        "doubtful",
        "key",
        "refused",
        "search",
        "target",
        "waiting",
    )

    def __init__(self, key: Key, target: Target, peers: list[str]) -> None:
        self.key = key
        self.target = target
        self.waiting = dict.fromkeys(peers)
        self.search: Search | None = None
        self.asker = ""
        self.asker_ttl = 0
        self.answered = 0
        self.refused = 0
        self.doubtful = False
