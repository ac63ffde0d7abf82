"""Walks that come by, plainly: a dict of those whose way back is known."""

from __future__ import annotations

from typing import NamedTuple

from barrel_p2p.core.effects import Effect, Send
from barrel_p2p.core.rng import Rng
from barrel_p2p.membership.messages import REQUEST_ID_MAX, Shuffle, ShuffleReply
from barrel_p2p.membership.walks import (
    ENDS,
    IGNORED,
    PASSED,
    RELAYS_MAX,
    WALKS_MAX,
    WALKS_WINDOW_MS,
    ActivePeer,
)

__all__ = ["WalksModel"]


class _Relay(NamedTuple):
    to: str
    origin: str
    request_id: int


class WalksModel:
    """What a node remembers of the walks that pass through it."""

    def __init__(
        self,
        me: str,
        active: dict[str, ActivePeer],
        rng: Rng,
        arwl: int,
        last_id: int,
    ) -> None:
        self._me = me
        self._active = active
        self._rng = rng
        self._arwl = arwl
        self._last_id = last_id
        self._relays: dict[int, _Relay] = {}

    def __len__(self) -> int:
        return len(self._relays)

    def next_id(self) -> int:
        self._last_id = (self._last_id + 1) & REQUEST_ID_MAX
        return self._last_id

    def may_walk(self, peer: str, now_ms: int) -> bool:
        entry = self._active.get(peer)
        if entry is None:
            return False
        if now_ms - entry.window_ms >= WALKS_WINDOW_MS:
            entry.window_ms = now_ms
            entry.walks = 0
        entry.walks += 1
        return entry.walks <= WALKS_MAX

    def pass_on(
        self, peer: str, message: Shuffle, now_ms: int, out: list[Effect]
    ) -> int:
        origin = message.origin.name
        if not self.may_walk(peer, now_ms) or origin == self._me:
            return IGNORED
        ttl = min(message.ttl, self._arwl)
        others = [name for name in self._active if name not in (peer, origin)]
        if ttl <= 0 or not others:
            return ENDS
        to = others[self._rng.below(len(others))]
        request_id = self.next_id()
        self._relays[request_id] = _Relay(to, peer, message.request_id)
        if len(self._relays) > RELAYS_MAX:
            del self._relays[next(iter(self._relays))]
        walk = Shuffle(request_id, ttl - 1, message.origin, message.peers)
        out.append(Send(to, walk))
        return PASSED

    def hand_back(self, peer: str, message: ShuffleReply, out: list[Effect]) -> bool:
        relay = self._relays.get(message.request_id)
        if relay is None or relay.to != peer:
            return False
        del self._relays[message.request_id]
        out.append(Send(relay.origin, ShuffleReply(relay.request_id, message.peers)))
        return True
