"""Runs a node's replicas: gossip and frames in, callbacks and gossip out.

``node/boot.py`` connects it: ``peer_changed`` is told of neighbours and channels,
``member_changed`` of who is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, assert_never, final

from barrel_p2p.broadcast.messages import Delivery
from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.carrier.dispatcher import Dispatcher
from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.core.clock import Clock
from barrel_p2p.core.events import Event
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.inputs import Received
from barrel_p2p.core.members import MemberGone
from barrel_p2p.core.ormap import Delta, OrMap
from barrel_p2p.core.peers import NodeDown, NodeUp, PeerDown, PeerUp
from barrel_p2p.core.rng import Rng
from barrel_p2p.errors import (
    BarrelError,
    Busy,
    Conflict,
    InvalidValue,
    NotStarted,
    WireError,
)
from barrel_p2p.replica.callbacks import Callbacks, Replica
from barrel_p2p.replica.limits import (
    COLLECT_EVERY_MS,
    PENDING_ENTRIES_MAX,
    REPLICA_NAME_BYTES_MAX,
    REPLICAS_MAX,
    SPREAD_AGE_MS,
)
from barrel_p2p.replica.machine import (
    CatchUp,
    Collect,
    Gossiped,
    Learned,
    MergeCustom,
    MergeDelta,
    MergeSnapshot,
    Outgoing,
    ReplicaMachine,
    Sent,
    Start,
    Stop,
    Synced,
    Unsent,
    Write,
)
from barrel_p2p.replica.messages import (
    CustomMessage,
    SyncChunk,
    SyncDone,
    SyncRequest,
    decode,
    decode_gossip,
    encode,
    encode_gossip,
)
from barrel_p2p.runtime.runner import Network, Peer, Runner
from barrel_p2p.wire import terms
from barrel_p2p.wire.frames import Frame
from barrel_p2p.wire.kinds import Kind

if TYPE_CHECKING:
    from barrel_p2p.carrier.channel import Channel

__all__ = ["TOPIC_PREFIX", "Gossip", "ReplicaHandle", "Replicas", "Update", "topic_of"]

_log = logging.getLogger("barrel_p2p.replica")

TOPIC_PREFIX: Final = "replica/"
"""Before a replica's name, it is the topic of its broadcasts."""

_ROOM_ENTRIES: Final = PENDING_ENTRIES_MAX // 16

_UPDATES: Final = ((3, "add"), (2, "remove"))

type Update = tuple[Literal["add"], Any, Any] | tuple[Literal["remove"], Any]


class Gossip(Protocol):
    """As much of ``Broadcast`` as replicas use."""

    async def broadcast(
        self, topic: str, payload: bytes, *, message_id: bytes | None = None
    ) -> bytes:
        """Tell everyone, waiting for room."""
        ...

    def broadcast_nowait(
        self, topic: str, payload: bytes, *, message_id: bytes | None = None
    ) -> bytes:
        """Tell everyone; ``Busy`` without room."""
        ...

    def subscribe(
        self, topic: str, listener: Callable[[Delivery], None]
    ) -> Callable[[], None]:
        """Hear every broadcast of a topic, own ones included."""
        ...


def topic_of(replica: str) -> str:
    """The topic on which ``replica`` gossips."""
    return TOPIC_PREFIX + replica


