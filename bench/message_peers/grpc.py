"""grpc.aio: unary calls and one stream of requests a sender, without TLS.

Bodies are bytes on both sides: no protobuf, no serializers. One-way messages go through
a client-streaming call, which is how gRPC offers them. On the stock asyncio loop,
because grpc.aio polls on a thread of its own. No limit on the size of a message; all
else is its default.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import ClassVar

import grpc
import grpc.aio

from bench.message_peers.adapter import (
    HOST,
    MESSAGE_BYTE,
    Info,
    Link,
    Peer,
    Tally,
)

__all__ = ["PEER", "GrpcPeer"]

SERVICE = "Bench"


class _Link(Link):
    """A channel and its two methods."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._echo = channel.unary_unary(f"/{SERVICE}/Echo")
        self._take = channel.stream_unary(f"/{SERVICE}/Take")

    async def call(self, message: object) -> object:
        return await self._echo(message)

    async def send_all(self, message: object, count: int, end: bytes) -> None:
        stream = self._take()
        for _ in range(count):
            await stream.write(message)
        await stream.write(end)
        await stream.done_writing()
        await stream


class GrpcPeer(Peer):
    """A server with two methods, or a channel to it."""

    name = "grpc"
    packages = ("grpcio",)
    share: ClassVar[Mapping[str, int]] = {
        "calls64": 20,
        "oneway": 100,
        "oneway8": 100,
        "big": 4,
    }
    loop = "asyncio"

    _server: grpc.aio.Server | None = None
    _channel: grpc.aio.Channel | None = None

    async def serve(self, phase: str, tally: Tally) -> Info:
        async def echo(request: bytes, context: object) -> bytes:
            return tally.answer(request)

        async def take(requests: AsyncIterator[bytes], context: object) -> bytes:
            async for message in requests:
                if message[0] == MESSAGE_BYTE:
                    tally.count += 1
                else:
                    tally.end(message)
            return b""

        options = [("grpc.max_receive_message_length", -1)]
        self._server = grpc.aio.server(options=options)
        handlers = {
            "Echo": grpc.unary_unary_rpc_method_handler(echo),
            "Take": grpc.stream_unary_rpc_method_handler(take),
        }
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )
        port = self._server.add_insecure_port(f"{HOST}:0")
        await self._server.start()
        return {"port": port}

    async def connect(self, info: Info) -> Link:
        self._channel = grpc.aio.insecure_channel(f"{HOST}:{info['port']}")
        await self._channel.channel_ready()
        return _Link(self._channel)

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()
        if self._server is not None:
            await self._server.stop(grace=None)


PEER = GrpcPeer
