"""How a node becomes known and gets its first peers; how it leaves; whom it contacts.

While a node has no peer it joins through its contacts, for ever. While it has some, it
asks a contact now and then to be introduced: the walk that follows ends at a random
node of the contact's cluster, which then asks for a place here. If both are of one
cluster, one link in it has changed; if not, the two clusters have become one.

Source: Leitao, Pereira, Rodrigues, "HyParView", DSN 2007, section 4.2.
"""

from __future__ import annotations

from typing import Final

from barrel_p2p.core.effects import CancelTimer, Publish, SetTimer
from barrel_p2p.core.names import Address
from barrel_p2p.core.peers import Left
from barrel_p2p.membership.commands import (
    BlockPeers,
    JoinFailed,
    Leave,
    Start,
    UnblockPeers,
)
from barrel_p2p.membership.commands import Join as JoinCommand
from barrel_p2p.membership.links import CONTACT_SOON_MS, LEFT_QUIET_MS, Links, Purpose
from barrel_p2p.membership.messages import (
    Disconnect,
    ForwardJoin,
    Join,
    Neighbor,
    NeighborReply,
    Verdict,
)
from barrel_p2p.membership.views import ExpiringNames

__all__ = ["CONTACTS_LEARNT_MAX", "Joining"]

CONTACTS_LEARNT_MAX: Final = 16
"""Nodes joined by hand that are contacted again later, as ``contact_nodes`` are."""

_INTRODUCE_MS: Final = 1_000
_REMEMBERED_AT_ONCE: Final = 8
_FORCED_MS: Final = 1_000
_INVITED_MS: Final = 10_000
_RECONTACT_DOUBLINGS_MAX: Final = 3
_RECONTACT_DOUBLINGS_LARGE: Final = 6


