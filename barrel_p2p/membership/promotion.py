"""How the active view is filled from the passive one, and how failures are taken.

A node that misses peers asks random replacements, several at once, and goes on to the
next when one fails, refuses or lets it wait. If all it knows have refused, it asks one
with high priority, at most a few times and then rarely: that moves the gap elsewhere,
where it may be closed.

Source: Leitao, Pereira, Rodrigues, "HyParView", DSN 2007, section 4.3.
"""

from __future__ import annotations

from typing import Final

from barrel_p2p.core.effects import SetTimer
from barrel_p2p.core.inputs import DialFailed, Dialled
from barrel_p2p.core.names import Address
from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.membership.joining import Joining
from barrel_p2p.membership.links import LEFT_QUIET_MS, Links, Pending, Purpose

__all__ = ["Promotion"]

_RETRY_MS: Final = 200
_RETRY_JITTER_MS: Final = 300
_HEDGE_MS: Final = 500
_REFUSALS_FREE_MIN: Final = 12
_REST_MS: Final = 250
_REST_DOUBLINGS_MAX: Final = 6
_ESCALATE_MS: Final = 1_000
_ESCALATIONS_MAX: Final = 9
# Reasons of a channel's end that say nothing against the node.
_GRACEFUL: Final = frozenset({"disconnect", "superseded"})
_LEAVING: Final = "shutdown"


