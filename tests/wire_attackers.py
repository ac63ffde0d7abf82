"""An attacker with real QUIC endpoints: it ends TLS and speaks the handshake by hand.

It knows the cookie, as every member of the cluster does, so its proofs fit whatever leg
they are shown on. It has no victim's private key.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from barrel_p2p.auth import messages
from barrel_p2p.auth.certs import CertificateFiles
from barrel_p2p.auth.cookie import cookie_key
from barrel_p2p.auth.messages import Challenge, Fail, Hello, Message, Ok, Response
from barrel_p2p.auth.transcript import (
    EXPORTER_BYTES,
    EXPORTER_LABEL,
    Exchange,
    Role,
    proof,
)
from barrel_p2p.carrier.connection import Closed, Connection
from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.carrier.inbound import FrameSink, InboundStream
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.errors import BarrelError, WireError
from barrel_p2p.node.node import Node
from barrel_p2p.wire.frames import Frame, encode
from tests.endpoints import HOST, certificate, within
from tests.unit.node.nodes import COOKIE

__all__ = ["Attacker", "Leg", "attacker", "fresh_challenge"]


def fresh_challenge() -> Challenge:
    """A challenge of the attacker's own."""
    return Challenge(secrets.token_bytes(32), int(time.time() * 1_000))


class Leg:
    """One connection between the attacker and a victim.

    Attributes:
        said: What the attacker sent on it.
        heard: What the victim sent on it.
    """

    def __init__(self, connection: Connection, own_certificate_hash: bytes) -> None:
        self.connection = connection
        self.said: list[Message] = []
        self.heard: list[Message] = []
        shown = own_certificate_hash
        if connection.dialled:
            shown = hashlib.sha256(connection.certificate or b"").digest()
        self._certificate_hash = shown
        self._stream: Stream | None = None
        self._news = asyncio.Event()
        self._taken = 0
        self._over = False
        # Both ends have it, and it must be asked for while the connection lives.
        self._exporter = connection.exporter(EXPORTER_LABEL, EXPORTER_BYTES)
        sink = FrameSink()
        sink.owner = self
        connection.sink = sink
        connection.on_closed = self._closed

    @property
    def admitted(self) -> bool:
        """Whether the victim has said OK: it believes what it was shown."""
        return any(isinstance(message, Ok) for message in self.heard)

    def say(self, message: Message) -> None:
        """Send a message, whatever the victim expects."""
        self.said.append(message)
        self.say_bytes(encode(*_framed(message)))

    def say_bytes(self, data: bytes) -> None:
        """Send bytes on the auth stream."""
        try:
            if self._stream is None:
                self._stream = self.connection.open_stream(uni=True)
                self._stream.write_nowait(b"\0")
            self._stream.write_nowait(data)
        except BarrelError:
            return  # The victim has closed it.

    async def next(self) -> Message | None:
        """What the victim says next; None if it says no more, or refuses."""
        while self._taken == len(self.heard):
            if self._over:
                return None
            self._news.clear()
            await within(self._news.wait())
        message = self.heard[self._taken]
        self._taken += 1
        return None if isinstance(message, Fail) else message

    async def settled(self) -> None:
        """Wait until the victim has dealt with all that was said."""
        while self.connection.in_flight and not self._over:  # noqa: ASYNC110
            await asyncio.sleep(0)  # not synchronisation: a turn of the loop
        for _ in range(3):
            await asyncio.sleep(0)  # not synchronisation: its answer is on the way

    def respond(self, signature: bytes) -> bool:
        """Say RESPONSE with this signature, and the proof that fits this leg.

        Returns:
            Whether all was there that the proof is made of.
        """
        exchange = self._exchange()
        if exchange is None:
            return False
        role = Role.DIALLER if self.connection.dialled else Role.ACCEPTOR
        self.say(Response(signature, proof(cookie_key(COOKIE), exchange, role)))
        return True

    def close(self) -> None:
        self.connection.close()

    def _exchange(self) -> Exchange | None:
        ours, theirs = _first_of(self.said), _first_of(self.heard)
        if ours is None or theirs is None:
            return None
        dialled = self.connection.dialled
        dialler, acceptor = (ours, theirs) if dialled else (theirs, ours)
        return Exchange(
            protocol=1,
            dialler=dialler[0],
            acceptor=acceptor[0],
            dialler_challenge=dialler[1],
            acceptor_challenge=acceptor[1],
            certificate_hash=self._certificate_hash,
            exporter=self._exporter,
        )

    # The owner of the sink.

    def role_announced(self, stream: InboundStream) -> None:
        """Every stream is welcome."""

    def frame_received(self, stream: InboundStream, frame: Frame) -> None:
        """A message of the victim, or a frame of the channel it believes in."""
        if stream.role == 0:
            self.heard.append(messages.decode(frame.kind, frame.body))
            self._news.set()

    def stream_over(self, stream: InboundStream, clean: bool) -> None:
        """The victim will say no more."""
        if stream.role == 0:
            self._end()

    def stream_broken(
        self, stream: InboundStream, error: WireError | MemoryError
    ) -> None:
        """Victims are honest."""
        raise AssertionError(error)

    def _closed(self, closed: Closed) -> None:
        self._end()

    def _end(self) -> None:
        self._over = True
        self._news.set()


def _framed(message: Message) -> tuple[int, int, bytes]:
    kind, body = messages.encode(message)
    return kind, 0, body


def _first_of(said: Sequence[Message]) -> tuple[Hello, Challenge] | None:
    hellos = [message for message in said if isinstance(message, Hello)]
    challenges = [message for message in said if isinstance(message, Challenge)]
    return (hellos[0], challenges[0]) if hellos and challenges else None


class Attacker:
    """One endpoint of the attacker."""

    def __init__(self, endpoint: Endpoint, certificate_hash: bytes) -> None:
        self._endpoint = endpoint
        self._hash = certificate_hash
        self._dialled_us: asyncio.Queue[Leg] = asyncio.Queue()
        self.legs: list[Leg] = []
        self.legs_seen = 0
        endpoint.on_accept = self._accept

    def as_node(self, name: str) -> str:
        """What a victim dials that believes ``name`` to be here."""
        host, port = self._endpoint.address
        return f"{name}={host}:{port}"

    async def dialled(self) -> Leg:
        """The next victim that dials us."""
        return await within(self._dialled_us.get())

    async def dial(self, victim: Node) -> Leg:
        """A leg to ``victim``."""
        address = victim.address
        connection = await within(self._endpoint.connect(address.host, address.port))
        leg = Leg(connection, self._hash)
        self.legs.append(leg)
        return leg

    def hang_up(self) -> None:
        """End every leg."""
        for leg in self.legs:
            leg.close()
        self.legs.clear()

    def _accept(self, connection: Connection) -> None:
        leg = Leg(connection, self._hash)
        self.legs.append(leg)
        self.legs_seen += 1
        self._dialled_us.put_nowait(leg)


@asynccontextmanager
async def attacker(
    shown: CertificateFiles | None = None,
) -> AsyncIterator[Attacker]:
    """An attacker that shows the certificate ``shown``."""
    shown = shown or certificate()
    opened = await Endpoint.open(HOST, 0, certificate=shown)
    try:
        yield Attacker(opened, shown.der_sha256)
    finally:
        await opened.close(drain=0.2)
