"""One end of a simulated connection: what ``carrier.connection`` is to QUIC.

It offers ``Channel`` and ``Dialer`` what they use of a real one: streams out and in,
how it ended, who is at the other end. Ends do not share state: whatever one of them
learns of the other came over the network.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast, final

from barrel_p2p.carrier.connection import Closed, ClosedBy
from barrel_p2p.errors import Busy, PeerUnreachable, WireError
from barrel_p2p.testing.nodes.host import Host
from barrel_p2p.testing.nodes.network import Lane, Machine, Network, Parcel
from barrel_p2p.wire.frames import Splitter

if TYPE_CHECKING:
    from barrel_p2p.testing.nodes.endpoint import SimEndpoint

__all__ = ["SEND_MAX", "SimConnection", "SimStream"]

SEND_MAX: Final = 4 * 1024 * 1024
"""Bytes of one stream's queue beyond which a write is refused."""

_HANDSHAKE_S: Final = 10.0
_INITIAL_S: Final = 0.3


@final
class SimStream:
    """A one-way stream out."""

    def __init__(self, connection: SimConnection) -> None:
        self.on_stop: Callable[[int], None] | None = None
        self.queued = 0
        self._connection = connection
        self._lane = connection.lane()
        self._far: SimInbound | None = None
        self._room: asyncio.Future[None] | None = None

    @property
    def blocked(self) -> bool:
        """Whether its queue is at the high-water mark."""
        return self.queued >= self._connection.send_high

    def write_nowait(self, data: bytes, *, fin: bool = False) -> int:
        """Queue ``data``; see ``Stream``."""
        connection = self._connection
        if connection.closed:
            raise PeerUnreachable("the connection is closed")
        if self.queued + len(data) > SEND_MAX:
            raise Busy(f"SEND_MAX={SEND_MAX} bytes are queued")
        self.queued += len(data)
        connection.carry(self._lane, self._arrived, data, fin, done=self._acknowledged)
        return len(data)

    def finish(self) -> None:
        """End the stream after what was written."""
        self.write_nowait(b"", fin=True)

    def reset(self, error_code: int = 0) -> None:
        """Nobody resets a simulated stream of ours; the connection goes instead."""

    async def wait_writable(self) -> None:
        """Wait for room; see ``Stream``."""
        if self._connection.closed:
            raise PeerUnreachable("the connection is closed")
        if not self.blocked:
            return
        if self._room is None:
            self._room = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._room)

    def closed(self) -> None:
        """The connection is over."""
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_exception(PeerUnreachable("the connection has ended"))
            room.exception()

    def _acknowledged(self, size: int) -> None:
        self.queued -= size
        if self._room is not None and self.queued <= self._connection.send_high // 4:
            room, self._room = self._room, None
            if not room.done():
                room.set_result(None)

    def _arrived(self, there: SimConnection, data: bytes, fin: bool) -> None:
        # Runs at the other end, which alone uses what is kept here for it.
        if self._far is None:
            self._far = SimInbound(there)
        self._far.take(data, fin)


@final
class SimInbound:
    """A one-way stream in: its role byte, then frames."""

    def __init__(self, connection: SimConnection) -> None:
        self.role = -1
        self.sink: Any = connection.sink
        self._connection = connection
        self._splitter = Splitter(
            connection.frame_bytes_max, peer=connection.peer or "a stranger"
        )
        self._waiting = False
        self._kept: list[tuple[bytes, bool]] = []
        self._broken = False

    def wait(self) -> None:
        """Keep what arrives until ``go_on``."""
        self._waiting = True

    def go_on(self) -> None:
        """Hand over what was kept, and what arrives from now on as it arrives."""
        self._waiting = False
        kept, self._kept = self._kept, []
        for data, fin in kept:
            self.take(data, fin)

    def take(self, data: bytes, fin: bool) -> None:
        """Bytes have arrived."""
        if self._broken:
            return
        try:
            if self.role < 0 and data:
                self.role = data[0]
                data = data[1:]
                self.sink.owner.role_announced(self)
            if self._waiting:
                self._kept.append((data, fin))
                return
            self._hand_over(data)
            if fin:
                self._splitter.finish()
                self.sink.owner.stream_over(self, True)
        except WireError as error:
            self._broken = True
            self.sink.owner.stream_broken(self, error)

    def _hand_over(self, data: bytes) -> None:
        for frame in self._splitter.feed(data):
            here = self._connection
            here.network.note(
                here.target.index, here.machine.index, frame.kind, frame.body
            )
            self.sink.owner.frame_received(self, frame)
            if here.network.heard is not None:
                here.network.heard(here.host, here.target.address.name, frame)


