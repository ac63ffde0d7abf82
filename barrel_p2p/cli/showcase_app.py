"""What each node of the demo runs: a server that opens services and calls them.

``barrel-p2p start --app barrel_p2p.cli.showcase_app:setup``. The node stops with its
stdin, so that it cannot outlive the demo.
"""

from __future__ import annotations

import asyncio
import time
from itertools import count
from typing import TYPE_CHECKING, Any, Final

from barrel_p2p.cli.tour_server import stop_with_stdin
from barrel_p2p.core.peers import NodeUp
from barrel_p2p.errors import NoLeader
from barrel_p2p.runtime.event_stream import Lagged
from barrel_p2p.runtime.server import GenServer
from barrel_p2p.runtime.verbs import call
from barrel_p2p.services.reminder_events import Reminder

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

    async def init(self) -> None:
        """It was told of no reminder yet."""
        self._reminded: list[dict[str, Any]] = []

    async def handle_info(self, msg: Any) -> None:
        """Note reminders; who leads is asked when it matters."""
        if isinstance(msg, Reminder):
            told = {"key": msg.key, "payload": msg.payload, "fence": msg.fence}
            self._reminded.append(told | {"at_ms": time.time_ns() // 1_000_000})

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

    # ---- state

    @call
    async def campaign(self, name: str) -> bool:
        """Stand for the leadership of ``name``; whether this node leads at once."""
        node: Node = self.node
        return (await node.lead(name)).leader

    @call
    async def standing(self, name: str) -> dict[str, Any]:
        """Who leads ``name``, as this node sees it, and its own fence if any."""
        node: Node = self.node
        try:
            leader, _ = node.leader(name)
        except NoLeader:
            return {"leader": None, "fence": None}
        fence = node.fence(name) if node.is_leader(name) else None
        return {"leader": leader, "fence": fence}

    @call
    async def listen_to_reminders(self) -> None:
        """Be told of what is due on this node."""
        await self.node.subscribe_reminders()

    @call
    async def own_key(self, prefix: str) -> str:
        """A key that is placed on this node."""
        node: Node = self.node
        return next(key for i in count() if node.is_owner(key := f"{prefix}-{i}"))

    @call
    async def remind(self, key: str, delay_ms: int, payload: str) -> int:
        """Arm a reminder; when it is due, in milliseconds of the wall clock."""
        at_ms = time.time_ns() // 1_000_000 + delay_ms
        await self.node.remind(key, at_ms, payload)
        return at_ms

    @call
    async def reminders_of(self, key: str) -> list[dict[str, Any]]:
        """What this node was reminded of ``key``, and when."""
        return [told for told in self._reminded if told["key"] == key]

    @call
    async def open_map(self, name: str) -> None:
        """Take part in a map that is kept on disk."""
        await self.node.new_map(name, persist=True)

    @call
    async def put(self, name: str, key: int, value: int) -> None:
        """Write to the map; it is on disk when this returns."""
        await self.node.map_put(name, key, value)

    @call
    async def total(self, name: str) -> tuple[int, int]:
        """How many entries this node has, and their sum."""
        entries = self.node.map_to_list(name)
        return len(entries), sum(value for _, value in entries)


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
