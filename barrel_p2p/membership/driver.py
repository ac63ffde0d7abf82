"""The views of a real node: feeds the machine, performs what it orders.

Source: Barrel P2P documentation, "Cluster membership"; docs/reference/wire.md.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from barrel_p2p.carrier.channel import Channel
from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.carrier.dispatcher import Handler
from barrel_p2p.carrier.reasons import Reason
from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.core.clock import Clock
from barrel_p2p.core.inputs import Received
from barrel_p2p.core.names import Address, HasAddress, NodeReference, node_name
from barrel_p2p.core.peers import Joined, Left, NodeDown, NodeUp, PeerDown, PeerUp
from barrel_p2p.core.rng import Rng
from barrel_p2p.errors import Busy, CallTimeout, Conflict, PeerUnreachable, StorageError
from barrel_p2p.membership.commands import (
    BlockPeers,
    Join,
    JoinFailed,
    Leave,
    Start,
    UnblockPeers,
)
from barrel_p2p.membership.links import Counters
from barrel_p2p.membership.machine import HyParView
from barrel_p2p.membership.messages import Message, decode, encode
from barrel_p2p.membership.peer_file import load_peers, save_peers
from barrel_p2p.membership.settings import Settings, address_of
from barrel_p2p.runtime.runner import Network, Peer, Runner
from barrel_p2p.wire.frames import Frame
from barrel_p2p.wire.kinds import Kind

__all__ = ["DIAL_TIMEOUT_S", "KINDS", "Carrier", "Membership", "ViewEvent"]

_log = logging.getLogger("barrel_p2p.membership")

KINDS: Final = range(Kind.JOIN, Kind.SHUFFLE_REPLY + 1)
"""The frame kinds of this room, on control streams."""

DIAL_TIMEOUT_S: Final = 5.0
"""A replacement that takes longer than this to answer is no good one."""

type ViewEvent = PeerUp | PeerDown | Joined | Left
type _Reference = str | Address | NodeReference | HasAddress


class Frames(Protocol):
    """Where handlers of frames are registered."""

    def register(
        self, kinds: int | Iterable[int], handler: Handler, *, role: StreamRole
    ) -> None:
        """Hand frames of ``kinds`` to ``handler``."""
        ...


class Carrier(Network, Protocol):
    """The channels of a node, real or simulated."""

    def nodes(self) -> list[str]:
        """Those that there is a channel to."""
        ...

    def listen(
        self, listener: Callable[[NodeUp | NodeDown], None]
    ) -> Callable[[], None]:
        """Hear every NodeUp and NodeDown, until the result is called."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    """Whoever waits for a place in the cluster.

    Args:
        name: Of the node that was asked.
        alone: There was no peer, so that any is as good.
        done: What is waited for.
    """

    name: str
    alone: bool
    done: asyncio.Future[None]

    def settle(self, error: Exception | None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)


class Membership:
    """This node's place in its cluster.

    Args:
        settings: Sizes, times and contacts.
        address: This node's name, and where others can dial it; an empty host and port
            0 if they have to ask discovery.
        carrier: Its channels.
        frames: Where the frames of ``KINDS`` come from.
        clock: Both kinds of time.
        rng: Chance.
        contacts: ``contact_nodes`` as they were written; their fingerprints count
            whenever the node is dialled.
        store: The file for former peers; None keeps none.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        address: Address,
        carrier: Carrier,
        frames: Frames,
        clock: Clock,
        rng: Rng,
        contacts: Iterable[_Reference] = (),
        store: Path | None = None,
    ) -> None:
        self.name = address.name
        self._carrier = carrier
        self._frames = frames
        self._store = store
        self._pinned = _Pinned(carrier)
        for contact in contacts:
            self._pinned.add(NodeReference.parse(contact))
        self._machine = HyParView(address, settings, rng)
        self._runner = Runner(
            self._machine,
            network=self._pinned,
            transmit=self._transmit,
            publish=self._publish,
            clock=clock,
            dial_timeout_s=DIAL_TIMEOUT_S,
            persist=self._persist,
        )
        self._listeners: list[Callable[[ViewEvent], None]] = []
        self._joins: list[_Waiting] = []
        self._leaves = 0
        self._saved: tuple[Address, ...] = ()
        self._forget: Callable[[], None] = _nothing
        self._complaints = Complaints(_log)

    def start(self) -> None:
        """Begin: hear channels and frames, and look for the contacts in the background.

        Raises:
            Conflict: Somebody else has registered for the frames.
        """
        self._frames.register(KINDS, self._received, role=StreamRole.CONTROL)
        self._saved = self._load()
        self._forget = self._carrier.listen(self._runner.feed)
        self._runner.feed(Start(self._saved))
        for name in self._carrier.nodes():
            self._runner.feed(NodeUp(name))

    async def join(
        self,
        ref: _Reference,
        *,
        timeout: float | None = 10.0,
        reached: Callable[[], None] | None = None,
    ) -> None:
        """Become a member through a node, also after ``leave``.

        Args:
            ref: The node; see ``NodeReference.parse``. It is contacted again later, as
                ``contact_nodes`` are, until ``leave``.
            timeout: Seconds; None waits for as long as a dial and an answer take.
            reached: Called once there is a channel to the node, before it is asked.
                Until then a node that has left stays out, and so it does if that fails.

        Raises:
            InvalidValue: ``ref`` names no node.
            Conflict: It names this node, or one that is blocked here; or this node was
                told to leave meanwhile.
            AuthError, PeerError, PeerUnreachable: There is no channel to the node, or
                it does not take this node in.
            CallTimeout: Nobody answered in time.

        Guarantee:
            When it returns, another node and this one have become each other's peer.
        """
        reference = NodeReference.parse(ref)
        name = reference.name
        if name == self.name or name in self._machine.blocked():
            why = "is this node itself" if name == self.name else "is blocked here"
            raise Conflict(f"cannot join through {reference}: it {why}", peer=name)
        deadline = _deadline(timeout)
        self._pinned.add(reference)
        leaves = self._leaves
        await self._carrier.connect(reference, timeout=timeout)
        if self._leaves != leaves:
            raise _left_meanwhile(name)
        if reached is not None:
            reached()
        if name in self._machine.active_view():
            self._runner.feed(Join(address_of(reference)))
            return
        done = asyncio.get_running_loop().create_future()
        waiting = _Waiting(name, not self._machine.active_view(), done)
        self._joins.append(waiting)
        try:
            self._runner.feed(Join(address_of(reference)))
            async with asyncio.timeout_at(deadline):
                await done
        except TimeoutError as error:
            raise CallTimeout(
                f"{reference} did not take this node in within {timeout} s", peer=name
            ) from error
        finally:
            self._joins.remove(waiting)

    async def leave(self, *, forget: bool = True) -> None:
        """Leave the cluster: every peer is told, and asks this node back no more.

        Channels stay. The node stays out until the next ``join``; one that is under way
        has failed.

        Args:
            forget: Also forget former peers. False is for a node that stops, and shall
                find its cluster again when it starts the next time.
        """
        self._leaves += 1
        self._runner.feed(Leave(forget))
        for waiting in self._joins:
            waiting.settle(_left_meanwhile(waiting.name))

    def active_view(self) -> list[str]:
        """The peers that gossip goes to, the longest known first."""
        return self._machine.active_view()

    def passive_view(self) -> list[str]:
        """The nodes that may replace a peer, the longest known first."""
        return self._machine.passive_view()

    def address_of(self, name: str) -> Address | None:
        """Where ``name`` is said to listen, as far as the views know. Port 0: it does
        not say."""
        return self._machine.address_of(name)

    def is_active(self, name: str) -> bool:
        """Whether ``name`` is a peer."""
        return name in self._machine.active_view()

    def churn_stats(self) -> tuple[int, int]:
        """Comings and goings in the current ``churn_window_ms``."""
        return self._machine.churn_stats()

    @property
    def counters(self) -> Counters:
        """What happened so far."""
        return self._machine.counters

    def block_peers(self, nodes: Iterable[str]) -> None:
        """Keep ``nodes`` out of both views, and their channels as they are.

        Raises:
            InvalidValue: One is no node name. Nobody was blocked.
        """
        self._runner.feed(BlockPeers(tuple([node_name(node) for node in nodes])))

    def unblock_peers(self, nodes: Iterable[str] | None = None) -> None:
        """Let ``nodes``, or all, in again.

        Raises:
            InvalidValue: One is no node name.
        """
        names = None if nodes is None else tuple([node_name(node) for node in nodes])
        self._runner.feed(UnblockPeers(names))

    def listen(self, listener: Callable[[ViewEvent], None]) -> Callable[[], None]:
        """Call ``listener`` with every event, until the result is called.

        Events come in the order in which they happened, each before anything that
        follows from it. The peers at this moment are in ``active_view``.
        """
        self._listeners.append(listener)

        def forget() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return forget

    async def close(self) -> None:
        """Hear and order nothing any more, and keep the peers on disk. Idempotent."""
        self._forget()
        self._forget = _nothing
        await self._runner.close()
        if self._store is not None and self._machine.remembered() != self._saved:
            try:
                self._save(self._machine.remembered())
            except StorageError as error:
                self._complaints.add(self.name, error)
        for waiting in self._joins:
            waiting.done.cancel()

    def _received(self, channel: Channel, frame: Frame) -> None:
        message = decode(frame.kind, frame.body, peer=channel.name)
        self._runner.feed(Received(channel.name, message))

    def _transmit(self, peer: Peer, message: object) -> None:
        assert isinstance(message, Message)
        try:
            peer.send_control(*encode(message))
        except Busy:
            # The two sides would have different ideas of their link from now on.
            self._carrier.disconnect(peer.name, Reason.BUSY)
            raise

    def _publish(self, event: object) -> None:
        if isinstance(event, JoinFailed):
            self._refuse_joins(event)
            return
        assert isinstance(event, PeerUp | PeerDown | Joined | Left)
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001 -- the others must hear it too
                self._complaints.add(self.name, f"a listener failed: {error!r}")
        if isinstance(event, PeerUp):
            for waiting in self._joins:
                if waiting.alone or waiting.name == event.node:
                    waiting.settle(None)

    def _refuse_joins(self, event: JoinFailed) -> None:
        for waiting in self._joins:
            if waiting.name == event.node:
                waiting.settle(
                    PeerUnreachable(
                        f"{event.node} does not take this node in: {event.reason}",
                        hint="join through another node of the cluster",
                        peer=event.node,
                    )
                )

    async def _persist(self, key: str, value: object) -> None:
        assert isinstance(value, tuple)
        if self._store is not None:
            self._save(value)

    def _save(self, peers: tuple[Address, ...]) -> None:
        assert self._store is not None
        save_peers(self._store, peers)
        self._saved = peers

    def _load(self) -> tuple[Address, ...]:
        if self._store is None:
            return ()
        try:
            return load_peers(self._store)
        except StorageError as error:
            _log.warning("%s starts without its former peers: %s", self.name, error)
            return ()


class _Pinned:
    """The channels, where a node that a user named with a key must show that key."""

    def __init__(self, carrier: Carrier) -> None:
        self._carrier = carrier
        self._references: dict[str, NodeReference] = {}

    def add(self, reference: NodeReference) -> None:
        if reference.fingerprint is not None:
            self._references[reference.name] = reference

    def get(self, name: str) -> Peer | None:
        return self._carrier.get(name)

    async def connect(
        self, ref: str | Address | NodeReference, *, timeout: float | None
    ) -> Peer:
        wanted = NodeReference.parse(ref)
        named = self._references.get(wanted.name)
        if named is not None:
            host, port = wanted.host or named.host, wanted.port or named.port
            wanted = NodeReference(wanted.name, host, port, named.fingerprint)
        return await self._carrier.connect(wanted, timeout=timeout)

    def disconnect(self, name: str, reason: str) -> bool:
        return self._carrier.disconnect(name, reason)


def _left_meanwhile(name: str) -> Conflict:
    return Conflict(
        f"not joined through {name}: this node was told to leave", peer=name
    )


def _deadline(timeout: float | None) -> float | None:
    return None if timeout is None else asyncio.get_running_loop().time() + timeout


def _nothing() -> None:
    pass
