"""One admitted peer: its control, gossip and data streams, until the first end.

A channel is opening until both have said SESSION, then up, then down, once and for all.
What arrives on other streams before the peer's SESSION waits. Whatever breaks a rule or
loses a frame ends the channel: a frame is delivered in its order, or the channel is
down.

Bounded by ``DATA_STREAMS_MAX`` streams of the peer, each with one torn frame of at most
``FRAME_BYTES_MAX``, and by the engine's windows.

Source: docs/reference/wire.md, "Streams".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from barrel_p2p.auth.messages import cut
from barrel_p2p.carrier.inbound import FrameSink, InboundStream
from barrel_p2p.carrier.reasons import (
    CODE_PROTOCOL,
    CODE_REFUSED_STREAM,
    Reason,
    reason_of,
)
from barrel_p2p.carrier.roles import PRIORITIES, StreamRole
from barrel_p2p.carrier.session import (
    DATA_STREAMS_MAX,
    Bye,
    Session,
    decode_bye,
    decode_session,
    encode_bye,
    encode_session,
)
from barrel_p2p.errors import (
    BarrelError,
    InvalidValue,
    NotConnected,
    PeerUnreachable,
    RingSizeMismatch,
    WireError,
)
from barrel_p2p.wire.frames import Frame, encode
from barrel_p2p.wire.kinds import Kind
from barrel_p2p.wire.limits import FRAME_BYTES_MAX

if TYPE_CHECKING:
    from barrel_p2p.auth.machine import PeerIdentity
    from barrel_p2p.carrier.connection import Closed, Connection
    from barrel_p2p.carrier.dispatcher import Dispatcher
    from barrel_p2p.carrier.stream import Stream

__all__ = ["LINGER_S", "Channel", "ChannelOwner", "LineFactory", "UserStreamHandler"]

LINGER_S: Final = 0.5
"""Seconds a peer has to read our BYE before its connection is closed."""

type LineFactory = Callable[[Channel], FrameSink]
type UserStreamHandler = Callable[[Channel, Stream], None]


class ChannelOwner(Protocol):
    """Whoever keeps the channels of a node."""

    @property
    def local(self) -> Session:
        """What this node says in SESSION."""
        ...

    @property
    def dispatcher(self) -> Dispatcher:
        """Takes the frames that the sink does not."""
        ...

    @property
    def line(self) -> LineFactory:
        """Makes the sink of a channel that has just come up."""
        ...

    @property
    def on_user_stream(self) -> UserStreamHandler | None:
        """Takes user streams; None refuses them."""
        ...

    def session_arrived(self, channel: Channel) -> Bye | None:
        """The peer's session fits ours: make room for this channel, or refuse it."""
        ...

    def channel_up(self, channel: Channel) -> None:
        """The channel is up. No frame was delivered yet."""
        ...

    def channel_down(self, channel: Channel, reason: str, text: str) -> None:
        """The channel, which was up, is down. No frame will be delivered any more."""
        ...

    def complain(self, peer: str, what: object) -> None:
        """The peer did something wrong."""
        ...


class _State(Enum):
    OPENING = "opening"
    UP = "up"
    DOWN = "down"


