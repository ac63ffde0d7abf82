"""aiopquic: picoquic on a thread of its own, its asyncio API, on uvloop.

Driven by a ``QuicConnectionProtocol`` that answers inside ``quic_event_received``. Bulk
and messages call the synchronous ``send_stream_data`` and, when it reports a full ring,
wait in the library's own ``send_stream_data_drained``: faster than awaiting that one
for every call. All settings are its defaults (BBR, 16 MiB windows, 4 MiB send ring).

Each client connection owns a picoquic context and a thread, so connecting starts one
and closing ends it. A client that takes any certificate does not check the handshake's
signature either; that is the library's choice, and makes its handshake cheaper.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import ClassVar

from aiopquic.asyncio import QuicConnectionProtocol, serve
from aiopquic.asyncio.client import connect
from aiopquic.asyncio.server import QuicServer
from aiopquic.quic.configuration import QuicConfiguration
from aiopquic.quic.connection import QuicConnection
from aiopquic.quic.events import QuicEvent, StreamDataReceived

from bench.peers.adapter import (
    HOST,
    Bytes,
    Contexts,
    Link,
    Peer,
    Received,
    Session,
    Write,
)
from bench.peers.certificate import Certificate

__all__ = ["PEER", "AiopquicPeer"]

ALPN = "bench"


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
                self._received = self._session(partial(self._answer, event.stream_id))
            self._received(event.data)

    def _answer(self, stream_id: int, data: Bytes) -> None:
        # Data arrives as memoryview, and is sent as bytes only.
        self._quic.send_stream_data(stream_id, bytes(data))


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

    def flush(self) -> None:
        """Nothing to do: every write wakes the network thread."""

    async def send_all(self, block: bytes, count: int) -> None:
        write, stream_id = self.write, self._stream_id
        for _ in range(count):
            try:
                write(block)
            except BufferError:
                await self._quic.send_stream_data_drained(stream_id, block)


class AiopquicPeer(Peer):
    """aiopquic client and server."""

    name = "aiopquic"
    package = "aiopquic"
    phases = frozenset({"rtt", "msgs", "bulk", "handshake", "idle"})
    share: ClassVar[Mapping[str, int]] = {
        "msgs_batched": 4,
        "handshake": 2,
        "idle": 20,
    }

    def __init__(self, certificate: Certificate) -> None:
        super().__init__(certificate)
        self._server: QuicServer | None = None
        self._contexts = Contexts()

    async def serve(self, session: Session) -> int:
        configuration = QuicConfiguration(is_client=False, alpn_protocols=[ALPN])
        configuration.load_cert_chain(
            str(self.certificate.cert_file), str(self.certificate.key_file)
        )
        port = _free_port()
        self._server = await serve(
            HOST,
            port,
            configuration=configuration,
            create_protocol=partial(_Server, session),
        )
        return port

    async def connect(self, port: int, received: Received) -> Link:
        configuration = QuicConfiguration(is_client=True, alpn_protocols=[ALPN])
        configuration.verify_mode = ssl.CERT_NONE
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


def _free_port() -> int:
    """A UDP port nobody listens on: the library cannot tell which one it was given."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((HOST, 0))
        port = probe.getsockname()[1]
    assert isinstance(port, int)
    return port


PEER = AiopquicPeer