@final
class ReplicaHandle:
    """A replica that runs on this node. ``Replicas.start`` makes them.

    Attributes:
        name: Its name, the same on every node.
    """

    def __init__(self, name: str, replicas: Replicas) -> None:
        self.name = name
        self._replicas = replicas

    async def broadcast_update(self, op: Update) -> None:
        """Write to the replica, here and on every other node.

        The write is stamped once. The owner performs it in ``replica_write``; without
        that it is told of it through ``replica_merge_delta``, as of anyone's write.

        Args:
            op: ``("add", key, value)`` or ``("remove", key)``.

        Raises:
            InvalidValue: ``op`` is neither.
            NotEncodable: The key is no key term.
            NotStarted: The replica runs no more.
            Exception: What the owner's callback raises; nothing was sent.

        Guarantee:
            Returns once the write stands here and waits for gossip, and there is room
            for more. It travels as it stands here; later writes of the same key may
            overtake it.
        """
        await self.broadcast_delta(self._replicas.write(self.name, op))

    async def broadcast_delta(self, delta: Delta) -> None:
        """Tell every other node what the owner has written: these very entries.

        Args:
            delta: From ``OrMap.add`` or ``OrMap.remove``; several may be joined.

        Raises:
            NotStarted: The replica runs no more.

        Guarantee:
            Writes of one turn of the loop travel together. Waits only while more than
            ``PENDING_ENTRIES_MAX`` / 16 keys wait for gossip.
        """
        await self._replicas.room(self.name)
        self._replicas.publish(self.name, delta)

    def publish(self, delta: Delta) -> None:
        """As ``broadcast_delta``, without waiting.

        Raises:
            Busy: ``PENDING_ENTRIES_MAX`` keys wait for gossip. The entries will reach
                the others all the same, by anti-entropy.
            NotStarted: The replica runs no more.
        """
        self._replicas.publish(self.name, delta)

    async def broadcast_custom(self, payload: object) -> None:
        """Hand a term to ``replica_merge_custom`` of every other node that is reached.

        Nothing repeats it: who is not there now misses it.

        Args:
            payload: Any term.

        Raises:
            NotEncodable: It is none.
            InvalidValue: It is larger than a broadcast may be.
            NotStarted: The replica runs no more.
        """
        await self._replicas.broadcast_custom(self.name, payload)

    def catch_up(self, node: str | None = None) -> None:
        """Compare with ``node``, or with all neighbours, and exchange what differs."""
        self._replicas.catch_up(self.name, node)

    async def flush(self) -> None:
        """Wait until gossip has taken everything that was written so far."""
        await self._replicas.flush(self.name)

    def stop(self) -> None:
        """Stop it on this node. Idempotent; the owner keeps what it has."""
        self._replicas.stop(self.name)