class Channel:
    """A channel to one admitted peer. ``Channels`` makes them.

    Args:
        connection: Both sides have said OK on it.
        peer: Who is at its other end.
        owner: Whose channel it is.

    Attributes:
        name: The peer's node name.
        connection: The QUIC connection.
        identity: What the handshake proved.
        line: The sink that its frames go to first.
    """

    def __init__(
        self, connection: Connection, peer: PeerIdentity, owner: ChannelOwner
    ) -> None:
        self.name = peer.name
        self.identity = peer
        self.connection = connection
        self._owner = owner
        self._state = _State.OPENING
        self._session: Session | None = None
        self._up_since_ms = 0
        self._inbound: dict[InboundStream, None] = {}  # open, in order of arrival
        self._own: dict[StreamRole, Stream] = {}
        self._data: dict[int, Stream] = {}
        self._outcome: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._outcome.add_done_callback(lambda done: done.exception())
        # A line is for channels that are up; until then we take the frames ourselves.
        self._take_over(FrameSink())
        connection.frame_bytes_max = FRAME_BYTES_MAX
        connection.peer = self.name
        connection.on_stream = None  # They wait for the session in the connection.
        connection.on_closed = self._connection_closed
        if connection.dialled:
            self._say(StreamRole.CONTROL, Kind.SESSION, encode_session(owner.local))

    def __repr__(self) -> str:
        return f"<Channel to {self.name}, {self._state.value}>"

    @property
    def dialled(self) -> bool:
        """Whether we dialled it."""
        return self.connection.dialled

    @property
    def is_up(self) -> bool:
        """Whether frames can be sent."""
        return self._state is _State.UP

    @property
    def session(self) -> Session:
        """What the peer said in SESSION.

        Raises:
            NotConnected: It has not said it yet.
        """
        if self._session is None:
            raise NotConnected(f"{self.name} has not said SESSION", peer=self.name)
        return self._session

    @property
    def creation(self) -> int:
        """The peer's creation.

        Raises:
            NotConnected: It has not said it yet.
        """
        return self.session.creation

    @property
    def address(self) -> tuple[str, int]:
        """Where the peer is: the other end's host and port.

        Raises:
            NotConnected: The connection ended before anyone asked.
        """
        return self.connection.remote

    @property
    def up_since(self) -> int:
        """When it came up, in milliseconds of the monotonic clock; 0 before that."""
        return self._up_since_ms

    async def wait_up(self) -> None:
        """Wait until it is up.

        Raises:
            PeerUnreachable, PeerError: It went down instead.
        """
        await asyncio.shield(self._outcome)

    def send_control(self, kind: int, body: bytes) -> None:
        """Queue a frame on the control stream, ahead of all others.

        Args:
            kind: The frame's kind.
            body: At most ``FRAME_BYTES_MAX - 2`` bytes.

        Raises:
            NotConnected: The channel is not up.
            Busy: The stream's queue is full.
            InvalidValue: ``kind`` or ``body`` is out of range.
        """
        self._need_up()
        self._say(StreamRole.CONTROL, kind, body)

    def send_gossip(self, kind: int, body: bytes) -> None:
        """Queue a frame on the gossip stream, ahead of data.

        Args:
            kind: The frame's kind.
            body: At most ``FRAME_BYTES_MAX - 2`` bytes.

        Raises:
            NotConnected: The channel is not up.
            Busy: The stream's queue is full.
            InvalidValue: ``kind`` or ``body`` is out of range.
        """
        self._need_up()
        self._say(StreamRole.GOSSIP, kind, body)

    @property
    def gossip_blocked(self) -> bool:
        """Whether the gossip queue is at its high-water mark. It still takes frames."""
        stream = self._own.get(StreamRole.GOSSIP)
        return stream is not None and stream.blocked

    async def wait_gossip(self) -> None:
        """Wait until the gossip queue has room.

        Raises:
            StreamReset: The peer reads no gossip any more.
            PeerUnreachable: The connection has ended.
        """
        stream = self._own.get(StreamRole.GOSSIP)
        if stream is not None:
            await stream.wait_writable()

    def open_data_stream(self, index: int) -> Stream:
        """Our data stream ``index``, opened when first asked for.

        Its role byte is written; what follows has to be frames, whole ones each write.

        Args:
            index: 0 to ``data_streams - 1`` of our own session.

        Raises:
            NotConnected: The channel is not up.
            InvalidValue: ``index`` is out of range.
            Busy: The engine has no stream left.
        """
        self._need_up()
        if not 0 <= index < self._owner.local.data_streams:
            highest = self._owner.local.data_streams - 1
            raise InvalidValue(f"data stream {index} is outside 0 to {highest}")
        stream = self._data.get(index)
        if stream is None:
            stream = self._data[index] = self._open(StreamRole.DATA)
        return stream

    def close(self, reason: str, code: int = 0, *, text: str = "") -> None:
        """Go down at once, and tell the peer why. Idempotent.

        Args:
            reason: ``[a-z][a-z0-9_]*``: for NodeDown here and, as BYE, over there.
            code: Above 0 the connection is closed with it, without a BYE.
            text: For people.
        """
        if self._state is _State.DOWN:
            return
        if code:
            self.connection.close(code, text or reason)
        elif not self.connection.closed:
            self._say_bye(Bye(reason, text))
            self.connection.close_after(LINGER_S, 0, reason)
        self._go_down(reason, text)

    # The owner of the sink.

    def role_announced(self, stream: InboundStream) -> None:
        """Take a one-way stream of the peer, or refuse its role."""
        if self._state is _State.DOWN:
            return
        role = stream.role
        count = sum(1 for known in self._inbound if known.role == role)
        match role:
            case StreamRole.CONTROL | StreamRole.GOSSIP:
                fits = count == 0
            case StreamRole.DATA:
                fits = count < DATA_STREAMS_MAX
            case _:
                fits = False
        if not fits:
            raise WireError(
                f"{self.name} opened a stream of role {role} beside {count} others",
                peer=self.name,
            )
        self._inbound[stream] = None
        if self._state is _State.OPENING and role != StreamRole.CONTROL:
            stream.wait()

    def frame_received(self, stream: InboundStream, frame: Frame) -> None:
        """A frame that the sink did not take itself."""
        if self._state is _State.DOWN:
            return
        if stream.role == StreamRole.CONTROL:
            if self._state is _State.OPENING:
                self._first_frame(frame)
                return
            if frame.kind == Kind.BYE:
                self._on_bye(decode_bye(frame.body, peer=self.name))
                return
        self._owner.dispatcher.dispatch(self, stream.role, frame)

    def stream_over(self, stream: InboundStream, clean: bool) -> None:
        """The peer ended one of its streams."""
        if self._state is _State.DOWN:
            return
        known = stream in self._inbound
        self._inbound.pop(stream, None)
        if clean and stream.role == StreamRole.DATA and known:
            return
        if stream.role == StreamRole.AUTH:
            return
        how = "ended" if clean else "reset"
        self._break_off(f"{how} its stream of role {stream.role}")

    def stream_broken(
        self, stream: InboundStream, error: WireError | MemoryError
    ) -> None:
        """The peer broke a rule, or there is no memory for what it sent."""
        self._break_off(str(error))

    # How it comes up.

    def _first_frame(self, frame: Frame) -> None:
        if frame.kind == Kind.BYE:
            self._on_bye(decode_bye(frame.body, peer=self.name))
            return
        if frame.kind != Kind.SESSION:
            raise WireError(
                f"the first frame of {self.name} has kind {frame.kind}, not SESSION",
                peer=self.name,
            )
        self._session = session = decode_session(frame.body, peer=self.name)
        local = self._owner.local
        if session.ring_size != local.ring_size:
            text = (
                f"{self.name} has ring_size={session.ring_size},"
                f" this node has {local.ring_size}"
            )
            self.close(Reason.RING_SIZE_MISMATCH, text=text)
            return
        refused = self._owner.session_arrived(self)
        if refused is not None:
            self.close(refused.reason, text=refused.text)
            return
        if not self.dialled:
            self._say(StreamRole.CONTROL, Kind.SESSION, encode_session(local))
        self._come_up()

    def _come_up(self) -> None:
        self._take_over(self._owner.line(self))
        self._state = _State.UP
        self._up_since_ms = time.monotonic_ns() // 1_000_000
        self._owner.channel_up(self)
        if not self._outcome.done():
            self._outcome.set_result(None)
        for stream in list(self._inbound):
            stream.go_on()
        if self.is_up:
            self.connection.on_stream = self._on_user_stream

    def _take_over(self, sink: FrameSink) -> None:
        sink.owner = self
        self.line = sink
        self.connection.sink = sink
        for stream in self._inbound:
            stream.sink = sink

    # How it goes down.

    def _on_bye(self, bye: Bye) -> None:
        self.connection.close(0, bye.reason)
        self._go_down(bye.reason, cut(bye.text))

    def _connection_closed(self, closed: Closed) -> None:
        self._go_down(reason_of(closed), f"the connection ended: {closed}")

    def _break_off(self, text: str) -> None:
        if self._state is not _State.DOWN:
            self._owner.complain(self.name, text)
            self.close(Reason.PROTOCOL_ERROR, CODE_PROTOCOL, text=text)

    def _go_down(self, reason: str, text: str) -> None:
        if self._state is _State.DOWN:
            return
        was_up = self._state is _State.UP
        self._state = _State.DOWN
        self.connection.on_closed = None
        self.connection.on_stream = _refuse_stream
        self._inbound.clear()
        if not self._outcome.done():
            self._outcome.set_exception(_down_error(self.name, reason, text))
        if was_up:
            self._owner.channel_down(self, reason, text)

    # What goes out.

    def _say(self, role: StreamRole, kind: int, body: bytes) -> None:
        stream = self._own.get(role)
        if stream is None:
            stream = self._own[role] = self._open(role)
        stream.write_nowait(encode(kind, 0, body))

    def _say_bye(self, bye: Bye) -> None:
        try:
            self._say(StreamRole.CONTROL, Kind.BYE, encode_bye(bye))
            self._own[StreamRole.CONTROL].finish()
        except BarrelError:
            return  # Its queue is full or it is going: the close code has to do.

    def _open(self, role: StreamRole) -> Stream:
        stream = self.connection.open_stream(uni=True, priority=PRIORITIES[role])
        stream.on_stop = self._own_stopped
        stream.write_nowait(bytes([role]))
        return stream

    def _own_stopped(self, error_code: int) -> None:
        self._break_off(f"stopped reading one of our streams, code {error_code:#x}")

    def _on_user_stream(self, stream: Stream) -> None:
        handler = self._owner.on_user_stream
        if handler is None:
            _refuse_stream(stream)
        else:
            handler(self, stream)

    def _need_up(self) -> None:
        if self._state is not _State.UP:
            raise NotConnected(
                f"the channel to {self.name} is {self._state.value}", peer=self.name
            )


def _refuse_stream(stream: Stream) -> None:
    stream.reset(CODE_REFUSED_STREAM)


def _down_error(name: str, reason: str, text: str) -> BarrelError:
    message = f"{name} did not come up: {reason}{f', {text}' if text else ''}"
    if reason == Reason.RING_SIZE_MISMATCH:
        return RingSizeMismatch(
            message, hint="give every node the same ring_size", peer=name
        )
    return PeerUnreachable(message, peer=name)
