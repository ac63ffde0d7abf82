"""What each node of the demo runs: a server that opens services and calls them.

``barrel-p2p start --app barrel_p2p.cli.showcase_app:setup``. The node stops with its
stdin, so that it cannot outlive the demo.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

from barrel_p2p.cli.tour_server import stop_with_stdin
from barrel_p2p.core.peers import NodeUp
from barrel_p2p.runtime.event_stream import Lagged
from barrel_p2p.runtime.server import GenServer
from barrel_p2p.runtime.verbs import call

if TYPE_CHECKING:
    from barrel_p2p.node.node import Node

__all__ = ["GUIDE", "Greeter", "Guide", "setup"]

GUIDE: Final = "guide"
"""The name of the server on its node."""

_PATIENCE_S: Final = 10.0


class Greeter(GenServer):
    """The service of the demo."""

    @call
    async def hello(self, who: str) -> str:
        """Greet ``who``."""
        return f"hello {who}, this is {self.node.name}"


class Guide(GenServer):
    """Does on its node what the demo asks for, and says how long it took."""

    @call
    async def open(self, service: str) -> str:
        """Start a greeter that the whole cluster finds as ``service``; its pid."""
        return repr(await self.node.start_server(Greeter, service=service))

    @call
    async def let_go(self, node: str) -> bool:
        """Close the channel to ``node``; whether there was one."""
        here: Node = self.node
        return here.disconnect(node)

    @call
    async def greet(self, service: str, who: str) -> dict[str, Any]:
        """Find ``service``, call it twice, and tell what that took.

        Returns:
            ``answer`` and who gave it (``node``); whether that node was a peer
            (``was_peer``) and had a channel (``had_channel``); milliseconds to find it
            (``find_ms``), for the call (``call_ms``), for another one (``again_ms``),
            and from the call to a channel (``opened_ms``), None if it had one.
        """
        node: Node = self.node
        began_s = time.perf_counter()
        pid = await node.whereis_service(service, timeout=_PATIENCE_S)
        found_s = time.perf_counter()
        told = {
            "node": pid.node,
            "was_peer": pid.node in node.active_view(),
            "had_channel": pid.node in (*node.nodes(), node.name),
        }
        greeter = await node.proxy(Greeter, pid, timeout=_PATIENCE_S)
        up = asyncio.create_task(_channel_up(node, pid.node))
        try:
            await asyncio.sleep(0)  # It listens before the call is made.
            called_s = time.perf_counter()
            answer = await greeter.hello(who)
            answered_s = time.perf_counter()
            await greeter.hello(who)
            again_s = time.perf_counter()
            opened_s = None if told["had_channel"] else await up
        finally:
            up.cancel()
        return told | {
            "answer": answer,
            "find_ms": _ms(found_s - began_s),
            "call_ms": _ms(answered_s - called_s),
            "again_ms": _ms(again_s - answered_s),
            "opened_ms": None if opened_s is None else _ms(opened_s - called_s),
        }


async def setup(node: Node) -> None:
    """Start the guide on ``node``, and watch stdin."""
    await node.start_server(Guide, name=GUIDE)
    stop_with_stdin(node)


async def _channel_up(node: Node, name: str) -> float:
    """When the channel to ``name`` comes up."""

    def wanted(event: NodeUp | Lagged) -> bool:
        return isinstance(event, NodeUp) and event.node == name

    async with node.events() as events:
        await events.until(wanted, timeout=_PATIENCE_S)
        return time.perf_counter()


def _ms(seconds: float) -> float:
    return round(seconds * 1_000, 2)