class Promotion:
    """The part of the machine that keeps the active view full."""

    def __init__(self, links: Links, joining: Joining) -> None:
        self._links = links
        self._joining = joining
        self._armed_ms = 0  # when the timer fires; 0 for no timer
        self._escalations = 0
        self._escalate_at_ms: int | None = None

    # Channels and dials.

    def on_up(self, event: NodeUp) -> None:
        """There is a channel, whoever wanted it."""
        links, name = self._links, event.node
        links.up[name] = None
        links.false.discard(name)
        known = links.passive.get(name)
        if known is not None:
            known.proven = True
            known.fail_count = 0
            known.last_seen_ms = links.now
        entry = links.pending.get(name)
        if entry is not None and not entry.asked:
            self._reached(entry)

    def on_down(self, event: NodeDown) -> None:
        """A channel has ended."""
        links, name, reason = self._links, event.node, event.reason
        links.up.pop(name, None)
        entry = links.pending.get(name)
        if entry is not None and entry.asked:
            links.fail(entry, reason)
        if name not in links.active:
            return
        links.churn.leave(links.now)
        if reason == _LEAVING:
            links.deactivate(name, "left")
            links.gone.add(name, links.now + LEFT_QUIET_MS)
            return
        address = links.deactivate(name, reason)
        links.passive.met(address, links.now)
        if reason in _GRACEFUL:
            return
        links.passive.failed(name, links.now)
        links.remembered.failed(name)
        links.lost += 1
        links.refusals = 0
        self._joining.unsettle()
        self._escalations = 0

    def on_dialled(self, event: Dialled) -> None:
        """A dial of ours has come up."""
        entry = self._links.pending_of(event.tag)
        if entry is not None and not entry.asked:
            self._reached(entry)

    def on_dial_failed(self, event: DialFailed) -> None:
        """A dial of ours has failed; if the other side dialled, nothing is lost."""
        entry = self._links.pending_of(event.tag)
        if entry is None or entry.asked:
            return
        self._fail(entry, event.reason)

    def on_timeout(self, request_id: int) -> None:
        """A request has been under way for too long."""
        links = self._links
        entry = links.pending_of(request_id)
        if entry is None:
            return
        if entry.address.name in links.active:
            # Its own request was faster; the reply to ours still counts.
            delay = links.settings.pending_timeout_ms
            links.out.append(SetTimer(("pending", request_id), delay))
            return
        links.counters.pending_timeouts += 1
        links.abandon(entry)
        self._fail(entry, "timeout")

    def _fail(self, entry: Pending, reason: str) -> None:
        self._links.fail(entry, reason)
        if entry.soft:
            self._joining.contact_next()

    def _reached(self, entry: Pending) -> None:
        links = self._links
        if entry.purpose is not Purpose.PROBE:
            links.ask(entry)
            return
        links.drop_pending(entry.address.name)
        self._is_there(entry.address)

    def _is_there(self, address: Address) -> None:
        links, name = self._links, address.name
        known = links.remembered.get(name)
        was_lost = known is not None and known.failing
        links.remembered.met(address, links.now)
        if was_lost:
            # Whoever could not be reached may be in another part of the cluster.
            links.request(Purpose.JOIN, address, soft=True, evict=True)
        elif links.is_candidate(name):
            links.passive.met(address, links.now)

    # The active view.

    def retry(self) -> None:
        """The timer has fired."""
        self._armed_ms = 0
        self._links.hungry = True

    def fill(self) -> None:
        """Ask as many replacements as there are peers missing."""
        links = self._links
        if links.has_left or links.room <= 0:
            self._escalate_at_ms = None
            return
        waiting = self._waiting()
        missing = links.room - waiting
        if self._rest_until_ms() > links.now:
            missing = 0
        while missing > 0:
            candidates = links.passive.eligible(links.now, links.unfit())
            if not candidates:
                spare = links.passive.take_spare()
                if spare is None:
                    break
                links.hear_of(spare)
                continue
            chosen = candidates[links.rng.below(len(candidates))].address
            high = not links.active and waiting == 0
            if not links.request(Purpose.NEIGHBOR, chosen, high=high):
                break
            waiting += 1
            missing -= 1
        if not waiting:
            self._escalate()
        self._arm()

    def swap(self) -> None:
        """Ask a random replacement for the place of a random peer, who goes for it."""
        links = self._links
        candidates = links.passive.eligible(links.now, links.unfit())
        if candidates:
            chosen = candidates[links.rng.below(len(candidates))].address
            links.counters.swaps += 1
            links.request(Purpose.NEIGHBOR, chosen, high=True, evict=True)

    def probe(self) -> None:
        """Look whether one former peer, or one that is only hearsay, is there."""
        links = self._links
        oldest = links.now - links.settings.passive_max_age_ms
        due: list[Address] = [
            peer.address for peer in links.remembered.due(oldest, links.is_candidate)
        ]
        if not due:
            return
        links.counters.probes += 1
        chosen = due[links.rng.below(len(due))]
        if chosen.name in links.up:
            self._is_there(chosen)  # Asked, it would take this node for a peer.
        else:
            links.request(Purpose.PROBE, chosen)

    def _rest_until_ms(self) -> int:
        """Until when to wait: where all are full, it helps nobody to ask them all."""
        links = self._links
        many = max(_REFUSALS_FREE_MIN, 2 * links.settings.active_size)
        if not links.active or links.refusals < many:
            return links.now
        wait = _REST_MS << min(links.refusals - many, _REST_DOUBLINGS_MAX)
        return links.refused_ms + wait

    def _waiting(self) -> int:
        """Requests that may soon fill a gap; one that is slow is not counted on."""
        slow = self._links.now - _HEDGE_MS
        return sum(
            1
            for name, entry in self._links.pending.items()
            if entry.purpose is not Purpose.PROBE
            and entry.since_ms > slow
            and name not in self._links.active
        )

    def _escalate(self) -> None:
        """All have refused, or there is nobody: ask one with high priority, in time."""
        links = self._links
        refused = [
            entry.address
            for entry in links.passive.entries()
            if entry.refusals
            and not entry.fail_count
            and links.is_candidate(entry.address.name)
        ]
        if not refused:
            return
        if self._escalate_at_ms is None:
            wait = _ESCALATE_MS << self._escalations
            self._escalate_at_ms = links.now + wait // 2 + links.rng.jitter(wait)
        if links.now < self._escalate_at_ms:
            return
        self._escalate_at_ms = None
        self._escalations = min(self._escalations + 1, _ESCALATIONS_MAX)
        chosen = refused[links.rng.below(len(refused))]
        links.request(Purpose.NEIGHBOR, chosen, high=True)

    def _arm(self) -> None:
        """Try again soon, or when the first replacement may be asked again."""
        links = self._links
        rest_ms = self._rest_until_ms()
        free_ms = links.passive.first_free_ms(
            links.unfit(), enough_ms=max(rest_ms, links.now + _RETRY_MS)
        )
        if free_ms is None:
            return
        first = max(free_ms, rest_ms)
        if self._escalate_at_ms is not None:
            first = min(first, self._escalate_at_ms)
        wait = max(first - links.now, _RETRY_MS)
        at_ms = links.now + wait
        # One that fires earlier will do.
        if self._armed_ms and self._armed_ms <= at_ms + _RETRY_JITTER_MS:
            return
        delay = wait + links.rng.jitter(_RETRY_JITTER_MS)
        self._armed_ms = links.now + delay
        links.out.append(SetTimer("promote", delay))
