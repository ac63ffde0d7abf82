"""Simulated channels: what two nodes' ends of a connection do, and when they end.

A channel is ordered and loses nothing while it is up, like a real one, unless
``Faults`` say otherwise. It has two ends, and each learns in its own time that it is
over:

- the other process has died: at the next message or keep-alive, which is refused;
- the host has gone, or the path is cut: when nothing was heard for the idle timeout;
- the other end was closed: at its BYE, behind everything sent before.

Source: docs/design/0004-nodes.md; barrel_p2p/carrier/channels.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast, final

import xxhash

from barrel_p2p.testing.overlay.chance import SimRng
from barrel_p2p.testing.overlay.faults import NO_FAULTS, Detection, Faults
from barrel_p2p.testing.overlay.rooms import DOWN, HELD, End
from barrel_p2p.testing.overlay.schedule import Call, Schedule

if TYPE_CHECKING:
    from barrel_p2p.testing.overlay.nodes import SimNode

__all__ = ["Links"]

_HANDSHAKE_TRIPS: Final = 4
_REFUSAL_TRIPS: Final = 2


@final
class Links:
    """Every channel of a simulation, and the network they cross.

    Args:
        schedule: The agenda.
        seed: Of the network's own chance.
        latency_ms: Least and greatest one-way latency; each pair has its own, for ever.
        detection: How soon an end is noticed.

    Attributes:
        faults: What happens to messages from now on; see ``set_faults``.
        detection: May be replaced at any time.
    """

    def __init__(
        self,
        schedule: Schedule,
        *,
        seed: int,
        latency_ms: tuple[int, int],
        detection: Detection,
    ) -> None:
        self.faults = NO_FAULTS
        self.detection = detection
        self._schedule = schedule
        self._seed = seed
        self._latency_ms = latency_ms
        self._rng = SimRng(seed ^ 0x6C696E6B73)
        self._cuts: dict[tuple[int, int], int] = {}

    def latency_ms(self, a: SimNode, b: SimNode) -> int:
        """Of a message between the two, either way."""
        low, high = self._latency_ms
        pair = (min(a.index, b.index) << 16 | max(a.index, b.index)).to_bytes(4, "big")
        return low + xxhash.xxh3_64_intdigest(pair, self._seed) % (high - low + 1)

    # Messages.

    def transmit(self, end: End, deliver: Call, message: object) -> None:
        """Send ``message`` from ``end``, whatever the network is like."""
        if end.cut_ms >= 0:
            if self.faults.repaired:
                end.kept.append((deliver, message))
            return
        faults, rng = self.faults, self._rng
        copies = 1
        when_ms = self._schedule.now_ms + end.latency_ms
        if faults.jitter_ms:
            when_ms += rng.jitter(faults.jitter_ms)
        if faults.repaired:
            while rng.happens(faults.loss):
                when_ms += 2 * end.latency_ms
            when_ms = end.last_ms = max(when_ms, end.last_ms)
        else:
            if rng.happens(faults.loss):
                return
            copies += rng.happens(faults.duplicate)
            if rng.happens(faults.reorder):
                when_ms += 1 + rng.below(max(1, faults.hold_ms))
        for _ in range(copies):
            self._schedule.at(when_ms, deliver, end.twin, message)

    def not_up(self, end: End, deliver: Call, message: object) -> None:
        """A message arrived at ``end``, which cannot take it now."""
        if end.state == HELD:
            end.node.deferred.append((deliver, end, message))
        elif not end.node.is_silent:
            # The host answers for the process, or for the connection, that is gone.
            self._lose(end.twin, end.latency_ms, "unreachable")

    def set_faults(self, faults: Faults, ends: list[End]) -> None:
        """Let this happen to messages from now on, on ``ends`` and on new channels."""
        self.faults = faults
        for end in ends:
            end.slow = end.cut_ms >= 0 or faults is not NO_FAULTS

    # Channels that come up.

    def dial(
        self, node: SimNode, peer: SimNode | None, done: Callable[[str], None]
    ) -> None:
        """Open a channel and call ``done("")`` once it is up at both ends.

        ``done(reason)`` if it does not come up; never if ``node`` has crashed by then.
        """
        at, now_ms = self._schedule.at, self._schedule.now_ms
        if peer is not None and peer.name in node.ends:
            at(now_ms, self._dialled, done, "")
        elif peer is None:
            at(now_ms + self._latency_ms[0], self._dialled, done, "not_found")
        elif self._is_lost(node, peer):
            late_ms = now_ms + self.detection.dial_timeout_ms
            at(late_ms, self._dialled, done, "timeout")
        elif not peer.is_running:
            trip_ms = _REFUSAL_TRIPS * self.latency_ms(node, peer)
            at(now_ms + trip_ms, self._dialled, done, "unreachable")
        else:
            trip_ms = _HANDSHAKE_TRIPS * self.latency_ms(node, peer)
            at(now_ms + trip_ms, self._handshaken, (node, node.life, peer), done)

    def _dialled(self, done: object, reason: object) -> None:
        done(reason)  # type: ignore[operator]

    def _handshaken(self, pair: object, done: object) -> None:
        node, life, peer = cast("tuple[SimNode, int, SimNode]", pair)
        if not node.is_running or node.life != life:
            return
        if node.is_paused:
            node.deferred.append((self._handshaken, pair, done))
            return
        if self._is_lost(node, peer) or not peer.is_running or peer.is_paused:
            late_ms = self.detection.dial_timeout_ms
            self._schedule.at(
                self._schedule.now_ms + late_ms, self._dialled, done, "timeout"
            )
            return
        if peer.name not in node.ends:
            self._open(node, peer)
        done("")  # type: ignore[operator]

    def _open(self, node: SimNode, peer: SimNode) -> None:
        latency_ms = self.latency_ms(node, peer)
        old = peer.ends.get(node.name)
        if old is not None:
            self.down(old, "superseded")
        ours, theirs = End(node, peer, latency_ms), End(peer, node, latency_ms)
        ours.twin, theirs.twin = theirs, ours
        ours.slow = theirs.slow = self.faults is not NO_FAULTS
        node.ends[peer.name] = ours
        peer.ends[node.name] = theirs
        # Whoever was dialled knows first; both know before the dial is done.
        peer.channel_up(node)
        if ours.state:
            node.channel_up(peer)

    def _is_lost(self, node: SimNode, peer: SimNode) -> bool:
        return peer.is_silent or self.is_cut(node, peer) or self.is_cut(peer, node)

    # Channels that end.

    def close(self, end: End, reason: str) -> None:
        """End a channel at once here, and there behind what was sent before."""
        trip_ms = max(self._schedule.now_ms + end.latency_ms, end.last_ms)
        self.down(end, reason)
        if end.cut_ms < 0:
            self._schedule.at(trip_ms, self._down, end.twin, reason)

    def down(self, end: End, reason: str) -> None:
        """``end`` notices now that the channel is over; its twin will in its time."""
        if end.state == DOWN:
            return
        node = end.node
        if end.state == HELD:
            node.deferred.append((self._down, end, reason))
            return
        end.state = DOWN
        end.kept.clear()
        if node.ends.get(end.name) is end:
            del node.ends[end.name]
        self._miss(end)
        node.channel_down(end.peer, reason)

    def crashed(self, node: SimNode) -> None:
        """``node`` runs no more; its peers are told nothing."""
        for end in list(node.ends.values()):
            end.state = DOWN
            end.kept.clear()
            self._miss(end)
        node.ends.clear()

    def paused(self, node: SimNode) -> None:
        """``node`` stands still from now on."""
        late_ms = self._schedule.now_ms + self.detection.idle_timeout_ms
        for end in node.ends.values():
            end.state = HELD
            self._schedule.at(late_ms, self._still_paused, end, node.pauses)

    def _still_paused(self, end: object, pauses: object) -> None:
        assert isinstance(end, End)
        if end.state == HELD and end.node.pauses == pauses:
            self.down(end.twin, "idle_timeout")
            end.node.deferred.append((self._down, end, "idle_timeout"))

    def _down(self, end: object, reason: object) -> None:
        self.down(end, reason)  # type: ignore[arg-type]

    def _lose(self, end: End, delay_ms: int, reason: str) -> None:
        self._schedule.at(self._schedule.now_ms + delay_ms, self._down, end, reason)

    def _miss(self, end: End) -> None:
        """``end`` is gone without a word: say when its twin notices."""
        twin = end.twin
        if twin.state == DOWN:
            return
        limits = self.detection
        if end.node.is_silent or end.cut_ms >= 0 or twin.cut_ms >= 0:
            since_ms = self._rng.jitter(limits.keep_alive_ms)
            self._lose(twin, limits.idle_timeout_ms - since_ms, "idle_timeout")
        elif limits.keep_alive_ms:
            next_ms = self._rng.jitter(limits.keep_alive_ms)
            self._lose(twin, next_ms + 2 * end.latency_ms, "unreachable")

    # Paths.

    def is_cut(self, a: SimNode, b: SimNode) -> bool:
        """Whether nothing passes from ``a`` to ``b``."""
        return a.side != b.side or (a.index, b.index) in self._cuts

    def cut(self, a: SimNode, b: SimNode) -> None:
        """Let nothing pass from ``a`` to ``b``; the other way stays as it is."""
        self._cuts[a.index, b.index] = 1
        self.look_at(a)

    def mend(self, a: SimNode, b: SimNode) -> None:
        """Undo ``cut``."""
        self._cuts.pop((a.index, b.index), None)
        self.look_at(a)

    def mend_all(self) -> None:
        """Undo every ``cut``; the caller looks at every node."""
        self._cuts.clear()

    def look_at(self, node: SimNode) -> None:
        """Adapt the channels of ``node`` to what is cut now."""
        now_ms = self._schedule.now_ms
        for end in list(node.ends.values()):
            is_cut = self.is_cut(node, end.peer)
            if is_cut and end.cut_ms < 0:
                end.cut_ms = now_ms
                end.slow = True
                since_ms = self._rng.jitter(self.detection.keep_alive_ms)
                late_ms = max(1, self.detection.idle_timeout_ms - since_ms)
                self._schedule.at(now_ms + late_ms, self._unheard, end, now_ms)
            elif not is_cut and end.cut_ms >= 0:
                end.cut_ms = -1
                end.slow = self.faults is not NO_FAULTS
                kept, end.kept = end.kept, []
                for deliver, message in kept:
                    self.transmit(end, deliver, message)

    def _unheard(self, end: object, since_ms: object) -> None:
        assert isinstance(end, End)
        if end.cut_ms == since_ms:
            self.down(end.twin, "idle_timeout")
