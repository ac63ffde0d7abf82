"""What the demo's first process runs: a counter, until its stdin closes.

``barrel-p2p start --app barrel_p2p.cli.tour_server:setup``. It ends with its stdin, so
that it cannot outlive the process that started it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Final

from barrel_p2p.core.terms import Pid
from barrel_p2p.runtime.server import GenServer
from barrel_p2p.runtime.verbs import call

if TYPE_CHECKING:
    from barrel_p2p.node.node import Node

__all__ = ["COUNTER", "Counter", "setup", "stop_with_stdin"]

COUNTER: Final = "counter"
"""The server's name on its node."""

_stops: set[asyncio.Task[None]] = set()


class Counter(GenServer):
    """Counts its calls."""

    async def init(self) -> None:
        """Begin at zero."""
        self._total = 0

    @call
    async def where(self) -> Pid:
        """The server's pid."""
        return self.pid

    @call
    async def add(self, n: int) -> int:
        """Add ``n``; the total."""
        self._total += n
        return self._total

    @call
    async def process(self) -> int:
        """The number of the operating system's process that it runs in."""
        return os.getpid()


async def setup(node: Node) -> None:
    """Start the counter on ``node``, and watch stdin."""
    await node.start_server(Counter, name=COUNTER)
    stop_with_stdin(node)


def stop_with_stdin(node: Node) -> None:
    """Stop ``node`` when stdin closes, as it does when the other end is gone."""
    loop = asyncio.get_running_loop()
    stdin = sys.stdin.fileno()

    def ended() -> None:
        if not os.read(stdin, 4_096):
            loop.remove_reader(stdin)
            _stops.add(loop.create_task(node.stop()))

    loop.add_reader(stdin, ended)
