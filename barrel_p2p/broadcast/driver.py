"""Broadcasts of one node: frames in and out, listeners, and who has to wait for room.

A peer whose gossip queue is full gets announcements in place of payloads until there is
room. Whoever broadcasts on this node waits for it too, but not for longer than
``PATIENCE_S``: one peer that does not read must not silence a node.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from barrel_p2p.broadcast.machine import (
    BroadcastMessage,
    Congested,
    Plumtree,
    Uncongested,
)
from barrel_p2p.broadcast.messages import (
    KINDS,
    Delivery,
    Message,
    check_broadcast,
    check_topic,
    decode,
    encode,
)
from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.core.inputs import Received
from barrel_p2p.core.peers import PeerDown, PeerUp
from barrel_p2p.errors import BarrelError, Busy, NotStarted
from barrel_p2p.runtime.runner import Network, Peer, Runner

if TYPE_CHECKING:
    from barrel_p2p.carrier.channel import Channel
    from barrel_p2p.carrier.dispatcher import Dispatcher
    from barrel_p2p.core.clock import Clock
    from barrel_p2p.wire.frames import Frame

__all__ = ["PATIENCE_S", "Broadcast", "Listener"]

_log = logging.getLogger("barrel_p2p.broadcast")

PATIENCE_S: Final = 2.0
"""How long originators wait for one peer; after that it gets what it asks for."""

_TURNS: Final = 64
"""Broadcasts after which other tasks get a turn, even where nobody has to wait."""

type Listener = Callable[[Delivery], None]


class Broadcast:
    """Plumtree on a node.

    Args:
        machine: Its part of the tree; nobody else may use it.
        network: The channels.
        dispatcher: Where the frames come from.
        clock: Both kinds of time.

    Raises:
        Conflict: The dispatcher has a handler for these kinds already.

    Attributes:
        listener_failures: Exceptions that listeners let out.
    """

    def __init__(
        self,
        machine: Plumtree,
        *,
        network: Network,
        dispatcher: Dispatcher,
        clock: Clock,
    ) -> None:
        self.listener_failures = 0
        self._machine = machine
        self._runner = Runner(
            machine,
            network=network,
            transmit=self._transmit,
            publish=self._deliver,
            clock=clock,
        )
        self._listeners: dict[str, tuple[Listener, ...]] = {}
        self._peers: dict[str, None] = {}
        self._complaints = Complaints(_log)
        self._loop = asyncio.get_running_loop()
        self._full: dict[str, asyncio.Task[None]] = {}  # peer -> waits for room
        self._waited: dict[str, asyncio.TimerHandle] = {}  # peer -> ends our patience
        self._room = asyncio.Event()
        self._turns = 0
        self._closed = False
        self._encoded: tuple[object, int, bytes] = (None, 0, b"")
        dispatcher.register(KINDS, self._received, role=StreamRole.GOSSIP)

    async def broadcast(
        self, topic: str, payload: bytes, *, message_id: bytes | None = None
    ) -> bytes:
        """Tell every node, once the queues to our peers have room.

        Args:
            topic: 1 to ``TOPIC_BYTES_MAX`` bytes of UTF-8.
            payload: At most ``PAYLOAD_BYTES_MAX`` bytes.
            message_id: ``ID_BYTES`` bytes; None draws them. If this node has seen a
                broadcast of the same id, nothing is sent.

        Returns:
            The message id.

        Raises:
            InvalidValue: An argument has the wrong type or size.
            NotStarted: The node is stopping.

        Guarantee: Each node that stays connected delivers it once, our own listeners
            included, in any order with other broadcasts. Cancelled while it waits,
            nothing was sent.
        """
        check_broadcast(topic, payload, message_id)
        self._turns += 1
        if self._turns % _TURNS == 0:
            await asyncio.sleep(0)
        while self._waited:
            self._room.clear()
            await self._room.wait()
        return self._originate(topic, payload, message_id)

    def broadcast_nowait(
        self, topic: str, payload: bytes, *, message_id: bytes | None = None
    ) -> bytes:
        """As ``broadcast``, without waiting.

        Raises:
            Busy: The queue to a peer is full. Nothing was sent.
            InvalidValue: An argument has the wrong type or size.
            NotStarted: The node is stopping.
        """
        check_broadcast(topic, payload, message_id)
        if self._waited:
            peer = next(iter(self._waited))
            raise Busy(
                f"the gossip queue to {peer} is full",
                hint="await broadcast(), which waits for room",
                peer=peer,
            )
        return self._originate(topic, payload, message_id)

    def subscribe(self, topic: str, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with each Delivery of ``topic``; the result ends that.

        It is called from the loop's callback, for our own broadcasts too. What it
        raises is counted and logged.

        Raises:
            InvalidValue: ``topic`` is none.
        """
        check_topic(topic)
        self._listeners[topic] = (*self._listeners.get(topic, ()), listener)
        active = True

        def forget() -> None:
            nonlocal active
            if not active:
                return
            active = False
            kept = list(self._listeners[topic])
            kept.remove(listener)
            if kept:
                self._listeners[topic] = tuple(kept)
            else:
                del self._listeners[topic]

        return forget

    def peer_changed(self, event: object) -> None:
        """Take a PeerUp or PeerDown of the active view; other events mean nothing."""
        if isinstance(event, PeerUp):
            self._peers[event.node] = None
        elif isinstance(event, PeerDown):
            self._peers.pop(event.node, None)
            self._forget_room(event.node)
        else:
            return
        self._runner.feed(event)

    def stats(self) -> dict[str, int]:
        """What the tree looks like and what it did, by documented names."""
        return self._machine.stats() | {
            "listener_failures": self.listener_failures,
            "unsent": self._runner.unsent,
        }

    async def close(self) -> None:
        """Stop. Whoever waits for room gets NotStarted. Idempotent."""
        self._closed = True
        tasks = list(self._full.values())
        for peer in list(self._full):
            self._forget_room(peer)
        self._room.set()
        if tasks:
            await asyncio.wait(tasks)
        await self._runner.close()

    def _originate(self, topic: str, payload: bytes, message_id: bytes | None) -> bytes:
        if self._closed:
            raise NotStarted("broadcasting has stopped with its node")
        if message_id is None:
            message_id = self._machine.new_id()
        self._runner.feed(BroadcastMessage(topic, payload, message_id))
        return message_id

    def _received(self, channel: Channel, frame: Frame) -> None:
        peer = channel.name
        self._runner.feed(Received(peer, decode(frame.kind, frame.body, peer=peer)))

    def _deliver(self, event: object) -> None:
        delivery = cast("Delivery", event)
        for listener in self._listeners.get(delivery.topic, ()):
            try:
                listener(delivery)
            except Exception as error:  # noqa: BLE001 -- the others must hear it too
                self.listener_failures += 1
                text = f"a listener failed: {error!r}"
                self._complaints.add(f"topic {delivery.topic}", text, error=error)

    def _transmit(self, peer: Peer, message: object) -> None:
        # One message goes to several peers, one after the other.
        last, kind, body = self._encoded
        if message is not last:
            kind, body = encode(cast("Message", message))
            self._encoded = (message, kind, body)
        peer.send_gossip(kind, body)
        if peer.gossip_blocked and peer.name not in self._full and not self._closed:
            self._await_room(peer)

    def _await_room(self, peer: Peer) -> None:
        name = peer.name
        self._full[name] = self._loop.create_task(self._wait_for_room(peer))
        self._waited[name] = self._loop.call_later(PATIENCE_S, self._stop_waiting, name)
        self._runner.feed(Congested(name))

    async def _wait_for_room(self, peer: Peer) -> None:
        # When the channel has ended there is nobody to wait for either.
        with contextlib.suppress(BarrelError):
            await peer.wait_gossip()
        del self._full[peer.name]
        self._stop_waiting(peer.name)
        self._runner.feed(Uncongested(peer.name))

    def _forget_room(self, peer: str) -> None:
        waiting = self._full.pop(peer, None)
        if waiting is not None:
            waiting.cancel()
        self._stop_waiting(peer)

    def _stop_waiting(self, peer: str) -> None:
        patience = self._waited.pop(peer, None)
        if patience is not None:
            patience.cancel()
        if not self._waited:
            self._room.set()
