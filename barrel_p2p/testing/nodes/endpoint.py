"""A simulated UDP port and the channels on it: what runs in place of ``carrier``.

``Channels``, ``Dialer`` and ``Channel`` are the real ones. What is left out is QUIC and
the handshake: a peer is who it says it is, and may stay if the real rules say so.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, cast, final

from barrel_p2p.auth.events import PeerIdentity
from barrel_p2p.auth.messages import Mode
from barrel_p2p.auth.verdict import Verdict
from barrel_p2p.carrier.channel import Channel
from barrel_p2p.carrier.channels import Channels, plain_line
from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.carrier.connection import Closed, ClosedBy
from barrel_p2p.carrier.dialer import Dial, Dialer, Resolve, _Deferred
from barrel_p2p.carrier.dispatcher import Dispatcher
from barrel_p2p.carrier.session import Session
from barrel_p2p.errors import Conflict, PeerUnreachable
from barrel_p2p.quic.engine import EngineStats
from barrel_p2p.testing.nodes.connection import SimConnection
from barrel_p2p.testing.nodes.host import Host
from barrel_p2p.testing.nodes.network import Machine, Network

__all__ = ["NoKeys", "SimChannels", "SimEndpoint"]

_log = logging.getLogger("barrel_p2p.carrier")

_HANDSHAKE_MS: Final = 10_000
_DRAINED_S: Final = 0.01


@final
class SimEndpoint:
    """The port of one machine, for one life of its node.

    Args:
        network: What it is part of.
        machine: Whose port.
        idle_timeout_ms: As in the configuration.
        keep_alive_ms: As in the configuration.
        send_high: Bytes of a stream's queue at which writers wait.
    """

    def __init__(
        self,
        network: Network,
        machine: Machine,
        *,
        idle_timeout_ms: int,
        keep_alive_ms: int,
        send_high: int,
    ) -> None:
        self.network = network
        self.machine = machine
        self.host: Host = machine.host
        self.idle_s = idle_timeout_ms / 1_000
        self.keep_alive_s = keep_alive_ms / 1_000
        self.send_high = send_high
        self.channels: SimChannels | None = None
        self._accepted: dict[SimConnection, SimConnection] = {}
        self._open: dict[SimConnection, None] = {}
        machine.endpoint = self

    def dial(self, host: str, port: int, *, socket: int = 0) -> SimConnection:
        """Begin to open a connection."""
        target = self.network.at(host, port)
        if target is None:
            raise PeerUnreachable(f"nobody has the address {host} port {port}")
        connection = SimConnection(self, target, dialled=True)
        self._open[connection] = None
        connection.reach()
        return connection

    async def numeric_address(self, host: str, port: int) -> str:
        """``host``: simulated machines have names only."""
        return host

    async def wait_drained(self) -> None:
        """Wait until nothing is unsent."""
        while any(connection.unsent for connection in self._open):  # noqa: ASYNC110
            await asyncio.sleep(_DRAINED_S)

    def stats(self) -> EngineStats:
        """Refused: there is nothing to count."""
        raise Conflict("a simulated node has no engine")

    def close(self) -> None:
        """The port is free. Idempotent."""
        for connection in list(self._open):
            connection.over(Closed(ClosedBy.LOCAL, 0))
        if self.machine.endpoint is self:
            self.machine.endpoint = None

    # What connections and the network call.

    def called(self, caller: SimConnection) -> None:
        """The first packet of ``caller`` has reached its target: answer for that."""
        target = caller.target
        if self.network.deaf.get((caller.machine.index, target.index)):
            return
        endpoint = target.endpoint
        if endpoint is not None:
            self.network.loop.arrive(endpoint.host, endpoint.accept, caller)
        elif target.answers:
            how = Closed(ClosedBy.UNREACHABLE, 0)
            self.network.datagram(
                target,
                caller.machine,
                self.network.loop.arrive,
                self.host,
                caller.over,
                how,
            )

    def accept(self, caller: SimConnection) -> None:
        """Somebody dials this port, perhaps not for the first time."""
        if self.machine.endpoint is not self or self.host.crashed:
            return
        mine = self._accepted.get(caller)
        if mine is None:
            mine = SimConnection(self, caller.machine, dialled=False, other=caller)
            self._accepted[caller] = mine
            self._open[mine] = None
        self.network.datagram(
            self.machine,
            caller.machine,
            self.network.loop.arrive,
            caller.host,
            caller.stood,
            mine,
        )

    def admit(self, connection: SimConnection, name: str) -> tuple[str, str] | None:
        """Whether the peer may stay; why not, else."""
        if self.channels is None:
            return ("draining", "not started, or stopping")
        return self.channels.admit(connection, name)

    def ended(self, connection: SimConnection) -> None:
        """It is over."""
        self._open.pop(connection, None)
        if connection.other is not None:
            self._accepted.pop(connection.other, None)


@final
class _SimDialer(Dialer):
    """Dials, where nobody has to prove anything."""

    async def _admit(self, dial: Dial, deadline_s: float) -> Channel:
        connection = cast("SimConnection", dial.connection)
        name = cast("SimEndpoint", self._endpoint).machine.address.name
        try:
            async with asyncio.timeout_at(deadline_s):
                refusal = await connection.admit(name)
        except PeerUnreachable:
            dial.raise_if_not_over()
            raise
        if refusal is None:
            return self._make_channel(
                cast("Any", connection), _identity(dial.reference.name)
            )
        if refusal[0] == "duplicate":
            raise _Deferred
        dial.raise_if_not_over()
        raise PeerUnreachable(f"refused: {refusal[1]}", peer=dial.reference.name)


@final
class NoKeys:
    """As much of a trust store as is asked where no peer has a key."""

    def check(self, name: str, key: bytes | None) -> Verdict:
        """Everybody is trusted."""
        return Verdict.TRUSTED

    def list_revoked(self) -> list[str]:
        """Nobody is revoked."""
        return []


class _SimReception:
    """Knows whom ``SimChannels`` has admitted and not seen up yet."""

    def __init__(self) -> None:
        self._admitted: dict[str, Channel] = {}

    def admitted(self, channel: Channel) -> None:
        """The peer at the other end was told so."""
        self._admitted[channel.name] = channel

    def coming(self, name: str) -> asyncio.Future[None] | None:
        """Done when the channel of such a peer is up or has failed."""
        channel = self._admitted.get(name)
        if channel is None or channel._outcome.done():
            return None
        return channel._outcome

    async def close(self) -> None:
        """Nothing is left to close."""


@final
class SimChannels(Channels):
    """The real channels on a simulated port.

    Args:
        endpoint: The port.
        session: What this node says in SESSION.
        resolve: Finds where a node may be.
    """

    def __init__(
        self, endpoint: SimEndpoint, *, session: Session, resolve: Resolve
    ) -> None:
        self.name = endpoint.machine.address.name
        self.local = session
        self.dispatcher = Dispatcher()
        self.line = plain_line
        self.on_user_stream = None
        self._endpoint = cast("Any", endpoint)
        self._trust = cast("Any", NoKeys())
        self._up = {}
        self._listeners = []
        self._complaints = Complaints(_log)
        self._closing = False
        self._admitting = _SimReception()
        self.reception = cast("Any", self._admitting)
        self.dialer = _SimDialer(
            cast("Any", endpoint),
            cast("Any", None),
            resolve,
            self._make_channel,
            self._admitting.coming,
            handshake_timeout_ms=_HANDSHAKE_MS,
        )
        endpoint.channels = self

    def admit(self, connection: SimConnection, name: str) -> tuple[str, str] | None:
        """Make a channel for a peer that has dialled, if the rules let it stay."""
        peer = _identity(name)
        refusal = self._wanted(peer)
        if refusal is None:
            channel = self._make_channel(cast("Any", connection), peer)
            self._admitting.admitted(channel)
        return refusal


def _identity(name: str) -> PeerIdentity:
    return PeerIdentity(name, None, 1, Mode.COOKIE, False)