@final
class SimConnection:
    """One end. ``SimEndpoint`` makes them.

    Args:
        endpoint: Whose end it is.
        target: The machine of the other one.
        dialled: Whether it was opened here.
        other: The other end, if it is there already.
    """

    def __init__(
        self,
        endpoint: SimEndpoint,
        target: Machine,
        *,
        dialled: bool,
        other: SimConnection | None = None,
    ) -> None:
        self.network: Network = endpoint.network
        self.machine = endpoint.machine
        self.host: Host = endpoint.host
        self.target = target
        self.other = other
        self.dialled = dialled
        self.send_high = endpoint.send_high
        self.sink: Any = None
        self.frame_bytes_max = 1 << 24
        self.peer: str | None = None
        self.on_closed: Callable[[Closed], None] | None = None
        self.on_stream: object = None
        self.lanes: list[Lane] = []
        self.streams: list[SimStream] = []
        self._endpoint = endpoint
        self._loop = asyncio.get_running_loop()
        self._up: asyncio.Future[None] = self._loop.create_future()
        self._down: asyncio.Future[Closed] = self._loop.create_future()
        self._admission = self.lane()
        self._answer: asyncio.Future[tuple[str, str] | None] | None = None
        self._heard_s = self._loop.time()
        self._timers: list[asyncio.TimerHandle] = []
        self.network.opened(self)
        if not dialled:
            self._stand()

    # What Channel and Dialer use.

    @property
    def closed(self) -> bool:
        """Whether it is over."""
        return self._down.done()

    @property
    def is_gone(self) -> bool:
        """Whether nobody takes what comes here."""
        return self.closed or self.host.crashed

    @property
    def is_up(self) -> bool:
        """Whether the handshake is complete and the connection not over."""
        return self._up.done() and not self.closed

    @property
    def how_closed(self) -> Closed | None:
        """How it ended."""
        return self._down.result() if self._down.done() else None

    @property
    def remote(self) -> tuple[str, int]:
        """The address of the other machine."""
        return self.target.address.host, self.target.address.port

    def open_stream(
        self, *, uni: bool = False, priority: int | None = None
    ) -> SimStream:
        """Open a stream; see ``Connection``."""
        stream = SimStream(self)
        self.streams.append(stream)
        return stream

    def close(self, code: int = 0, reason: str = "") -> None:
        """Tell the other end ``code`` and end. What was not sent is dropped."""
        if self.closed:
            return
        self._tell(lambda other: other.over(Closed(ClosedBy.APPLICATION, code)))
        self.over(Closed(ClosedBy.LOCAL, code))

    def close_after(self, seconds: float, code: int = 0, reason: str = "") -> None:
        """Close a little later."""
        timer = self._loop.call_later(seconds, self.close, code, reason)
        self.call_when_closed(timer.cancel)

    def call_when_closed(self, callback: Callable[[], None]) -> None:
        """Call ``callback()`` soon after the connection is over, or soon if it is."""
        self._down.add_done_callback(lambda _: callback())

    def abort(self) -> None:
        """End without a word to the other end."""
        self.over(Closed(ClosedBy.LOCAL, 0))

    async def wait_connected(self) -> None:
        """Wait until the handshake is complete; ``PeerUnreachable`` if it is not."""
        await asyncio.shield(self._up)

    async def wait_closed(self) -> Closed:
        """Wait until it is over."""
        return await asyncio.shield(self._down)

    def stats(self) -> Any:
        """What a report of a dial asks for."""
        return SimpleNamespace(rtt_min_us=0, bytes_received=0)

    @property
    def unsent(self) -> int:
        """Bytes that have not arrived."""
        return sum(stream.queued for stream in self.streams)

    # Coming up.

    def reach(self) -> None:
        """Dial."""
        self._timers.append(
            self._loop.call_later(
                _HANDSHAKE_S, self.over, Closed(ClosedBy.HANDSHAKE, 0)
            )
        )
        self._call(_INITIAL_S)

    def stood(self, other: SimConnection) -> None:
        """The other machine has answered, and ``other`` is there."""
        self._heard()
        if self.other is None and not self.closed:
            self.other = other
            self._stand()

    async def admit(self, name: str) -> tuple[str, str] | None:
        """Say who we are.

        Returns:
            None, or why the other end does not want us.

        Raises:
            PeerUnreachable: It ended meanwhile.
        """
        self._answer = self._loop.create_future()
        self.carry(self._admission, SimConnection._asked, name)
        if self.closed:
            raise PeerUnreachable(f"the connection ended: {self.how_closed}")
        return await self._answer

    # What comes over the network.

    def received(self, parcel: Parcel) -> None:
        """Something has arrived for this end, on its machine."""
        self._heard()
        if not self.is_gone:
            parcel.take(self, *parcel.args)

    def over(self, closed: Closed) -> None:
        """It has ended. Idempotent."""
        if self._down.done():
            return
        self._down.set_result(closed)
        self.network.closed(self)
        for timer in self._timers:
            timer.cancel()
        self._endpoint.ended(self)
        error = PeerUnreachable(f"the connection ended: {closed}")
        for waiting in (self._up, self._answer):
            if waiting is not None and not waiting.done():
                waiting.set_exception(error)
                waiting.exception()
        for stream in self.streams:
            stream.closed()
        # As from the engine: not inside the call that has closed it.
        self._loop.call_soon(self._say_closed, closed)

    def answer_for(self, other: SimConnection) -> None:
        """What we sent found nobody: whoever is on that machine may say so."""
        target = self.target
        if target.endpoint is not None and not target.host.frozen:
            how = Closed(ClosedBy.RESET, 0)
        elif target.endpoint is None and target.answers:
            how = Closed(ClosedBy.UNREACHABLE, 0)
        else:
            return
        self.network.datagram(
            target,
            self.machine,
            self.network.loop.arrive,
            self.host,
            self._refused,
            how,
        )

    def carry(
        self,
        lane: Lane,
        take: Callable[..., object],
        *args: Any,
        done: Callable[[int], object] | None = None,
    ) -> None:
        """Send something that arrives in the order of its lane."""
        if not self.is_gone:
            size = len(args[0]) if args and isinstance(args[0], bytes) else 0
            self.network.carry(self, lane, Parcel(take, args, size, done))

    def lane(self) -> Lane:
        """A new ordered way to the other end."""
        made = Lane()
        self.lanes.append(made)
        return made

    # Inside.

    def _call(self, again_s: float) -> None:
        if self.is_gone or self.other is not None:
            return
        self.network.datagram(self.machine, self.target, self._endpoint.called, self)
        self._timers.append(self._loop.call_later(again_s, self._call, 2 * again_s))

    def _stand(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        self._heard()
        if not self._up.done():
            self._up.set_result(None)
        settings = self._endpoint
        self._ping(settings.keep_alive_s)
        self._watch(settings.idle_s)

    def _asked(self, name: str) -> None:
        refusal = self._endpoint.admit(self, name)
        self.carry(self._admission, SimConnection._answered, refusal)
        if refusal is not None:
            self.close_after(0.5)

    def _answered(self, refusal: tuple[str, str] | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(refusal)

    def _say_closed(self, closed: Closed) -> None:
        if self.on_closed is not None:
            on_closed, self.on_closed = self.on_closed, None
            on_closed(closed)

    def _refused(self, how: Closed) -> None:
        self.over(how)

    def _heard(self) -> None:
        self._heard_s = self._loop.time()

    def _ping(self, every_s: float) -> None:
        if self.is_gone:
            return
        self._tell(SimConnection._pinged)
        self._timers[:1] = [self._loop.call_later(every_s, self._ping, every_s)]

    def _pinged(self) -> None:
        self._heard()
        self._tell(SimConnection._heard)

    def _watch(self, idle_s: float) -> None:
        left_s = self._heard_s + idle_s - self._loop.time()
        if left_s <= 0:
            self.over(Closed(ClosedBy.IDLE, 0))
        elif not self.is_gone:
            self._timers[1:] = [self._loop.call_later(left_s, self._watch, idle_s)]

    def _tell(self, what: Callable[[SimConnection], object]) -> None:
        """Send a packet that may be lost."""
        other = self.other
        if other is None or self.host.crashed:
            return
        self.network.datagram(self.machine, self.target, self._told, other, what)

    def _told(
        self, other: SimConnection, what: Callable[[SimConnection], object]
    ) -> None:
        if other.is_gone:
            self.answer_for(other)
        else:
            self.network.loop.arrive(other.host, what, cast("Any", other))
