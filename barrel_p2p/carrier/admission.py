"""Who may come in: the handshake, run on the auth streams of one connection.

The machine in ``auth.machine`` decides; this carries its messages, keeps its deadline
and has its pins stored, in a thread: a disk takes longer to sync than a loop has. All
else happens inside the callback that brought the bytes, or that tells of the pin, so
there is no moment at which the peer was told OK and the streams that follow are not
expected.

A stranger gets ``AUTH_BYTES_MAX`` bytes, one stream and one deadline for all of it.

Source: docs/reference/wire.md, "Handshake".
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol, assert_never

from barrel_p2p.auth import machine, messages
from barrel_p2p.auth.failures import failure
from barrel_p2p.auth.machine import Handshake, LocalNode, PeerIdentity
from barrel_p2p.auth.signing import Fingerprint, fingerprint
from barrel_p2p.auth.transcript import EXPORTER_BYTES, EXPORTER_LABEL, Role
from barrel_p2p.carrier.inbound import FrameSink, InboundStream
from barrel_p2p.carrier.reasons import CODE_PROTOCOL
from barrel_p2p.carrier.roles import PRIORITIES, StreamRole
from barrel_p2p.errors import (
    BarrelError,
    InvalidValue,
    KeyMismatch,
    PeerUnreachable,
    StorageError,
    WireError,
)
from barrel_p2p.wire.frames import HEADER_BYTES, Frame, encode

if TYPE_CHECKING:
    from barrel_p2p.carrier.connection import Closed, Connection
    from barrel_p2p.carrier.stream import Stream
    from barrel_p2p.core.clock import Clock
    from barrel_p2p.core.names import NodeReference

__all__ = [
    "AUTH_BYTES_MAX",
    "LINGER_S",
    "Admission",
    "Gate",
    "PinStore",
    "Refusal",
]

AUTH_BYTES_MAX: Final = 4_096
"""Bytes that a peer may send in a handshake; the longest one has less than 1,000."""

LINGER_S: Final = 0.5
"""Seconds a refused peer has to read why, before its connection is closed."""


class PinStore(machine.Trust, Protocol):
    """What is asked of the trust store."""

    def pin(self, name: str, key: bytes) -> None:
        """Remember ``key`` as that of ``name``, for good."""
        ...

    def lookup_pin(self, node: str) -> bytes | None:
        """The key that is pinned for ``node``, or None."""
        ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a handshake was refused, as ``auth.events.Refused`` says it."""

    code: str
    text: str
    by_peer: bool
    presented: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """What every handshake of a node needs.

    Args:
        local: This node, as handshakes know it.
        trust: Its pins.
        certificate_hash: SHA-256 of the certificate it presents (DER), 32 bytes.
        clock: Both kinds of time.
        wanted: Asked before the last OK, with the peer: None to take it, else code and
            text of the refusal.
        disk: Runs what waits for the disk; None is the loop's own pool.
    """

    local: LocalNode
    trust: PinStore
    certificate_hash: bytes
    clock: Clock
    wanted: Callable[[PeerIdentity], tuple[str, str] | None]
    disk: Executor | None = None