@final
class Replicas:
    """All replicas of one node.

    Args:
        node: This node's name.
        creation: Its life.
        network: Its channels.
        dispatcher: Gets the handlers of the sync frames.
        broadcast: Carries the deltas.
        clock: Both kinds of time.
        hlc: Stamps what an owner does not stamp itself.
        rng: For peers and delays.
        anti_entropy_ms: ``replica_anti_entropy_ms``; 0 for never.
        on_synced: Hears of every sync round that has come to its end.
    """

    def __init__(
        self,
        *,
        node: str,
        creation: int,
        network: Network,
        dispatcher: Dispatcher,
        broadcast: Gossip,
        clock: Clock,
        hlc: HLC,
        rng: Rng,
        anti_entropy_ms: int,
        on_synced: Callable[[Synced], None] | None = None,
    ) -> None:
        self._node = node
        self._broadcast = broadcast
        self._clock = clock
        self._hlc = hlc
        self._synced = [] if on_synced is None else [on_synced]
        self._callbacks: dict[str, Callbacks] = {}
        self._handles: dict[str, ReplicaHandle] = {}
        self._forget: dict[str, Callable[[], None]] = {}
        self._turned: dict[str, asyncio.Future[None]] = {}
        self._tasks: dict[asyncio.Task[None], None] = {}  # a set has no order
        self._complaints = Complaints(_log)
        self._machine = ReplicaMachine(
            node=node, creation=creation, rng=rng, anti_entropy_ms=anti_entropy_ms
        )
        self._runner = Runner(
            self._machine,
            network=network,
            transmit=self._transmit,
            publish=self._perform,
            clock=clock,
        )
        self._closed = False
        dispatcher.register(
            (Kind.SYNC_REQUEST, Kind.SYNC_CHUNK, Kind.SYNC_DONE),
            self._on_frame,
            role=StreamRole.GOSSIP,
        )

    def start(
        self,
        name: str,
        callback: Replica,
        *,
        tombstone_ttl_ms: int | None = None,
        collect_every_ms: int = COLLECT_EVERY_MS,
    ) -> ReplicaHandle:
        """Run a replica on this node, and sync it with every neighbour.

        Args:
            name: The same on every node; 1 to ``REPLICA_NAME_BYTES_MAX`` bytes.
            callback: Its owner. One object may own several replicas.
            tombstone_ttl_ms: Age of tombstones, at least, that ``replica_collect`` is
                told to forget; None for never.
            collect_every_ms: How often it is told.

        Raises:
            InvalidValue: ``name`` is empty or too long, or ``callback`` lacks one of
                the four callbacks.
            Conflict: A replica of that name runs already, or ``REPLICAS_MAX`` run.
            NotStarted: The node is stopping.
        """
        if self._closed:
            raise NotStarted(f"replica {name!r}: the node is stopping")
        _check_name(name)
        if name in self._callbacks:
            raise Conflict(f"a replica named {name!r} runs on this node already")
        if len(self._callbacks) >= REPLICAS_MAX:
            raise Conflict(f"replica {name!r}: {REPLICAS_MAX} run here already")
        callbacks = Callbacks(name, callback, self._node, self._complaints)
        self._callbacks[name] = callbacks
        self._forget[name] = self._broadcast.subscribe(topic_of(name), self._delivered)
        handle = self._handles[name] = ReplicaHandle(name, self)
        horizon_ms = tombstone_ttl_ms if callbacks.collects else None
        self._runner.feed(
            Start(name, callbacks, callbacks.anti_entropy, horizon_ms, collect_every_ms)
        )
        return handle

    def stop(self, name: str) -> None:
        """Run ``name`` no more. Idempotent."""
        if self._callbacks.pop(name, None) is None:
            return
        del self._handles[name]
        self._forget.pop(name)()
        self._runner.feed(Stop(name))
        self._turn(name)

    def get(self, name: str) -> ReplicaHandle | None:
        """The replica of that name, if it runs here."""
        return self._handles.get(name)

    def names(self) -> list[str]:
        """The replicas that run here, in the order in which they were started."""
        return list(self._callbacks)

    def peer_changed(self, event: Event) -> None:
        """Take PeerUp, PeerDown, NodeUp or NodeDown; other events mean nothing.

        Nobody's data goes because of any.
        """
        if isinstance(event, PeerUp | PeerDown | NodeUp | NodeDown):
            self._runner.feed(event)

    def member_changed(self, event: Event) -> None:
        """Hear of members; one that is gone is told to every owner."""
        if isinstance(event, MemberGone):
            for callbacks in list(self._callbacks.values()):
                callbacks.remove_node(event.node)

    def on_synced(self, listener: Callable[[Synced], None]) -> Callable[[], None]:
        """Call ``listener`` after every sync round, until the result is called."""
        self._synced.append(listener)

        def forget() -> None:
            if listener in self._synced:
                self._synced.remove(listener)

        return forget

    def stats(self) -> Mapping[str, int]:
        """Counters of gossip and of sync rounds, and of callbacks that failed."""
        return {
            **asdict(self._machine.stats),
            **{f"rounds_{k}": v for k, v in asdict(self._machine.rounds.stats).items()},
            "callbacks_failed": sum(c.failed for c in self._callbacks.values()),
        }

    async def close(self) -> None:
        """Gossip what was written, as far as that is quick, and stop. Idempotent."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                for name in list(self._callbacks):
                    await self.flush(name)
        for name in list(self._callbacks):
            self.stop(name)
        await self._runner.close()
        for task in list(self._tasks):
            task.cancel()

    # For handles.

    def write(self, name: str, op: Update) -> Delta:
        """Perform an update at its owner; see ``ReplicaHandle.broadcast_update``."""
        callbacks = self._running(name)
        _check_update(op)
        if callbacks.writes is not None:
            delta: Delta = callbacks.writes(name, op)
            return delta
        stamper = OrMap(self._node, self._hlc)
        delta = stamper.add(op[1], op[2]) if op[0] == "add" else stamper.remove(op[1])
        callbacks.owner.replica_merge_delta(name, delta)
        return delta

    def publish(self, name: str, delta: Delta) -> None:
        """Gossip entries; see ``ReplicaHandle.publish``."""
        self._running(name)
        waiting = self._machine.pending(name)
        if waiting + len(delta) > PENDING_ENTRIES_MAX and waiting:
            raise Busy(
                f"replica {name!r}: {waiting} keys wait for gossip, of at most"
                f" {PENDING_ENTRIES_MAX}",
                hint="await broadcast_delta, which waits for room",
            )
        self._runner.feed(Write(name, delta))

    async def room(self, name: str) -> None:
        """Wait until few keys of ``name`` wait for gossip."""
        while self._machine.pending(name) > _ROOM_ENTRIES:
            await self._next_turn(name)

    async def flush(self, name: str) -> None:
        """Wait until none does."""
        while name in self._callbacks and not self._machine.is_quiet(name):
            await self._next_turn(name)

    async def broadcast_custom(self, name: str, payload: object) -> None:
        """Gossip a term; see ``ReplicaHandle.broadcast_custom``."""
        self._running(name)
        encoded = terms.encode(payload)
        message = CustomMessage(self._machine.next_origin(name), encoded)
        await self._broadcast.broadcast(topic_of(name), encode_gossip(message))

    def catch_up(self, name: str, node: str | None = None) -> None:
        """Lead sync rounds; see ``ReplicaHandle.catch_up``."""
        self._running(name)
        self._runner.feed(CatchUp(name, node))

    # What comes in.

    def _delivered(self, delivery: Delivery) -> None:
        if delivery.own:
            return
        name = delivery.topic.removeprefix(TOPIC_PREFIX)
        try:
            message = decode_gossip(delivery.payload)
        except WireError as error:
            self._machine.stats.malformed += 1
            self._complaints.add(f"replica {name}", error)
            return
        self._runner.feed(Gossiped(name, message))

    def _on_frame(self, channel: Channel, frame: Frame) -> None:
        self._runner.feed(Received(channel.name, decode(frame.kind, frame.body)))

    # What goes out.

    def _transmit(self, peer: Peer, message: object) -> None:
        assert isinstance(message, SyncRequest | SyncChunk | SyncDone)
        # A sync must not be what gossip waits for: it stops where a queue begins.
        if isinstance(message, SyncChunk) and peer.gossip_blocked:
            self._runner.feed(Unsent(peer.name, message))
            return
        kind, body = encode(message)
        try:
            peer.send_gossip(kind, body)
        except Busy:
            self._runner.feed(Unsent(peer.name, message))

    def _perform(self, order: object) -> None:
        if isinstance(order, Outgoing):
            self._gossip(order)
        elif isinstance(order, Synced):
            for listener in list(self._synced):
                listener(order)
        elif isinstance(order, MergeDelta | MergeSnapshot | MergeCustom | Collect):
            callbacks = self._callbacks.get(order.replica)
            if callbacks is not None:
                self._tell(callbacks, order)
        else:
            raise TypeError(f"replicas were ordered {order!r}")

    def _tell(
        self,
        callbacks: Callbacks,
        order: MergeDelta | MergeSnapshot | MergeCustom | Collect,
    ) -> None:
        match order:
            case MergeDelta(_, entries):
                callbacks.merge_delta(entries)
            case MergeSnapshot(replica, entries, peer):
                young_ms = self._clock.wall_ms() - SPREAD_AGE_MS
                if callbacks.apply_full_sync(entries, young_ms):
                    self._runner.feed(Learned(replica, peer))
            case MergeCustom(_, payload):
                callbacks.merge_custom(payload)
            case Collect(_, age_ms):
                callbacks.collect(max(self._clock.wall_ms() - age_ms, 0))
            case _:
                assert_never(order)

    def _gossip(self, order: Outgoing) -> None:
        topic, payload = topic_of(order.replica), encode_gossip(order.message)
        try:
            self._broadcast.broadcast_nowait(topic, payload)
        except Busy:
            task = asyncio.ensure_future(self._wait_for_room(order, topic, payload))
            self._tasks[task] = None
            task.add_done_callback(lambda done: self._tasks.pop(done, None))
            return
        except BarrelError as error:  # Too large: a sync will carry it.
            self._unsendable(order.replica, error)
        self._taken(order.replica)

    async def _wait_for_room(self, order: Outgoing, topic: str, payload: bytes) -> None:
        try:
            await self._broadcast.broadcast(topic, payload)
        except BarrelError as error:
            self._unsendable(order.replica, error)
        self._taken(order.replica)

    def _unsendable(self, name: str, error: BarrelError) -> None:
        self._machine.stats.unsendable += 1
        self._complaints.add(f"replica {name}", f"a delta was not gossiped: {error}")

    def _taken(self, name: str) -> None:
        self._runner.feed(Sent(name))
        self._turn(name)

    # Waiting.

    def _turn(self, name: str) -> None:
        turned = self._turned.pop(name, None)
        if turned is not None and not turned.done():
            turned.set_result(None)

    async def _next_turn(self, name: str) -> None:
        turned = self._turned.get(name)
        if turned is None:
            turned = asyncio.get_running_loop().create_future()
            self._turned[name] = turned
        await asyncio.shield(turned)

    def _running(self, name: str) -> Callbacks:
        callbacks = self._callbacks.get(name)
        if callbacks is None:
            raise NotStarted(f"replica {name!r} does not run on this node")
        return callbacks


def _check_name(name: str) -> None:
    size = len(name.encode(errors="surrogatepass"))
    if not 1 <= size <= REPLICA_NAME_BYTES_MAX or "\0" in name:
        raise InvalidValue(
            f"a replica's name of {size} bytes: 1 to {REPLICA_NAME_BYTES_MAX} bytes of"
            " UTF-8 are allowed, and no NUL"
        )
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(f"replica name {name!r} is no UTF-8: {error}") from error


def _check_update(op: Update) -> None:
    # A caller without types may give anything.
    given: object = op
    fits = isinstance(given, tuple) and (len(given), *given[:1]) in _UPDATES
    if not fits:
        raise InvalidValue(
            f"an update is ('add', key, value) or ('remove', key), not {op!r:.80}"
        )
