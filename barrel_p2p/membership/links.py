"""What all parts of the machine share: the views, requests under way, how links change.

A link is told to the other side by an accepting reply or by DISCONNECT, and control
frames arrive in order, so each side's last word decides. Hence two rules. Whoever gives
up a request that may still be accepted says DISCONNECT, and whoever says that gives up
its request: the reply counts for nothing. A request that was sent stays until its reply
comes, even if the other side's own request has made the link meanwhile.

Every way into the active view is ``activate``, every way out ``deactivate``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from barrel_p2p.core.effects import CancelTimer, Dial, Effect, Publish, Send, SetTimer
from barrel_p2p.core.names import Address
from barrel_p2p.core.peers import Joined, PeerDown, PeerUp
from barrel_p2p.core.records import quickly_made
from barrel_p2p.core.rng import Rng
from barrel_p2p.membership.commands import JoinFailed
from barrel_p2p.membership.messages import (
    PEERS_MAX,
    REQUEST_ID_MAX,
    Disconnect,
    Join,
    Message,
    Neighbor,
    Place,
)
from barrel_p2p.membership.passive import PassiveView
from barrel_p2p.membership.settings import Settings
from barrel_p2p.membership.views import Churn, ExpiringNames, RememberedPeers
from barrel_p2p.membership.walks import ActivePeer, Walks

__all__ = [
    "LEFT_QUIET_MS",
    "PENDING_MAX",
    "Counters",
    "Links",
    "Pending",
    "Purpose",
]

PENDING_MAX: Final = 32
"""Requests under way at a time, so that hearsay cannot make us dial without end."""

LEFT_QUIET_MS: Final = 60_000
"""How long a node that left is not asked back."""

CONTACT_SOON_MS: Final = 1_000


class Purpose(Enum):
    """What a request is for."""

    JOIN = "join"
    NEIGHBOR = "neighbor"
    PROBE = "probe"


@quickly_made
@dataclass(slots=True)
class Pending:
    """A request under way: first a channel, then an answer.

    Args:
        request_id: In the request, in the dial and in the timer.
        purpose: What it is for.
        address: Of whom.
        since_ms: When it began.
        high: Ask with high priority.
        soft: Ask to be introduced.
        evict: Take them even if a peer has to go for it.
        asked: The request was sent, and may be accepted at any time.
    """

    request_id: int
    purpose: Purpose
    address: Address
    since_ms: int
    high: bool = False
    soft: bool = False
    evict: bool = False
    asked: bool = False


@dataclass(slots=True)
class Counters:
    """What happened so far; each number only grows."""

    peer_up: int = 0
    peer_down: int = 0
    evicted: int = 0
    shuffles: int = 0
    swaps: int = 0
    introductions: int = 0
    probes: int = 0
    failures: int = 0
    pending_timeouts: int = 0
    ignored: int = 0


class Links:
    """The state of the machine, and what may be done to it.

    Args:
        me: This node's name, and where it listens; see ``messages.Place``.
        settings: Sizes and times.
        rng: Chance.

    Attributes:
        now: The monotonic clock at the input that is being handled.
        out: The effects of that input.
        hungry: Something happened because of which the active view may be filled.
    """

    def __init__(self, me: Address, settings: Settings, rng: Rng) -> None:
        self.me = me
        self.place: Place = (me.host, me.port)
        self.settings = settings
        self._active_size = settings.active_size
        self._shuffle_length = settings.shuffle_length
        self.rng = rng
        self.now = 0
        self.out: list[Effect] = []
        self.hungry = False
        self.active: dict[str, ActivePeer] = {}
        self.passive = PassiveView(settings, rng)
        self.remembered = RememberedPeers(rng)
        self.pending: dict[str, Pending] = {}
        self.up: dict[str, None] = {}
        self.blocked: dict[str, None] = {}
        self.gone = ExpiringNames()  # left: not asked back
        self.false = ExpiringNames()  # not where hearsay said: not believed again
        self._barred = (self.active, self.blocked, {me.name: None})
        self.churn = Churn(settings.churn_window_ms)
        self.counters = Counters()
        self.has_left = False
        self.has_joined = False
        self.lost = 0  # peers lost to failures
        self.refusals = 0  # in a row
        self.refused_ms = 0  # when the last one came
        first_id = rng.below(REQUEST_ID_MAX)
        self.walks = Walks(me.name, self.active, rng, settings.arwl, first_id)
        self._pending_names: dict[int, str] = {}

    # The active view.

    @property
    def room(self) -> int:
        """How many peers are missing."""
        return self._active_size - len(self.active)

    def must_go(self, name: str) -> str | None:
        """Who has to go if ``name`` is to be a peer: anybody, or nobody."""
        if name in self.active or len(self.active) < self.settings.active_size:
            return None
        names = list(self.active)
        return names[self.rng.below(len(names))]

    def activate(self, address: Address, *, drop: str | None = None) -> None:
        """Take ``address`` as a peer; without room, ``drop`` or somebody goes."""
        name = address.name
        known = self.active.get(name)
        if known is not None:
            known.address = address
            return
        if len(self.active) >= self.settings.active_size:
            goes = drop if drop in self.active else self.must_go(name)
            assert goes is not None
            self.evict(goes)
        self.passive.pop(name)
        entry = self.pending.get(name)
        if entry is not None and not entry.asked:
            self.drop_pending(name)
        if not self.active:
            # There is no hurry any more to be introduced to others.
            wait = self.settings.shuffle_period
            delay = wait * 3 // 4 + self.rng.jitter(wait // 2)
            self.out.append(SetTimer("contact", delay))
        self.active[name] = ActivePeer(address, self.now)
        self.remembered.met(address, self.now)
        self.gone.discard(name)
        self.false.discard(name)
        self.refusals = min(self.refusals, self.settings.active_size)
        self.counters.peer_up += 1
        self.out.append(Publish(PeerUp(name)))
        if not self.has_joined:
            self.has_joined = True
            self.out.append(Publish(Joined()))

    def deactivate(self, name: str, reason: str) -> Address:
        """Have ``name`` be a peer no more. Telling it is the caller's affair."""
        address = self.active.pop(name).address
        self.counters.peer_down += 1
        self.hungry = True
        self.out.append(Publish(PeerDown(name, reason)))
        if not self.active and not self.has_left:
            soon = min(CONTACT_SOON_MS, self.settings.contact_retry_ms)
            self.out.append(SetTimer("contact", self.rng.jitter(soon)))
        return address

    def evict(self, name: str) -> None:
        """Make room: ``name`` becomes a replacement again."""
        self.counters.evicted += 1
        self.send(name, Disconnect(leaving=False))
        self.drop_pending(name)
        address = self.deactivate(name, "dropped")
        self.passive.met(address, self.now)

    def others(self, *names: str) -> list[str]:
        """The peers besides ``names``."""
        return [name for name in self.active if name not in names]

    # Who may enter a view.

    def is_candidate(self, name: str) -> bool:
        """Whether ``name`` may be asked to be a peer, as far as this node knows."""
        return (
            name not in self.active
            and name not in self.pending
            and name not in self.blocked
            and name != self.me.name
            and not (name in self.gone.until and self.gone.has(name, self.now))
        )

    def unfit(self) -> dict[str, object]:
        """Everybody of whom ``is_candidate`` says no: for a look at many at once."""
        return {
            self.me.name: None,
            **self.active,
            **self.pending,
            **self.blocked,
            **dict.fromkeys(self.gone.names(self.now)),
        }

    def hear_of(self, *addresses: Address, first_out: Iterable[str] = ()) -> bool:
        """Take in hearsay, unless this node knows better; returns whether any is new.

        Args:
            addresses: Who there is said to be; of many, as many as a shuffle may tell.
            first_out: Who goes first if there is no room; otherwise anybody.
        """
        found = self.passive.hear_all(
            addresses,
            self._shuffle_length,
            self.now,
            barred=self._barred,
            expiring=(self.gone.until, self.false.until),
            up=self.up,
            first_out=first_out,
        )
        if found:
            self.hungry = True
        return found > 0

    def sample(self, count: int, *, without: str) -> tuple[Address, ...]:
        """Some that this node knows: three peers for every four replacements."""
        count = min(count, PEERS_MAX)
        peers = [p.address for n, p in self.active.items() if n != without]
        chosen = self.rng.sample(peers, max(count * 3 // 7, 1) if count else 0)
        chosen += self.passive.sample(count - len(chosen), without=without)
        return tuple(chosen)

    # Requests.

    def request(
        self,
        purpose: Purpose,
        address: Address,
        *,
        high: bool = False,
        soft: bool = False,
        evict: bool = False,
    ) -> bool:
        """Begin to ask ``address``; returns False if too much is under way.

        An earlier request to it is forgotten. If that was sent, its answer comes before
        the new one's, and counts for nothing.
        """
        name = address.name
        if name not in self.pending and len(self.pending) >= PENDING_MAX:
            return False
        self.drop_pending(name)
        entry = Pending(
            self.walks.next_id(), purpose, address, self.now, high=high, soft=soft
        )
        entry.evict = evict
        self.pending[name] = entry
        self._pending_names[entry.request_id] = name
        timer = ("pending", entry.request_id)
        self.out.append(SetTimer(timer, self.settings.pending_timeout_ms))
        if name in self.up:
            self.ask(entry)
        else:
            place = (address.host, address.port) if address.port else None
            self.out.append(Dial(name, place, entry.request_id))
        return True

    def ask(self, entry: Pending) -> None:
        """There is a channel: send the request."""
        name, message = entry.address.name, _message(entry, self.place)
        entry.asked = True
        self.send(name, message)

    def pending_of(self, request_id: int) -> Pending | None:
        """The request of that id, if it is still under way."""
        name = self._pending_names.get(request_id)
        return None if name is None else self.pending.get(name)

    def drop_pending(self, name: str) -> Pending | None:
        """Forget the request to ``name``."""
        entry = self.pending.pop(name, None)
        if entry is not None:
            del self._pending_names[entry.request_id]
            self.out.append(CancelTimer(("pending", entry.request_id)))
        return entry

    def abandon(self, entry: Pending, *, leaving: bool = False) -> None:
        """Forget a request, and tell whoever may yet accept it."""
        self.drop_pending(entry.address.name)
        if entry.asked:
            self.send(entry.address.name, Disconnect(leaving=leaving))

    def fail(self, entry: Pending, reason: str) -> None:
        """``entry`` came to nothing."""
        name = entry.address.name
        self.counters.failures += 1
        self.drop_pending(name)
        self.hungry = True
        self.remembered.failed(name)
        entry_known = self.passive.get(name)
        proven = entry_known is not None and entry_known.proven
        if self.passive.failed(name, self.now) and not proven:
            self.false.add(name, self.now + self.settings.passive_max_age_ms)
        if entry.purpose is Purpose.JOIN and not entry.soft:
            self.out.append(Publish(JoinFailed(name, reason)))

    def send(self, to: str, message: Message) -> None:
        """Order ``message`` to be sent."""
        self.out.append(Send(to, message))

    def ignore(self) -> None:
        """Count a message that is legal and makes no sense here."""
        self.counters.ignored += 1


def _message(entry: Pending, place: Place) -> Message:
    if entry.purpose is Purpose.JOIN:
        return Join(entry.request_id, entry.soft, place)
    return Neighbor(entry.request_id, entry.high, place)
