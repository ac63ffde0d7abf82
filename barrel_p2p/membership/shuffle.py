"""The exchange that keeps passive views fresh, and what is done once a round.

A shuffle walks, with its origin kept, to a node some steps away. That node answers its
origin over the same steps, each of which knows from whom it had the walk, so no channel
has to be opened. Both replace what they sent by what they got.

Source: Leitao, Pereira, Rodrigues, "HyParView", DSN 2007, section 4.4.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from barrel_p2p.core.effects import Persist, SetTimer
from barrel_p2p.core.records import quickly_made
from barrel_p2p.membership.links import Links
from barrel_p2p.membership.messages import PEERS_MAX, Shuffle, ShuffleReply
from barrel_p2p.membership.promotion import Promotion
from barrel_p2p.membership.views import shuffle_period_ms

__all__ = ["SWAP_ONE_IN", "Shuffling"]

SWAP_ONE_IN: Final = 10
"""Rounds, on average, between two swaps of a peer although the active view is full."""

_SWAP_ONE_IN_MAX: Final = 200
_OWN_MAX: Final = 4


@quickly_made
class _Own(NamedTuple):
    """A shuffle of ours: whom it went to, and whom it told of."""

    to: str
    sent: list[str]


class Shuffling:
    """The part of the machine that works in rounds."""

    def __init__(self, links: Links, promotion: Promotion) -> None:
        self._links = links
        self._promotion = promotion
        self._own: dict[int, _Own] = {}
        self._quiet = 0  # rounds since a peer was lost to a failure
        self._lost = 0

    @property
    def period_ms(self) -> int:
        """Milliseconds from one round to the next, as things are."""
        links = self._links
        events = sum(links.churn.stats(links.now))
        return shuffle_period_ms(events, links.settings.shuffle_period)

    def start(self) -> None:
        """Begin with the rounds."""
        links = self._links
        period = links.settings.shuffle_period
        links.out.append(SetTimer("shuffle", period // 2 + links.rng.jitter(period)))
        links.out.append(SetTimer("cleanup", links.settings.passive_cleanup_period))

    def round(self) -> None:
        """Shuffle with a random peer; now and then swap; look for one lost peer."""
        links = self._links
        period = self.period_ms
        delay = period * 9 // 10 + links.rng.jitter(period // 5)
        links.out.append(SetTimer("shuffle", delay))
        if links.has_left:
            return
        if links.active:
            self._begin()
            self._maybe_swap()
            self._promotion.probe()
        links.hungry = True
        if links.remembered.dirty:
            links.remembered.dirty = False
            links.out.append(Persist("peers", links.remembered.addresses()))

    def cleanup(self) -> None:
        """Forget what is too old."""
        links = self._links
        links.passive.drop_aged(links.now)
        links.gone.prune(links.now)
        links.false.prune(links.now)
        delay = links.settings.passive_cleanup_period
        links.out.append(SetTimer("cleanup", delay))

    def end(self, peer: str, message: Shuffle) -> None:
        """A walk goes no further: answer it."""
        links, origin = self._links, message.origin
        count = min(len(message.peers) + 1, links.settings.shuffle_length, PEERS_MAX)
        known = links.passive.sample(count - 1, without=origin.name)
        answer = (links.me, *known)
        links.send(peer, ShuffleReply(message.request_id, answer))
        # As many as a shuffle may tell; whom we told of goes for them.
        sent = [address.name for address in known]
        links.hear_of(origin, *message.peers, first_out=sent)

    def on_reply(self, peer: str, message: ShuffleReply) -> None:
        """Take the answer to a shuffle of ours."""
        links = self._links
        own = self._own.get(message.request_id)
        if own is None or own.to != peer:
            links.ignore()
            return
        del self._own[message.request_id]
        links.hear_of(*message.peers, first_out=own.sent)

    def _maybe_swap(self) -> None:
        links = self._links
        if links.lost != self._lost:
            self._lost, self._quiet = links.lost, 0
        self._quiet += 1
        rarely = min(max(self._quiet**2, SWAP_ONE_IN), _SWAP_ONE_IN_MAX)
        if links.room <= 0 and links.rng.below(rarely) == 0:
            self._promotion.swap()

    def _begin(self) -> None:
        links = self._links
        names = list(links.active)
        to = names[links.rng.below(len(names))]
        count = min(links.settings.shuffle_length, PEERS_MAX) - 1
        peers = links.sample(count, without=to) if count > 0 else ()
        request_id = links.walks.next_id()
        self._own[request_id] = _Own(to, [address.name for address in peers])
        if len(self._own) > _OWN_MAX:
            del self._own[next(iter(self._own))]
        links.counters.shuffles += 1
        links.send(to, Shuffle(request_id, links.settings.arwl, links.me, peers))
