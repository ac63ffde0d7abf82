"""aioquic: QUIC in Python, with C for its packet protection; asyncio API, on uvloop.

Driven by a ``QuicConnectionProtocol`` that answers in ``quic_event_received``, where
aioquic transmits by itself. Bulk and messages hand everything to ``send_stream_data``
and then call ``transmit`` once: the fastest of the ways tried, and it has no
back-pressure to obey. Runs are shorter than the others', and bulk takes its best
repeat, because one connection in a few is several times slower. Flow-control windows
are raised to 16 MiB (default 1 MiB); all else is its default.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

from aioquic.asyncio import QuicConnectionProtocol, connect, serve
from aioquic.asyncio.server import QuicServer
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import QuicEvent, StreamDataReceived

from bench.peers.adapter import HOST, Contexts, Link, Peer, Received, Session, Write
from bench.peers.certificate import Certificate

__all__ = ["PEER", "AioquicPeer"]

ALPN = "bench"
WINDOW_BYTES = 16 << 20


class _Server(QuicConnectionProtocol):
    """One accepted connection; its first stream is the session's."""

    def __init__(
        self, session: Session, quic: QuicConnection, stream_handler: None = None
    ) -> None:
        super().__init__(quic, stream_handler)
        self._session = session
        self._received: Received | None = None

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            if self._received is None:
                send = partial(self._quic.send_stream_data, event.stream_id)
                self._received = self._session(send)
            self._received(event.data)


class _Client(QuicConnectionProtocol):
    """One dialled connection."""

    received: Received

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, StreamDataReceived):
            self.received(event.data)


class _Link:
    """A dialled connection and its first stream."""

    def __init__(self, protocol: _Client, close: Callable[[], None]) -> None:
        self._quic = protocol._quic
        self.close = close
        self._stream_id = self._quic.get_next_available_stream_id()
        self.write: Write = partial(self._quic.send_stream_data, self._stream_id)
        self.flush = protocol.transmit

    async def send_all(self, block: bytes, count: int) -> None:
        write = self.write
        for _ in range(count):
            write(block)
        self.flush()


class AioquicPeer(Peer):
    """aioquic client and server."""

    name = "aioquic"
    package = "aioquic"
    phases = frozenset({"rtt", "msgs", "bulk", "handshake", "idle"})
    share: ClassVar[Mapping[str, int]] = {
        "rtt": 4,
        "msgs_single": 10,
        "msgs_batched": 40,
        "bulk": 25,
        "handshake": 5,
        "idle": 5,
    }

    def __init__(self, certificate: Certificate) -> None:
        super().__init__(certificate)
        self._server: QuicServer | None = None
        self._contexts = Contexts()

    async def serve(self, session: Session) -> int:
        configuration = QuicConfiguration(
            is_client=False,
            alpn_protocols=[ALPN],
            max_data=WINDOW_BYTES,
            max_stream_data=WINDOW_BYTES,
        )
        configuration.load_cert_chain(
            self.certificate.cert_file, self.certificate.key_file
        )
        self._server = await serve(
            HOST,
            0,
            configuration=configuration,
            create_protocol=partial(_Server, session),
        )
        assert self._server._transport is not None
        port = self._server._transport.get_extra_info("sockname")[1]
        assert isinstance(port, int)
        return port

    async def connect(self, port: int, received: Received) -> Link:
        configuration = QuicConfiguration(
            alpn_protocols=[ALPN],
            verify_mode=ssl.CERT_NONE,
            max_data=WINDOW_BYTES,
            max_stream_data=WINDOW_BYTES,
        )
        context = connect(
            HOST, port, configuration=configuration, create_protocol=_Client
        )
        protocol, close = await self._contexts.enter(context)
        assert isinstance(protocol, _Client)
        protocol.received = received
        return _Link(protocol, close)

    async def close(self) -> None:
        await self._contexts.close()
        if self._server is not None:
            self._server.close()


PEER = AioquicPeer
