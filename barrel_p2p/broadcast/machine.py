"""Plumtree: decide whom to push a broadcast to, whom to tell of it, and whom to ask.

Every neighbour is eager, and gets each broadcast whole, or lazy, and gets its id. A
second copy makes its sender lazy, on both sides, so that what stays eager is a tree; an
id whose message does not come makes its announcer eager again. A path that is much
longer than an announced one is given up for it, unless other messages are under way.

A neighbour begins eager, unless an eager one has pushed the newest message: then a link
more would only bring a second copy. Whoever has no such *source* says so by GRAFT to
its new neighbours, and asks soon for what is announced. Who loses it takes the lazy one
that was nearest to where the message began, in time for the next message.

Where the queue to a peer is full, an announcement takes the place of the push, and the
peer asks for what it misses: a slow peer costs ids.

Bounded by ``ids_max``, ``payload_bytes_max`` and the limits of ``repair`` and
``backlog``.

Source: Leitao, Pereira, Rodrigues, "Epidemic Broadcast Trees", SRDS 2007.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, final

from xxhash import xxh3_64_digest

from barrel_p2p.broadcast.backlog import Backlog
from barrel_p2p.broadcast.dedup import ID_BYTES, SeenIds
from barrel_p2p.broadcast.limits import (
    DRAIN_BYTES,
    GRAFT_RETRY_MS,
    GRAFT_TIMEOUT_MS,
    IDS_MAX,
    IHAVE_BATCH,
    IHAVE_FLUSH_MS,
    IN_FLIGHT_MS,
    MESSAGE_TTL_MS,
    OPTIMISE_HOPS,
    OPTIMISE_PAUSE_MS,
    PAYLOAD_RETAIN_MS,
    PRUNE_AGAIN_MS,
    RECENT_IDS_MAX,
    RECENT_MS,
    RETAINED_BYTES_MAX,
    SWEEP_MS,
)
from barrel_p2p.broadcast.messages import (
    GRAFT_IDS_MAX,
    HOPS_MAX,
    PRUNE,
    Delivery,
    Gossip,
    Graft,
    IHave,
    Prune,
)
from barrel_p2p.broadcast.repair import Missing, Wanted
from barrel_p2p.broadcast.retained import Retained
from barrel_p2p.broadcast.source import Source
from barrel_p2p.core.effects import Effect, Publish, Send, SetTimer
from barrel_p2p.core.inputs import Received, TimerFired
from barrel_p2p.core.peers import PeerDown, PeerUp
from barrel_p2p.core.rng import Rng
from barrel_p2p.errors import InvalidValue

__all__ = ["BroadcastMessage", "Congested", "Plumtree", "Uncongested"]

_SWEEP_SOON_MS: Final = 20
_SWEEP_IDS: Final = 1 << 15
_DRAIN_MS: Final = 1
_RANDOM_BYTES: Final = 12


@final
@dataclass(frozen=True, slots=True)
class BroadcastMessage:
    """Tell every node: a command. ``check_broadcast`` has checked it.

    Args:
        topic: Whom it is for.
        payload: What to tell them.
        message_id: One that was seen before is ignored; None draws one.
    """

    topic: str
    payload: bytes
    message_id: bytes | None = None


@final
@dataclass(frozen=True, slots=True)
class Congested:
    """The gossip queue to ``peer`` is full."""

    peer: str


@final
@dataclass(frozen=True, slots=True)
class Uncongested:
    """The gossip queue to ``peer`` has room again."""

    peer: str


class Plumtree:
    """The broadcast tree as one node sees it.

    Inputs: ``PeerUp``, ``PeerDown``, ``Received``, ``TimerFired``,
    ``BroadcastMessage``, ``Congested``, ``Uncongested``. Effects: ``Send``,
    ``SetTimer``, ``Publish`` of a ``Delivery``.

    Args:
        node: This node's name.
        rng: Its chance; also makes the ids.
        graft_timeout_ms: How long a push may come after its announcement, 1 ms or more.
        graft_retry_ms: How long an announcer has before the next is asked.
        message_ttl_ms: How long a message that was seen is known again.
        retain_ms: How long it can be asked for.
        ids_max: Ids known, at most.
        payload_bytes_max: Bytes of messages that can be asked for, at most.
        ihave_flush_ms: How long an announcement waits for others.
        optimise_hops: Hops a path must save to be taken instead, 1 or more.

    Raises:
        InvalidValue: A number is below 1, or ``ids_max`` above ``dedup.IDS_TOP``.
    """

    def __init__(
        self,
        node: str,
        rng: Rng,
        *,
        graft_timeout_ms: int = GRAFT_TIMEOUT_MS,
        graft_retry_ms: int = GRAFT_RETRY_MS,
        message_ttl_ms: int = MESSAGE_TTL_MS,
        retain_ms: int = PAYLOAD_RETAIN_MS,
        ids_max: int = IDS_MAX,
        payload_bytes_max: int = RETAINED_BYTES_MAX,
        ihave_flush_ms: int = IHAVE_FLUSH_MS,
        optimise_hops: int = OPTIMISE_HOPS,
    ) -> None:
        _need_positive(
            graft_timeout_ms=graft_timeout_ms,
            graft_retry_ms=graft_retry_ms,
            retain_ms=retain_ms,
            payload_bytes_max=payload_bytes_max,
            ihave_flush_ms=ihave_flush_ms,
            optimise_hops=optimise_hops,
        )
        self.node = node
        self._rng = rng
        self._tag = xxh3_64_digest(node.encode())[: ID_BYTES - _RANDOM_BYTES]
        self._graft_timeout_ms = graft_timeout_ms
        self._ihave_flush_ms = ihave_flush_ms
        self._optimise_hops = optimise_hops
        self._seen = SeenIds(ids_max, ttl_ms=message_ttl_ms, key=rng.below(1 << 128))
        self._retained = Retained(payload_bytes_max, min(retain_ms, message_ttl_ms))
        self._missing = Missing(graft_timeout_ms, graft_retry_ms)
        self._eager: dict[str, None] = {}  # dicts: sets have no order of their own
        self._lazy: dict[str, None] = {}
        self._source = Source()
        self._blocked: dict[str, None] = {}
        self._backlogs: dict[str, Backlog] = {}
        self._pruned_ms: dict[str, int] = {}
        self._fresh_ids: list[bytes] = []  # to be announced with the next flush
        self._fresh_hops = bytearray()
        self._timers: dict[str, int] = {}  # by name, when
        self._hurry_until_ms = -1
        self._optimise_from_ms = 0
        self._stray_ms = -IN_FLIGHT_MS  # when a pruned peer was last the first
        self._counts = dict.fromkeys(_COUNTS, 0)

    @property
    def eager(self) -> list[str]:
        """The peers that get every broadcast whole."""
        return list(self._eager)

    @property
    def lazy(self) -> list[str]:
        """The peers that get its id."""
        return list(self._lazy)

    def new_id(self) -> bytes:
        """An id that no node has used: 4 bytes of this node's name, 12 of chance."""
        return self._tag + self._rng.below(1 << 96).to_bytes(_RANDOM_BYTES)

    def stats(self) -> dict[str, int]:
        """Gauges and, since the beginning, counters, by their documented names."""
        missing, backlogs = self._missing, self._backlogs.values()
        return self._counts | {
            "eager_peers": len(self._eager),
            "lazy_peers": len(self._lazy),
            "congested_peers": len(self._blocked),
            "cached_ids": len(self._seen),
            "cached_messages": len(self._retained),
            "cache_bytes": self._seen.held_bytes + self._retained.held_bytes,
            "ids_evicted": self._seen.evicted,
            "pending_ihaves": len(missing),
            "backlog_ids": sum(len(b.unannounced) + len(b.asked) for b in backlogs),
            "ihave_refused": missing.refused,
            "given_up": missing.given_up,
        }

    def handle(self, event: object, *, now_ms: int) -> list[Effect]:
        """Take one input; see the class."""
        if type(event) is Received:
            message = event.message
            taken = _MESSAGES.get(type(message))
            return [] if taken is None else taken(self, event.peer, message, now_ms)
        found = _INPUTS.get(type(event))
        return [] if found is None else found(self, event, now_ms)

    # Neighbours.

    def _on_peer_up(self, event: PeerUp, now_ms: int) -> list[Effect]:
        peer = event.node
        if peer in self._eager or peer in self._lazy or peer == self.node:
            return []
        effects: list[Effect] = []
        if self._source.peer in self._eager:
            self._lazy[peer] = None
        else:
            self._eager[peer] = None
            self._graft(peer, (), effects)
        # The peer may have missed what was on its way while it had no link to us.
        recent = self._retained.since(now_ms - RECENT_MS, RECENT_IDS_MAX)
        if recent:
            ids = b"".join([message.message_id for message in recent])
            hops = bytes([message.hops for message in recent])
            effects.append(self._send_ihave(peer, ids, hops))
        return effects

    def _on_peer_down(self, event: PeerDown, now_ms: int) -> list[Effect]:
        peer = event.node
        self._lazy.pop(peer, None)
        self._blocked.pop(peer, None)
        backlog = self._backlogs.pop(peer, None)
        if backlog is not None:
            self._counts["backlog_lost"] += backlog.lost
        self._pruned_ms.pop(peer, None)
        self._source.announced.pop(peer, None)
        if peer not in self._eager:
            return []
        del self._eager[peer]
        # It may have been the one that pushed: do not wait for it as long as usual.
        effects: list[Effect] = []
        self._hurry_until_ms = now_ms + self._graft_timeout_ms
        self._missing.hurry(now_ms)
        self._arm_repair(now_ms, effects)
        if peer == self._source.peer:
            nearest = self._source.instead(self._lazy)
            if nearest is not None:
                self._graft(nearest, (), effects)
                self._source.peer = nearest
        if not self._eager and self._lazy:
            lazy = list(self._lazy)
            self._graft(lazy[self._rng.below(len(lazy))], (), effects)
        return effects

    def _on_congested(self, event: Congested, now_ms: int) -> list[Effect]:
        if event.peer in self._eager or event.peer in self._lazy:
            self._blocked[event.peer] = None
        return []

    def _on_uncongested(self, event: Uncongested, now_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        peer = event.peer
        self._blocked.pop(peer, None)
        backlog = self._backlogs.get(peer)
        if backlog is not None:
            for message in backlog.announcements(owed=peer in self._eager):
                self._counts["ihave_sent"] += len(message.hops)
                effects.append(Send(peer, message))
            self._drain(peer, backlog, now_ms, effects)
        return effects

    def _promote(self, peer: str, effects: list[Effect]) -> None:
        """Make it eager; it is told now what the lazy ones are about to be told."""
        del self._lazy[peer]
        self._eager[peer] = None
        self._pruned_ms.pop(peer, None)
        if not self._fresh_ids:
            return
        if peer in self._blocked:
            self._postpone(peer)
            return
        ids = b"".join(self._fresh_ids)
        effects.append(self._send_ihave(peer, ids, bytes(self._fresh_hops)))

    def _demote(self, peer: str) -> None:
        """Make it lazy, if it is eager."""
        if peer in self._eager:
            del self._eager[peer]
            self._lazy[peer] = None

    # What begins here, and what comes.

    def _on_broadcast(self, event: BroadcastMessage, now_ms: int) -> list[Effect]:
        message_id = event.message_id
        if message_id is None:
            message_id = self.new_id()
        if not self._seen.add(message_id, now_ms):
            self._counts["repeated"] += 1
            return []
        effects: list[Effect] = []
        out = Gossip(1, message_id, event.topic, event.payload)
        if len(self._missing):
            self._missing.came(message_id, now_ms)
        self._spread(None, out, now_ms, effects)
        effects.append(Publish(Delivery(event.topic, event.payload, message_id, True)))
        return effects

    def _on_gossip(self, peer: str, message: Gossip, now_ms: int) -> list[Effect]:
        counts = self._counts
        counts["gossip_received"] += 1
        message_id, topic, payload = message.message_id, message.topic, message.payload
        if not self._seen.add(message_id, now_ms):
            return self._on_duplicate(peer, message, now_ms)
        effects: list[Effect] = []
        hops = message.hops
        if peer in self._lazy and not message.again:
            if now_ms - self._pruned_ms.get(peer, -IN_FLIGHT_MS) < IN_FLIGHT_MS:
                self._stray_ms = now_ms
            else:
                self._promote(peer, effects)
        if peer in self._eager:
            self._source.pushed(peer, message_id, hops)
        out = Gossip(hops + 1 if hops < HOPS_MAX else hops, message_id, topic, payload)
        self._spread(peer, out, now_ms, effects)
        counts["delivered"] += 1
        effects.append(Publish(Delivery(topic, payload, message_id, False)))
        if len(self._missing):
            wanted = self._missing.came(message_id, now_ms)
            if wanted is not None and not message.again:
                self._optimise(peer, hops, wanted, now_ms, effects)
        return effects

    def _spread(
        self, source: str | None, out: Gossip, now_ms: int, effects: list[Effect]
    ) -> None:
        self._retained.put(out, now_ms)
        blocked = self._blocked
        sent = 0
        for peer in self._eager:
            if peer == source:
                continue
            if peer in blocked:
                self._backlog(peer).announce(out.message_id, out.hops)
                self._counts["congested"] += 1
            else:
                effects.append(Send(peer, out))
                sent += 1
        self._counts["gossip_sent"] += sent
        if self._lazy:
            self._fresh_ids.append(out.message_id)
            self._fresh_hops.append(out.hops)
            if len(self._fresh_ids) >= IHAVE_BATCH:
                self._flush(effects)
            elif "flush" not in self._timers:
                self._arm("flush", self._ihave_flush_ms, now_ms, effects)
        if "sweep" not in self._timers:
            self._arm("sweep", SWEEP_MS, now_ms, effects)

    def _on_duplicate(self, peer: str, message: Gossip, now_ms: int) -> list[Effect]:
        self._counts["duplicates"] += 1
        if message.again:
            return []
        if peer in self._eager:
            # What a pruned peer had sent before comes first now and then. To prune the
            # other for it would leave nobody who pushes to us.
            if now_ms - self._stray_ms < IN_FLIGHT_MS:
                return []
            self._demote(peer)
        elif now_ms - self._pruned_ms.get(peer, -PRUNE_AGAIN_MS) < PRUNE_AGAIN_MS:
            return []
        return [self._send_prune(peer, now_ms)]

    def _optimise(
        self,
        peer: str,
        hops: int,
        wanted: Wanted,
        now_ms: int,
        effects: list[Effect],
    ) -> None:
        """Take the announced path in place of ``peer``'s where it saves enough."""
        # Of two messages that are under way at once, from different sides, each would
        # have its way, and the one may prune the link that the other has left.
        if len(self._missing):
            return
        nearest, fewest = wanted.nearest()
        if hops - fewest < self._optimise_hops or now_ms < self._optimise_from_ms:
            return
        if nearest not in self._lazy or peer not in self._eager:
            return
        self._optimise_from_ms = now_ms + OPTIMISE_PAUSE_MS
        self._counts["optimised"] += 1
        self._graft(nearest, (), effects)
        self._source.peer = nearest
        self._demote(peer)
        effects.append(self._send_prune(peer, now_ms))

    # Announcements and what follows from them.

    def _on_ihave(self, peer: str, message: IHave, now_ms: int) -> list[Effect]:
        ids = message.ids
        self._counts["ihave_received"] += len(message.hops)
        if peer in self._lazy:
            self._source.announced[peer] = message
        unknown = self._seen.unknown(ids, now_ms)
        if not unknown:
            return []
        missing, hops = self._missing, message.hops
        soon = now_ms < self._hurry_until_ms or self._source.peer not in self._eager
        effects: list[Effect] = []
        asked: list[bytes] = []
        for i in unknown:
            message_id = ids[i * ID_BYTES : (i + 1) * ID_BYTES]
            missing.announced(message_id, peer, hops[i], now_ms, soon=soon)
            if message.owed and missing.asked_now(message_id, peer, now_ms):
                asked.append(message_id)
        if asked:
            self._graft(peer, asked, effects)
        self._arm_repair(now_ms, effects)
        return effects

    def _on_prune(self, peer: str, message: Prune, now_ms: int) -> list[Effect]:
        self._counts["prune_received"] += 1
        self._demote(peer)
        return []

    def _on_graft(self, peer: str, message: Graft, now_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        self._counts["graft_received"] += 1
        if peer in self._lazy:
            self._promote(peer, effects)
        ids = message.ids
        if ids:
            backlog = self._backlog(peer)
            for start in range(0, len(ids), ID_BYTES):
                backlog.ask(ids[start : start + ID_BYTES])
            if peer not in self._blocked:
                self._drain(peer, backlog, now_ms, effects)
        return effects

    def _drain(
        self, peer: str, backlog: Backlog, now_ms: int, effects: list[Effect]
    ) -> None:
        """Send what the peer has asked for, a bounded part of it at a time."""
        room = DRAIN_BYTES
        done = 0
        for message_id in backlog.asked:
            if room <= 0:
                break
            done += 1
            kept = self._retained.get(message_id)
            if kept is None:
                self._counts["graft_missed"] += 1
                continue
            again = Gossip(kept.hops, message_id, kept.topic, kept.payload, True)
            effects.append(Send(peer, again))
            self._counts["gossip_sent"] += 1
            room -= len(kept.payload) + ID_BYTES
        for message_id in list(islice(backlog.asked, done)):
            del backlog.asked[message_id]
        if backlog.asked:
            if "drain" in self._timers:
                return
            self._arm("drain", _DRAIN_MS, now_ms, effects)
        elif not backlog.unannounced:
            del self._backlogs[peer]
            self._counts["backlog_lost"] += backlog.lost

    def _graft(
        self, peer: str, ids: list[bytes] | tuple[()], effects: list[Effect]
    ) -> None:
        """Ask ``peer``, which is eager from now on if it is a neighbour."""
        if peer in self._lazy:
            self._promote(peer, effects)
        for start in range(0, max(len(ids), 1), GRAFT_IDS_MAX):
            self._counts["graft_sent"] += 1
            part = b"".join(ids[start : start + GRAFT_IDS_MAX])
            effects.append(Send(peer, Graft(part)))

    def _flush(self, effects: list[Effect]) -> None:
        """Announce what came since the last time to all lazy peers, in one message."""
        message = IHave(b"".join(self._fresh_ids), bytes(self._fresh_hops))
        for peer in self._lazy:
            if peer in self._blocked:
                self._postpone(peer)
            else:
                self._counts["ihave_sent"] += len(message.hops)
                effects.append(Send(peer, message))
        self._fresh_ids.clear()
        self._fresh_hops.clear()

    def _postpone(self, peer: str) -> None:
        backlog = self._backlog(peer)
        for message_id, hops in zip(self._fresh_ids, self._fresh_hops, strict=True):
            backlog.announce(message_id, hops)

    def _backlog(self, peer: str) -> Backlog:
        backlog = self._backlogs.get(peer)
        if backlog is None:
            backlog = self._backlogs[peer] = Backlog()
        return backlog

    def _send_ihave(self, peer: str, ids: bytes, hops: bytes) -> Effect:
        self._counts["ihave_sent"] += len(hops)
        return Send(peer, IHave(ids, hops))

    def _send_prune(self, peer: str, now_ms: int) -> Effect:
        if peer in self._lazy:
            self._pruned_ms[peer] = now_ms
        self._counts["prune_sent"] += 1
        return Send(peer, PRUNE)

    # Timers: one for each purpose, none while there is nothing to do.

    def _on_timer(self, event: TimerFired, now_ms: int) -> list[Effect]:
        effects: list[Effect] = []
        if self._timers.pop(str(event.key), None) is None:
            return effects
        match event.key:
            case "flush":
                if self._fresh_ids:
                    self._flush(effects)
            case "repair":
                links = self._eager | self._lazy
                for peer, ids in self._missing.due(now_ms, links).items():
                    self._graft(peer, ids, effects)
                self._arm_repair(now_ms, effects)
            case "drain":
                for peer, backlog in list(self._backlogs.items()):
                    if peer not in self._blocked:
                        self._drain(peer, backlog, now_ms, effects)
            case _:
                self._sweep(now_ms, effects)
        return effects

    def _arm(self, key: str, delay_ms: int, now_ms: int, effects: list[Effect]) -> None:
        self._timers[key] = now_ms + delay_ms
        effects.append(SetTimer(key, delay_ms))

    def _arm_repair(self, now_ms: int, effects: list[Effect]) -> None:
        next_ms = self._missing.next_ms()
        if next_ms is not None and next_ms < self._timers.get("repair", next_ms + 1):
            self._arm("repair", max(next_ms - now_ms, 1), now_ms, effects)

    def _sweep(self, now_ms: int, effects: list[Effect]) -> None:
        self._retained.expire(now_ms)
        more = self._seen.expire(now_ms, _SWEEP_IDS) == _SWEEP_IDS
        if len(self._seen):
            self._arm("sweep", _SWEEP_SOON_MS if more else SWEEP_MS, now_ms, effects)


# One table for all nodes: in a simulation of many it is at hand, theirs would not be.
_INPUTS: Final[dict[type, Callable[[Plumtree, Any, int], list[Effect]]]] = {
    BroadcastMessage: Plumtree._on_broadcast,
    TimerFired: Plumtree._on_timer,
    PeerUp: Plumtree._on_peer_up,
    PeerDown: Plumtree._on_peer_down,
    Congested: Plumtree._on_congested,
    Uncongested: Plumtree._on_uncongested,
}
_MESSAGES: Final[dict[type, Callable[[Plumtree, str, Any, int], list[Effect]]]] = {
    Gossip: Plumtree._on_gossip,
    IHave: Plumtree._on_ihave,
    Graft: Plumtree._on_graft,
    Prune: Plumtree._on_prune,
}

_COUNTS: Final = (
    "gossip_sent",
    "gossip_received",
    "ihave_sent",
    "ihave_received",
    "graft_sent",
    "graft_received",
    "graft_missed",
    "prune_sent",
    "prune_received",
    "delivered",
    "duplicates",
    "repeated",
    "congested",
    "backlog_lost",
    "optimised",
)


def _need_positive(**values: int) -> None:
    for name, value in values.items():
        if type(value) is not int or value < 1:
            raise InvalidValue(f"{name}={value!r} is not an integer of 1 or more")