class Admission[T]:
    """One handshake, from construction on. ``run`` tells how it ended.

    Args:
        connection: Its QUIC handshake is complete. Its ``sink``, ``on_stream`` and
            ``on_closed`` are ours until the end.
        gate: What the node says and asks.
        deadline_s: When it has to be over, on the loop's clock.
        reference: Whom we dialled; None on the accepting side.
        admitted: Called at once when both sides have said OK, because streams may
            follow in the next packet. What it returns is the result of ``run``.

    Attributes:
        promised: The node that we have said, or are about to say, OK to.
        refusal: How it was refused, if it was.
    """

    def __init__(
        self,
        connection: Connection,
        gate: Gate,
        *,
        deadline_s: float,
        reference: NodeReference | None,
        admitted: Callable[[PeerIdentity], T],
    ) -> None:
        self._connection = connection
        self._gate = gate
        self._reference = reference
        self._admitted = admitted
        self._loop = asyncio.get_running_loop()
        self._own: Stream | None = None
        self._theirs: InboundStream | None = None
        self._bytes = 0
        self._pending: deque[machine.Event] = deque()
        self._feeding = False
        self._done: asyncio.Future[T] = self._loop.create_future()
        # Whoever ran this may have been cancelled.
        self._done.add_done_callback(lambda done: done.cancelled() or done.exception())
        self.promised: str | None = None
        self.refusal: Refusal | None = None
        self._machine = Handshake(
            Role.DIALLER if connection.dialled else Role.ACCEPTOR,
            gate.local,
            gate.trust,
            reference=reference,
            certificate_hash=self._certificate_hash(),
            exporter=connection.exporter(EXPORTER_LABEL, EXPORTER_BYTES),
            nonce=secrets.token_bytes(messages.NONCE_BYTES),
        )
        sink = FrameSink()
        sink.owner = self
        connection.sink = sink
        connection.frame_bytes_max = AUTH_BYTES_MAX
        connection.on_closed = self._connection_closed
        self._pinning: asyncio.Task[None] | None = None
        self._timer = self._loop.call_at(deadline_s, self._deadline_passed)
        connection.on_stream = self._early_stream
        self._feed(machine.Started())

    async def run(self) -> T:
        """Wait for the outcome.

        Returns:
            What ``admitted`` made of the peer.

        Raises:
            AuthError, VersionMismatch: It was refused, by us or by the peer.
            WireError: The peer broke a rule of the wire.
            StorageError: Its pin could not be stored.
            PeerUnreachable: The connection ended.
            UnavailableError: One side does not want the session now.
        """
        try:
            return await asyncio.shield(self._done)
        except asyncio.CancelledError:
            if not self._done.done():
                self._connection.close(0, "given up")
            raise
        finally:
            if self._pinning is not None:
                # Whoever closes the node next must not find a pin half written.
                await asyncio.wait([self._pinning])

    def _certificate_hash(self) -> bytes:
        if not self._connection.dialled:
            return self._gate.certificate_hash
        return hashlib.sha256(self._connection.certificate or b"").digest()

    # The owner of the sink.

    def role_announced(self, stream: InboundStream) -> None:
        """Take the peer's auth stream, and no other."""
        if stream.role != StreamRole.AUTH:
            raise WireError(f"a stream of role {stream.role} before OK")
        if self._theirs is not None:
            raise WireError("a second auth stream")
        self._theirs = stream

    def frame_received(self, stream: InboundStream, frame: Frame) -> None:
        """A message of the handshake."""
        if self._done.done():
            if self.refusal is None:
                raise WireError("a frame on the auth stream after OK")
            return
        self._bytes += HEADER_BYTES + len(frame.body)
        try:
            if self._bytes > AUTH_BYTES_MAX:
                raise WireError(
                    f"a handshake of more than AUTH_BYTES_MAX={AUTH_BYTES_MAX} bytes"
                )
            message = messages.decode(frame.kind, frame.body)
        except WireError as error:
            self._feed(machine.Malformed(error))
        else:
            self._feed(machine.Received(message))

    def stream_over(self, stream: InboundStream, clean: bool) -> None:
        """The peer will say no more."""
        if stream is not self._theirs:
            self._break_off(WireError("a stream that ended before its role"))
        elif not self._done.done():
            self._feed(machine.PeerEnded())

    def stream_broken(
        self, stream: InboundStream, error: WireError | MemoryError
    ) -> None:
        """The peer broke a rule; on its auth stream it is told so."""
        broken = error if isinstance(error, WireError) else WireError(str(error))
        if stream is self._theirs and not self._done.done():
            self._feed(machine.Malformed(broken))
        else:
            self._break_off(broken)

    def _early_stream(self, stream: Stream) -> None:
        self._break_off(WireError("a user stream before OK"))

    def _break_off(self, error: WireError) -> None:
        """End the connection: its peer does not speak this protocol."""
        self._connection.close(CODE_PROTOCOL, str(error))
        self._fail(error)

    def _connection_closed(self, closed: Closed) -> None:
        text = f"the connection ended during the handshake: {closed}"
        self._fail(PeerUnreachable(text))

    def _deadline_passed(self) -> None:
        self._feed(machine.DeadlinePassed())

    # The machine.

    def _feed(self, event: machine.Event) -> None:
        """Run ``event``, and what performing its effects brings up, to completion."""
        self._pending.append(event)
        if self._feeding:
            return
        self._feeding = True
        clock = self._gate.clock
        try:
            while self._pending and not self._done.done():
                effects = self._machine.handle(
                    self._pending.popleft(),
                    now_ms=clock.now_ms(),
                    wall_ms=clock.wall_ms(),
                )
                for effect in effects:
                    self._perform(effect)
        except Exception as error:
            # Our own bug, or no memory: the stranger must not stay half admitted.
            self._connection.close(0, "internal error")
            self._fail(error)
            raise
        finally:
            self._feeding = False

    def _perform(self, effect: machine.Effect) -> None:
        match effect:
            case machine.SendMessage(message):
                self._send(message)
            case machine.StorePin(name, key):
                self._pinning = self._loop.create_task(
                    self._store_pin(name, key), name=f"pin {name}"
                )
            case machine.AskWanted(peer):
                answer = self._gate.wanted(peer)
                if answer is None:
                    self.promised = peer.name
                    self._feed(machine.Wanted())
                else:
                    self._feed(machine.Unwanted(*answer))
            case machine.Admitted(peer):
                self._admit(peer)
            case machine.Refused(code, text, by_peer, presented):
                self._refuse(Refusal(code, text, by_peer, presented))
            case _:
                assert_never(effect)

    def _send(self, message: messages.Message) -> None:
        kind, body = messages.encode(message)
        try:
            if self._own is None:
                role = StreamRole.AUTH
                self._own = self._connection.open_stream(
                    uni=True, priority=PRIORITIES[role]
                )
                self._own.write_nowait(bytes([role]))
            self._own.write_nowait(encode(kind, 0, body))
        except (BarrelError, ConnectionError):
            return  # The connection is going, which on_closed tells.

    async def _store_pin(self, name: str, key: bytes) -> None:
        try:
            pin = self._gate.trust.pin
            await self._loop.run_in_executor(self._gate.disk, pin, name, key)
        except BarrelError as error:
            self._feed(machine.PinFailed(error))
        except Exception as error:  # noqa: BLE001 -- our own bug, and nobody is let in
            self._connection.close(0, "internal error")
            self._fail(error)
        else:
            self._feed(machine.PinStored())

    def _admit(self, peer: PeerIdentity) -> None:
        self._finish_own()
        self._settle()
        self._done.set_result(self._admitted(peer))

    def _refuse(self, refusal: Refusal) -> None:
        name = self._connection.peer
        if self._reference is not None:
            name = self._reference.name
        pinned = None
        if refusal.presented is not None and name is not None:
            pinned = self._pinned(name)
        if pinned is not None:
            refusal = replace(refusal, text=f"{refusal.text}; pinned is {pinned}")
        self.refusal = refusal
        self._finish_own()
        if refusal.by_peer:
            self._connection.close(0, "refused by you")
        else:
            self._connection.close_after(LINGER_S)
        error = failure(refusal.code, refusal.text, name, by_peer=refusal.by_peer)
        if isinstance(error, KeyMismatch):
            error.presented, error.pinned = refusal.presented, pinned
        self._fail(error)

    def _pinned(self, name: str) -> Fingerprint | None:
        if self._reference is not None and self._reference.fingerprint is not None:
            return Fingerprint(self._reference.fingerprint)
        try:
            key = self._gate.trust.lookup_pin(name)
        except (InvalidValue, StorageError):
            return None  # No name of a node yet, or a pin that cannot be read.
        return None if key is None else fingerprint(key)

    def _fail(self, error: Exception) -> None:
        if not self._done.done():
            self._settle()
            self._done.set_exception(error)

    def _settle(self) -> None:
        self._timer.cancel()
        self._connection.on_closed = None

    def _finish_own(self) -> None:
        if self._own is not None:
            try:
                self._own.finish()
            except (BarrelError, ConnectionError):
                return
