"""The least that a broadcast could be: frames over cleartext TCP to each receiver.

``python -m bench.fanout receive`` counts frames that come to a port it prints;
``fanout`` sends to several. One uvloop protocol each, a length and the bytes, no
encoding, no acknowledgement, nobody forwards.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import cast

import uvloop

from bench.child import Child

__all__ = ["fanout_per_s", "main"]

HOST = "127.0.0.1"
HEAD_BYTES = 4


class _Receiver(asyncio.Protocol):
    """Splits frames as a Python program does, and says when the last has come."""

    def __init__(self, expected: int) -> None:
        self._left = expected
        self._pending = b""

    def data_received(self, data: bytes) -> None:
        pending = self._pending + data if self._pending else data
        at, end = 0, len(pending)
        while end - at >= HEAD_BYTES:
            length = int.from_bytes(pending[at : at + HEAD_BYTES])
            if end - at - HEAD_BYTES < length:
                break
            frame = pending[at + HEAD_BYTES : at + HEAD_BYTES + length]
            self._left -= len(frame) > 0
            at += HEAD_BYTES + length
        self._pending = pending[at:]
        if self._left == 0:
            _say({"ns": time.monotonic_ns()})


class _Sender(asyncio.Protocol):
    """Waits while the transport asks for it."""

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.room.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()


def fanout_per_s(receivers: int, count: int, size: int) -> float:
    """Deliveries a second of ``count`` frames of ``size`` bytes to all receivers.

    Raises:
        ChildFailed: A receiver ended early or got stuck.
    """
    children = [
        Child(["-m", "bench.fanout", "receive", str(count)]) for _ in range(receivers)
    ]
    try:
        ports = [int(str(child.line()["port"])) for child in children]
        with Child(
            ["-m", "bench.fanout", "send", str(count), str(size), *map(str, ports)]
        ) as sender:
            began_ns = int(str(sender.line()["ns"]))
            ended_ns = max(int(str(child.line()["ns"])) for child in children)
    finally:
        for child in children:
            child.close()
    return receivers * count / ((ended_ns - began_ns) / 1e9)


async def _receive(count: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Receiver(count), HOST, 0)
    _say({"port": server.sockets[0].getsockname()[1]})
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


async def _send(count: int, size: int, ports: list[int]) -> None:
    loop = asyncio.get_running_loop()
    made = [await loop.create_connection(_Sender, HOST, port) for port in ports]
    senders = [protocol for _, protocol in made]
    frame = size.to_bytes(HEAD_BYTES) + bytes(size)
    _say({"ns": time.monotonic_ns()})
    for number in range(count):
        for sender in senders:
            sender.transport.write(frame)
        if number % 64 == 0:
            for sender in senders:
                await sender.room.wait()
            await asyncio.sleep(0)
    await loop.run_in_executor(None, sys.stdin.read)
    for sender in senders:
        sender.transport.close()


def _say(answer: dict[str, int]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(argv: list[str]) -> None:
    """Be one side, as ``argv`` says."""
    role, *numbers = argv
    if role == "receive":
        uvloop.run(_receive(int(numbers[0])))
    else:
        count, size, *ports = map(int, numbers)
        uvloop.run(_send(count, size, ports))


if __name__ == "__main__":
    main(sys.argv[1:])
