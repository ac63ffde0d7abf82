"""All channels of a node: at most one a peer, and everyone told once when that changes.

Two nodes that dial each other end with the connection that the smaller name dialled. A
peer that comes back, in a new life or with a new connection, takes the place of its old
channel: that one is down (``superseded``) before the new one delivers anything.

Source: docs/reference/wire.md, "Two dials at once"; docs/design/0004-nodes.md.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Final

from barrel_p2p.auth.signing import fingerprint
from barrel_p2p.auth.verdict import Verdict
from barrel_p2p.carrier.admission import Gate, PinStore
from barrel_p2p.carrier.channel import (
    LINGER_S,
    Channel,
    LineFactory,
    UserStreamHandler,
)
from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.carrier.connection import CODE_BUSY
from barrel_p2p.carrier.dialer import ConnectOptions, Dialer, Resolve
from barrel_p2p.carrier.dispatcher import Dispatcher
from barrel_p2p.carrier.inbound import FrameSink
from barrel_p2p.carrier.reasons import Reason
from barrel_p2p.carrier.reception import AdmissionLimits, Reception
from barrel_p2p.carrier.session import Bye, Session
from barrel_p2p.core.clock import SystemClock
from barrel_p2p.core.names import NodeReference
from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.errors import Conflict, KeyMismatch, NotStarted

if TYPE_CHECKING:
    from barrel_p2p.auth.machine import LocalNode, PeerIdentity
    from barrel_p2p.carrier.connection import Connection
    from barrel_p2p.carrier.endpoint import Endpoint
    from barrel_p2p.core.clock import Clock
    from barrel_p2p.core.names import Address, HasAddress

__all__ = ["Channels", "NodeListener", "plain_line"]

_log = logging.getLogger("barrel_p2p.carrier")

HANDSHAKE_TIMEOUT_MS: Final = 10_000

type NodeListener = Callable[[NodeUp | NodeDown], None]


def plain_line(channel: Channel) -> FrameSink:
    """A sink that takes no frame itself, so that all go to the dispatcher."""
    return FrameSink()


class Channels:
    """The channels of one node, on one endpoint.

    Args:
        endpoint: Ours until ``close``; who made it closes it.
        node: This node, as handshakes know it.
        session: What this node says in SESSION.
        trust: Its pins.
        certificate_hash: SHA-256 of the certificate that the endpoint presents (DER).
        resolve: Finds where a node may be.
        dispatcher: Takes the frames that a line does not.
        line: Makes the sink of each channel, when it has come up.
        on_user_stream: Takes the peers' user streams; None refuses them.
        clock: Both kinds of time.
        disk: Runs what waits for the disk; None is the loop's own pool.
        limits: How many strangers at once.
        handshake_timeout_ms: For everything between TLS and the peer's SESSION.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        node: LocalNode,
        session: Session,
        trust: PinStore,
        certificate_hash: bytes,
        resolve: Resolve,
        dispatcher: Dispatcher | None = None,
        line: LineFactory = plain_line,
        on_user_stream: UserStreamHandler | None = None,
        clock: Clock | None = None,
        disk: Executor | None = None,
        limits: AdmissionLimits | None = None,
        handshake_timeout_ms: int = HANDSHAKE_TIMEOUT_MS,
    ) -> None:
        self.name = node.name
        self.local = session
        self.dispatcher = dispatcher or Dispatcher()
        self.line = line
        self.on_user_stream = on_user_stream
        self._endpoint = endpoint
        self._trust = trust
        self._up: dict[str, Channel] = {}
        self._listeners: list[NodeListener] = []
        self._complaints = Complaints(_log)
        self._closing = False
        gate = Gate(
            local=node,
            trust=trust,
            certificate_hash=certificate_hash,
            clock=clock or SystemClock(),
            wanted=self._wanted,
            disk=disk,
        )
        self.reception = Reception(
            gate,
            self._make_channel,
            self.complain,
            limits=limits or AdmissionLimits(),
            handshake_timeout_ms=handshake_timeout_ms,
        )
        self.dialer = Dialer(
            endpoint,
            gate,
            resolve,
            self._make_channel,
            self.reception.coming,
            handshake_timeout_ms=handshake_timeout_ms,
        )
        endpoint.on_accept = self.reception.accept

    async def connect(
        self,
        ref: str | Address | NodeReference | HasAddress,
        *,
        timeout: float | None = 10.0,
    ) -> Channel:
        """The channel to a node, dialled if there is none.

        All who wait for a node share one dial, which ends with the last of them.

        Args:
            ref: The node; see ``NodeReference.parse``.
            timeout: Seconds; None waits for as long as a dial takes.

        Raises:
            InvalidValue: ``ref`` names no node.
            Conflict: It names this node.
            KeyMismatch: The node's key is not the one that ``ref`` names.
            PeerUnreachable, PeerError, UnavailableError: No channel came up.
                ``carrier.report.report_of`` has the steps.
            NotStarted: The channels are being closed.
        """
        reference = NodeReference.parse(ref)
        if reference.name == self.name:
            raise Conflict(
                f"{reference} is this node itself",
                hint="remove this node's own address from the list of contacts",
                peer=reference.name,
            )
        channel = self._up.get(reference.name)
        if channel is None:
            channel = await self.dialer.connect(reference, timeout)
        _check_fingerprint(channel, reference)
        return channel

    def get(self, name: str) -> Channel | None:
        """The channel to ``name`` if it is up."""
        return self._up.get(name)

    def nodes(self) -> list[str]:
        """The names of the nodes to which there is a channel, in no order."""
        return list(self._up)

    def disconnect(self, name: str, reason: str = Reason.DISCONNECT) -> bool:
        """End the channel to ``name``; returns whether there was one.

        NodeDown is given here before this returns, and over there as soon as our BYE
        has arrived.
        """
        channel = self._up.get(name)
        if channel is None:
            return False
        channel.close(reason)
        return True

    def listen(self, listener: NodeListener) -> Callable[[], None]:
        """Call ``listener`` with every NodeUp and NodeDown, until the result is called.

        It is called from the loop's callback: after NodeDown nothing of the old channel
        is delivered, and nothing of the new one before NodeUp.
        """
        self._listeners.append(listener)

        def forget() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return forget

    def set_connect_options(self, name: str, options: ConnectOptions) -> None:
        """Use ``options`` for the next attempt to dial ``name``, and only for that.

        Raises:
            Busy: Too many nodes have options that were not used.
        """
        self.dialer.set_connect_options(name, options)

    def get_connect_options(self, name: str) -> ConnectOptions | None:
        """The options that the next dial of ``name`` will use, if there are any."""
        return self.dialer.get_connect_options(name)

    def clear_connect_options(self, name: str) -> None:
        """Forget the options of ``name``. Idempotent."""
        self.dialer.clear_connect_options(name)

    async def close(self, *, drain: float = 1.0) -> None:
        """Admit nobody any more, send what is queued, say BYE to all. Idempotent.

        Args:
            drain: Seconds to wait, at most, for written bytes to be acknowledged.
        """
        if self._closing:
            return
        self._closing = True
        await self.dialer.close()
        await self.reception.close()
        with contextlib.suppress(TimeoutError, NotStarted):
            async with asyncio.timeout(drain):
                await self._endpoint.wait_drained()
        connections = [channel.connection for channel in self._up.values()]
        for channel in list(self._up.values()):
            channel.close(Reason.SHUTDOWN)
        waits = [
            asyncio.ensure_future(connection.wait_closed())
            for connection in connections
        ]
        if waits:
            await asyncio.wait(waits, timeout=2 * LINGER_S)
            for wait in waits:
                wait.cancel()
        self._endpoint.on_accept = _turn_away
        self._listeners.clear()

    # The owner of the channels.

    def session_arrived(self, channel: Channel) -> Bye | None:
        """Channel callback."""
        verdict = self._trust.check(channel.name, channel.identity.key)
        if verdict is Verdict.REVOKED:
            # Since its OK. Revoking closes only what was up then.
            return Bye(Reason.REVOKED, "the name or the key is revoked")
        old = self._up.get(channel.name)
        if old is not None and channel.creation < old.creation:
            return Bye(
                Reason.STALE_CREATION,
                f"creation {channel.creation} of {channel.name} is over;"
                f" {old.creation} is here",
            )
        if old is not None:
            old.close(Reason.SUPERSEDED)
        return None

    def channel_up(self, channel: Channel) -> None:
        """Channel callback."""
        self._up[channel.name] = channel
        self._warn_of_lease(channel)
        self._tell(NodeUp(channel.name))
        self.dialer.settle(channel)

    def channel_down(self, channel: Channel, reason: str, text: str) -> None:
        """Channel callback."""
        if self._up.get(channel.name) is not channel:
            return
        del self._up[channel.name]
        _log.info("%s is down: %s%s", channel.name, reason, f", {text}" if text else "")
        self._tell(NodeDown(channel.name, str(reason)))

    def complain(self, peer: str, what: object) -> None:
        """Channel callback."""
        self._complaints.add(peer, what)

    def _make_channel(self, connection: Connection, peer: PeerIdentity) -> Channel:
        return Channel(connection, peer, self)

    def _wanted(self, peer: PeerIdentity) -> tuple[str, str] | None:
        """Whether a session that ``peer`` has dialled may stay; why not, else.

        Of two crossed dials the one of the smaller name stays, and only that node
        decides, so that they never end with none: it refuses the other once its own
        connection stands, and gives its own up otherwise.
        """
        if self._closing:
            return ("draining", f"{self.name} is shutting down")
        dial = self.dialer.pending(peer.name)
        if dial is None or self.name > peer.name:
            return None
        if dial.is_connected:
            return ("duplicate", f"{self.name} has dialled {peer.name} already")
        dial.give_way()
        return None

    def _warn_of_lease(self, channel: Channel) -> None:
        ours, theirs = self.local, channel.session
        for name in ("member_heartbeat_ms", "member_ttl_ms"):
            our_value, their_value = getattr(ours, name), getattr(theirs, name)
            if our_value != their_value:
                self.complain(
                    channel.name,
                    f"has {name}={their_value}, this node has {our_value}:"
                    " give all nodes the same",
                )

    def _tell(self, event: NodeUp | NodeDown) -> None:
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001 -- the others must hear it too
                self._complaints.add(event.node, f"a listener failed: {error!r}")


def _check_fingerprint(channel: Channel, reference: NodeReference) -> None:
    # The channel may have been dialled by somebody who named no key.
    expected, key = reference.fingerprint, channel.identity.key
    if expected is None or (key is not None and fingerprint(key) == expected):
        return
    raise KeyMismatch(
        f"{channel.name} does not have the key that {reference} names",
        hint="compare fingerprints with its operator",
        peer=channel.name,
    )


def _turn_away(connection: Connection) -> None:
    connection.close(CODE_BUSY, "the node is shutting down")