class Joining:
    """The part of the machine that joins, lets join, and leaves."""

    def __init__(self, links: Links) -> None:
        self._links = links
        names = {links.me.name: links.me}
        self._contacts: dict[str, Address] = {}
        for contact in links.settings.contact_nodes:
            if contact.name not in names:
                self._contacts[contact.name] = contact
        self._configured = len(self._contacts)
        self._untried: list[Address] = []
        self._step = 0
        self._invited_until = 0
        self._introduced = ExpiringNames()
        self._forced = ExpiringNames()

    # Commands.

    def start(self, command: Start) -> None:
        """Begin to look for others."""
        links = self._links
        for address in command.remembered:
            if address.name != links.me.name:
                links.remembered.load(address, links.now)
        soon = min(CONTACT_SOON_MS, links.settings.contact_retry_ms)
        links.out.append(SetTimer("contact", links.rng.jitter(soon // 2)))

    def join(self, command: JoinCommand) -> None:
        """Become a member through one node, and remember it as a contact."""
        links, address = self._links, command.reference
        if links.has_left:
            links.has_left = False
            delay = links.settings.contact_retry_ms
            links.out.append(SetTimer("contact", delay))
        if address.name == links.me.name or address.name in links.blocked:
            links.out.append(Publish(JoinFailed(address.name, "refused")))
            return
        self._learn(address)
        links.gone.discard(address.name)
        if address.name in links.active:
            return
        if not links.request(Purpose.JOIN, address, evict=True):
            links.out.append(Publish(JoinFailed(address.name, "busy")))

    def leave(self, command: Leave) -> None:
        """Tell all peers, and stay out until the next ``Join``."""
        links = self._links
        is_news, links.has_left = not links.has_left, True
        for entry in list(links.pending.values()):
            links.abandon(entry, leaving=True)
        for name in list(links.active):
            links.send(name, Disconnect(leaving=True))
            links.deactivate(name, "left")
        links.passive.clear()
        if command.forget:
            links.remembered.clear()
        links.has_joined = False
        links.hungry = False
        self._invited_until = 0
        self._untried.clear()
        for name in list(self._contacts)[self._configured :]:
            del self._contacts[name]
        links.out.append(CancelTimer("contact"))
        if is_news:
            links.out.append(Publish(Left()))

    def block(self, command: BlockPeers) -> None:
        """Have nothing to do with some nodes."""
        links = self._links
        for name in command.nodes:
            links.blocked[name] = None
            links.passive.pop(name)
            entry = links.pending.get(name)
            if entry is not None:
                links.abandon(entry)
                if entry.purpose is Purpose.JOIN and not entry.soft:
                    links.out.append(Publish(JoinFailed(name, "refused")))
            if name in links.active:
                links.send(name, Disconnect(leaving=False))
                links.deactivate(name, "blocked")

    def unblock(self, command: UnblockPeers) -> None:
        """Let them in again, when they or chance want."""
        links = self._links
        if command.nodes is None:
            links.blocked.clear()
            return
        for name in command.nodes:
            links.blocked.pop(name, None)

    # Messages.

    def on_join(self, peer: str, message: Join) -> None:
        """``peer`` wants in: it gets a place, and others learn of it."""
        links = self._links
        links.churn.join(links.now)
        if peer in links.blocked or links.has_left:
            self._reply(peer, message.request_id, self._refusal())
            return
        newcomer = Address(peer, *message.place)
        links.gone.discard(peer)
        links.false.discard(peer)
        if message.soft and peer not in links.active and links.room <= 0:
            self._reply(peer, message.request_id, Verdict.REFUSED)
            links.passive.met(newcomer, links.now)
        else:
            self._reply(peer, message.request_id, Verdict.ACCEPTED)
            links.activate(newcomer)
        self._introduce(newcomer, everywhere=not message.soft)

    def on_neighbor(self, peer: str, message: Neighbor) -> None:
        """``peer`` wants a link: it gets one if there is room, or if it has nobody."""
        links = self._links
        if peer in links.blocked or links.has_left:
            self._reply(peer, message.request_id, self._refusal())
            return
        links.gone.discard(peer)
        asker = Address(peer, *message.place)
        if peer in links.active or links.room > 0 or self._makes_room(peer, message):
            drop = links.must_go(peer)
            self._reply(peer, message.request_id, Verdict.ACCEPTED, first=drop)
            links.activate(asker, drop=drop)
        else:
            self._reply(peer, message.request_id, Verdict.REFUSED)
            links.passive.met(asker, links.now)

    def on_reply(self, peer: str, message: NeighborReply) -> None:
        """An answer, if this node has asked."""
        links = self._links
        entry = links.pending.get(peer)
        if (
            entry is None
            or not entry.asked
            or entry.request_id != message.request_id
            or entry.purpose is Purpose.PROBE
        ):
            links.ignore()
            return
        links.drop_pending(peer)
        links.hungry = True
        links.hear_of(*message.peers)
        if peer in links.active:
            return
        where = message.place if message.place[1] else entry.address[1:]
        address = Address(peer, *where)
        if message.verdict is Verdict.ACCEPTED:
            self._accepted(address, message.peers, evict=entry.evict)
        elif message.verdict is Verdict.LEFT:
            self._has_left(peer)
        else:
            links.passive.met(address, links.now)
            links.passive.refused(peer, links.now)
            links.refusals += 1
            links.refused_ms = links.now
            if entry.soft:
                self._invited_until = links.now + _INVITED_MS
        if entry.soft:
            self._untried.clear()
        elif entry.purpose is Purpose.JOIN and message.verdict is not Verdict.ACCEPTED:
            reason = message.verdict.name.lower()
            links.out.append(Publish(JoinFailed(peer, reason)))

    def on_forward_join(self, peer: str, message: ForwardJoin) -> None:
        """Ask the newcomer for a link, remember it, or pass the word on."""
        links, newcomer = self._links, message.newcomer
        name = newcomer.name
        is_welcome = links.walks.may_walk(peer, links.now)
        if not is_welcome or name == links.me.name or name in links.blocked:
            links.ignore()
            return
        links.gone.discard(name)
        ttl = min(message.ttl, links.settings.arwl)
        others = links.others(peer, name)
        if links.is_candidate(name) and not links.false.has(name, links.now):
            last = ttl == 0 or not others
            if last or links.room > 0:
                if not links.request(Purpose.NEIGHBOR, newcomer, evict=last):
                    links.hear_of(newcomer)
                return
            if ttl == links.settings.prwl:
                links.hear_of(newcomer)
        if ttl > 0 and others:
            to = others[links.rng.below(len(others))]
            links.send(to, ForwardJoin(ttl - 1, newcomer))

    def on_disconnect(self, peer: str, message: Disconnect) -> None:
        """``peer`` has taken its side of the link away, or leaves altogether."""
        links = self._links
        if peer in links.active:
            links.churn.leave(links.now)
            reason = "left" if message.leaving else "disconnected"
            address = links.deactivate(peer, reason)
            if not message.leaving:
                links.passive.met(address, links.now)
                links.passive.refused(peer, links.now)
        if message.leaving:
            self._has_left(peer)

    # Contacts.

    def contact(self) -> None:
        """Look for others, or for a part of the cluster that has lost us."""
        links = self._links
        if links.has_left:
            return
        if links.active:
            contacts = [c for c in self._contacts.values() if self._is_fit(c.name)]
            self._untried = links.rng.sample(contacts, len(contacts))
            self.contact_next()
            wait = links.settings.shuffle_period << self._step
            self._step = self._next_step()
        else:
            self._join_all()
            self._step = 0
            wait = links.settings.contact_retry_ms
        delay = wait * 3 // 4 + links.rng.jitter(wait // 2)
        links.out.append(SetTimer("contact", delay))

    def unsettle(self) -> None:
        """A peer was lost to a failure: part of the cluster may be, so ask soon."""
        links = self._links
        if self._step and links.active:
            soon = links.rng.jitter(links.settings.shuffle_period)
            links.out.append(SetTimer("contact", soon))
        self._step = 0

    def contact_next(self) -> None:
        """Ask the next contact of this round to introduce us, if one is left."""
        links = self._links
        while self._untried:
            contact = self._untried.pop()
            if self._is_fit(contact.name):
                links.counters.introductions += 1
                links.request(Purpose.JOIN, contact, soft=True, evict=True)
                return

    def _next_step(self) -> int:
        """How often the wait after the next one is doubled."""
        links = self._links
        if len(links.passive) * 4 < links.settings.passive_size * 3:
            return min(self._step + 1, _RECONTACT_DOUBLINGS_MAX)
        # In a large cluster somebody asks at any time, so each may ask rarely: what
        # changes in the overlay costs second copies of broadcasts.
        return _RECONTACT_DOUBLINGS_LARGE if self._step else 2

    def _join_all(self) -> None:
        links = self._links
        for contact in self._contacts.values():
            if self._is_fit(contact.name):
                links.request(Purpose.JOIN, contact, evict=True)
        known = links.remembered.due(links.now + 1, self._is_fit)
        for chosen in links.rng.sample(known, _REMEMBERED_AT_ONCE):
            links.request(Purpose.JOIN, chosen.address, evict=True)

    def _is_fit(self, name: str) -> bool:
        links = self._links
        return not (
            name in links.active or name in links.pending or name in links.blocked
        )

    def _learn(self, address: Address) -> None:
        learnt = len(self._contacts) - self._configured
        if address.name not in self._contacts and learnt >= CONTACTS_LEARNT_MAX:
            del self._contacts[list(self._contacts)[self._configured]]
        self._contacts[address.name] = address

    # Answers.

    def _refusal(self) -> Verdict:
        return Verdict.LEFT if self._links.has_left else Verdict.REFUSED

    def _reply(
        self, peer: str, request_id: int, verdict: Verdict, *, first: str | None = None
    ) -> None:
        """Answer, and tell of some: ``first``, if given, is about to miss a peer."""
        links = self._links
        peers: tuple[Address, ...] = ()
        if not links.has_left and peer not in links.blocked:
            count = links.settings.shuffle_length - (first is not None)
            peers = links.sample(count, without=peer)
            if first is not None:
                others = [other for other in peers if other.name != first]
                peers = (links.active[first].address, *others)
        links.send(peer, NeighborReply(request_id, verdict, links.place, peers))

    def _makes_room(self, peer: str, message: Neighbor) -> bool:
        """Whether a peer has to go for ``peer``."""
        links = self._links
        own = links.pending.get(peer)
        if own is not None and own.evict:
            return True
        if links.now < self._invited_until:
            self._invited_until = 0
            return True
        if not message.high or self._forced.has(peer, links.now):
            return False
        # Nobody may push others out one after the other.
        self._forced.add(peer, links.now + _FORCED_MS)
        return True

    def _accepted(
        self, address: Address, peers: tuple[Address, ...], *, evict: bool
    ) -> None:
        links = self._links
        if links.room > 0 or evict:
            drop = links.must_go(address.name)
            if drop is not None and peers:
                # Both sides drop somebody for this link: these two take each other.
                links.send(drop, ForwardJoin(0, peers[0]))
            links.activate(address, drop=drop)
            return
        links.send(address.name, Disconnect(leaving=False))
        links.passive.met(address, links.now)

    def _has_left(self, peer: str) -> None:
        links = self._links
        links.passive.pop(peer)
        links.remembered.forget(peer)
        links.gone.add(peer, links.now + LEFT_QUIET_MS)

    def _introduce(self, newcomer: Address, *, everywhere: bool) -> None:
        links = self._links
        others = links.others(newcomer.name)
        if not others or self._introduced.has(newcomer.name, links.now):
            return
        self._introduced.add(newcomer.name, links.now + _INTRODUCE_MS)
        if not everywhere:
            others = [others[links.rng.below(len(others))]]
        message = ForwardJoin(links.settings.arwl, newcomer)
        for name in others:
            links.send(name, message)
