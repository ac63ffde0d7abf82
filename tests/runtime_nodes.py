"""Two switches of this process, with real QUIC between them and no handshake.

What the carrier's channel does for a node is done here by ``PlainChannel``, so that a
test can also be the peer itself and write whatever it wants.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from barrel_p2p.carrier.connection import Closed, Connection
from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.carrier.inbound import InboundStream
from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import PeerUnreachable, WireError
from barrel_p2p.quic.settings import EngineSettings
from barrel_p2p.runtime.calls import fault_of
from barrel_p2p.runtime.limits import MAILBOX_LIMIT
from barrel_p2p.runtime.processes import Processes
from barrel_p2p.runtime.switch import Line, Switch
from barrel_p2p.wire.frames import Frame, encode
from barrel_p2p.wire.kinds import Kind
from tests.endpoints import endpoint, eventually, within

__all__ = ["DATA_STREAMS", "PlainChannel", "RuntimeNode", "lone_node", "two_nodes"]

DATA_STREAMS = 8


class PlainChannel:
    """One end of a connection, as a line sees it."""

    def __init__(
        self, node: RuntimeNode, connection: Connection, peer: str, creation: int
    ) -> None:
        self.node = node
        self.connection = connection
        self.name = peer
        self.creation = creation
        self.errors: list[Exception] = []
        self.closed_for: list[str] = []
        self.control: list[Frame] = []
        self.inbound: list[InboundStream] = []
        self._control: Stream | None = None
        self.line = Line(node.switch, self, node.endpoint.pump, DATA_STREAMS)
        connection.sink = self.line
        connection.on_closed = self._connection_closed
        node.switch.line_up(self.line)
        node.processes.node_up(peer)

    def _open(self, role: StreamRole) -> Stream:
        stream = self.connection.open_stream(uni=True, priority=6)
        stream.write_nowait(bytes([role]))
        return stream

    def open_data_stream(self, index: int) -> Stream:
        return self._open(StreamRole.DATA)

    def send_control(self, kind: int, body: bytes) -> None:
        if self._control is None:
            self._control = self._open(StreamRole.CONTROL)
        self._control.write_nowait(encode(kind, 0, body))

    def role_announced(self, stream: InboundStream) -> None:
        self.inbound.append(stream)

    def frame_received(self, stream: InboundStream, frame: Frame) -> None:
        if frame.kind in (Kind.PAUSE, Kind.RESUME):
            self.control.append(frame)
            self.line.room_frame(frame.kind, frame.body)
        elif frame.kind in range(Kind.EXIT, Kind.DOWN + 1):
            self.node.processes.handle_frame(self, frame)
        else:
            raise WireError(f"frame of kind {frame.kind}", peer=self.name)

    def stream_over(self, stream: InboundStream, clean: bool) -> None:
        if not clean:
            self.close("protocol_error")

    def stream_broken(
        self, stream: InboundStream, error: WireError | MemoryError
    ) -> None:
        self.errors.append(error)
        self.close("protocol_error")

    def close(self, reason: str, code: int = 0, *, text: str = "") -> None:
        self.closed_for.append(reason)
        self.connection.close(code, text)
        self._down(reason)

    def _connection_closed(self, closed: Closed) -> None:
        self._down(str(closed))

    def _down(self, reason: str) -> None:
        if not self.line.down:
            error = PeerUnreachable(f"the channel to {self.name} is down: {reason}")
            self.node.switch.drop_line(self.line, error)
            self.node.processes.node_lost(self.name, reason)


@dataclass
class RuntimeNode:
    """A node as far as processes go."""

    switch: Switch
    processes: Processes
    endpoint: Endpoint
    slow: list[tuple[Any, int]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.switch.name

    def channel(self, peer: str) -> PlainChannel:
        channel = self.switch.lines[peer].channel
        assert isinstance(channel, PlainChannel)
        return channel

    def meet(
        self, connection: Connection, peer: str, creation: int = 1
    ) -> PlainChannel:
        return PlainChannel(self, connection, peer, creation)

    def pid(self, process: int, creation: int = 1) -> Pid:
        return Pid(self.name, process, creation)


@asynccontextmanager
async def lone_node(
    name: str = "a@h",
    *,
    creation: int = 1,
    strict: bool = False,
    mailbox_limit: int = MAILBOX_LIMIT,
    settings: EngineSettings | None = None,
) -> AsyncIterator[RuntimeNode]:
    """A node without any peer."""
    async with endpoint(settings) as opened:
        switch = Switch(name, creation, asyncio.get_running_loop(), strict=strict)
        switch.fault_of = fault_of
        opened.pump.set_after_dispatch(switch.resume)
        made = Processes(switch, node=name, mailbox_limit=mailbox_limit)
        node = RuntimeNode(switch, made, opened)
        switch.on_slow = lambda process, ms: node.slow.append((process, ms))
        try:
            yield node
        finally:
            await made.stop(timeout=5)
            switch.close()


@asynccontextmanager
async def two_nodes(
    *,
    strict: bool = False,
    mailbox_limit: int = MAILBOX_LIMIT,
    settings: EngineSettings | None = None,
) -> AsyncIterator[tuple[RuntimeNode, RuntimeNode]]:
    """``a@h`` and ``b@h`` with a channel between them, dialled by ``a@h``."""
    async with AsyncExitStack() as stack:
        a, b = [
            await stack.enter_async_context(
                lone_node(
                    name, strict=strict, mailbox_limit=mailbox_limit, settings=settings
                )
            )
            for name in ("a@h", "b@h")
        ]
        dialled, accepted = await within(
            asyncio.gather(a.endpoint.connect(*b.endpoint.address), b.endpoint.accept())
        )
        a.meet(dialled, "b@h")
        b.meet(accepted, "a@h")
        yield a, b


async def lose(a: RuntimeNode, b: RuntimeNode) -> None:
    """End the channel between two nodes, and wait until both know."""
    a.channel(b.name).close("disconnect")
    await eventually(lambda: a.name not in b.switch.lines)
