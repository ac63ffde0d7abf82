"""One node of a measured cluster, told what to do by lines on its stdin.

``python -m bench.overlay_node <name> <directory> [key=value ...]``. Answers each
command with one JSON line. Times are ``time.monotonic_ns``, which all processes of a
machine share. Imports nothing of the benchmark, whose memory is not the node's.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import sys
import time
from pathlib import Path
from typing import Any

from barrel_p2p import (
    Elected,
    Lagged,
    MemberDead,
    Node,
    NodeDown,
    NoLeader,
    Process,
    run,
)

__all__ = ["TOPIC", "main"]

TOPIC = "bench"
PADDING = b"x" * 76
"""With a number and a time, 100 bytes as a term."""
QUEUE_MAX = 1 << 20
STATM = Path("/proc/self/statm")


class Measured:
    """The node, and what it has seen."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.heard = 0
        self.late_ns: list[int] = []
        self.last_ns = 0
        self.seen_ns: dict[str, int] = {}
        self.gone_ns: dict[str, int] = {}
        self.elected_ns: dict[str, tuple[int, int]] = {}
        self.lagged = 0
        self._tasks = [
            asyncio.create_task(self._hear()),
            *(
                [asyncio.create_task(self._watch_services())]
                if hasattr(node, "service_events")
                else []
            ),
            asyncio.create_task(self._watch_nodes()),
            asyncio.create_task(self._watch_leaders()),
        ]

    async def _hear(self) -> None:
        async with self.node.broadcasts(TOPIC, maxsize=QUEUE_MAX) as told:
            async for event in told:
                now_ns = time.monotonic_ns()
                if isinstance(event, Lagged):
                    self.lagged += event.missed
                elif not event.own:
                    self.heard += 1
                    self.late_ns.append(now_ns - event.payload[1])
                    self.last_ns = now_ns

    async def _watch_services(self) -> None:
        async with self.node.service_events(maxsize=QUEUE_MAX) as told:
            async for event in told:
                if isinstance(event, Lagged):
                    self.lagged += event.missed
                elif type(event).__name__ == "ServiceRegistered":
                    self.seen_ns[str(event.name)] = time.monotonic_ns()
                else:
                    self.gone_ns[str(event.name)] = time.monotonic_ns()

    async def _watch_nodes(self) -> None:
        async with self.node.events(maxsize=QUEUE_MAX) as told:
            async for event in told:
                if isinstance(event, NodeDown):
                    self.gone_ns[f"channel {event.node}"] = time.monotonic_ns()
                elif isinstance(event, MemberDead):
                    self.gone_ns[f"member {event.node}"] = time.monotonic_ns()

    async def _watch_leaders(self) -> None:
        async with self.node.leader_events(maxsize=QUEUE_MAX) as told:
            async for event in told:
                if isinstance(event, Elected):
                    now_ns = time.monotonic_ns()
                    self.elected_ns[str(event.name)] = now_ns, event.fence

    # ---- commands

    async def join(self, ref: str) -> dict[str, Any]:
        """Join, as often as it takes."""
        began_ns = time.monotonic_ns()
        await self.node.join(ref, timeout=60)
        return {"ms": (time.monotonic_ns() - began_ns) / 1e6}

    async def views(self) -> dict[str, Any]:
        """Peers, members and channels."""
        return {
            "active": self.node.active_view(),
            "members": len(self.node.members()),
            "channels": len(self.node.nodes()),
        }

    async def forget(self) -> dict[str, Any]:
        """Start counting broadcasts anew."""
        self.heard = self.last_ns = self.lagged = 0
        self.late_ns = []
        return {}

    async def report(self) -> dict[str, Any]:
        """What was heard since ``forget``."""
        late = sorted(self.late_ns) or [0]
        return {
            "heard": self.heard,
            "lagged": self.lagged,
            "last_ns": self.last_ns,
            "p50_ms": late[len(late) // 2] / 1e6,
            "p99_ms": late[-1 - len(late) // 100] / 1e6,
            "stats": self.node.broadcast_stats(),
        }

    async def broadcast(self, count: int, rate: float) -> dict[str, Any]:
        """Broadcast, ``rate`` a second; 0 for as fast as it is let."""
        began_ns = time.monotonic_ns()
        loop = asyncio.get_running_loop()
        began = loop.time()
        for number in range(count):
            if rate:
                ahead = began + number / rate - loop.time()
                if ahead > 0:
                    await asyncio.sleep(ahead)
            await self.node.broadcast(TOPIC, (number, time.monotonic_ns(), PADDING))
        return {"began_ns": began_ns, "ended_ns": time.monotonic_ns()}

    async def register(self, count: int, prefix: str, gap_ms: float) -> dict[str, Any]:
        """Register services one by one; when each registration began."""
        began: dict[str, int] = {}
        for number in range(count):
            pid = self.node.spawn(_idle)
            name = f"{prefix}{number}"
            began[name] = time.monotonic_ns()
            await self.node.register_service(name, pid)
            if gap_ms:
                # Neither too regular for the peers' timers nor all at once.
                await asyncio.sleep(gap_ms * random.uniform(0.5, 1.5) / 1_000)
        return {"began_ns": began}

    async def seen(self, prefix: str) -> dict[str, Any]:
        """When services were seen first."""
        return {k: v for k, v in self.seen_ns.items() if k.startswith(prefix)}

    async def gone(self, name: str) -> dict[str, Any]:
        """When something was seen to go, or 0."""
        return {"ns": self.gone_ns.get(name, 0)}

    async def stand(self, what: str, priority: int) -> dict[str, Any]:
        """Start a candidate."""
        pid = self.node.spawn(_candidate)
        role = await self.node.lead(what, pid=pid, priority=priority)
        return {"leads": role.leader}

    async def leads(self, what: str) -> dict[str, Any]:
        """Who leads, as far as is known, and the greatest fence."""
        try:
            node = self.node.leader(what)[0]
        except NoLeader:
            node = ""
        return {"node": node, "fence": self.node.high_water(what) or 0}

    async def elected(self, what: str) -> dict[str, Any]:
        """When this node's candidate was elected last, and with which fence."""
        ns, fence = self.elected_ns.get(what, (0, 0))
        return {"ns": ns, "fence": fence}

    async def lookup(self, name: str) -> dict[str, Any]:
        """How many instances of a service there are."""
        return {"count": len(self.node.lookup(name))}

    async def open_map(self, of: str) -> dict[str, Any]:
        """Open a map, and note when its keys are seen first."""
        changes = (await self.node.new_map(of)).changes(maxsize=QUEUE_MAX)
        self._tasks.append(asyncio.create_task(self._watch_map(changes)))
        return {}

    async def _watch_map(self, changes: Any) -> None:
        async for event in changes:
            if isinstance(event, Lagged):
                self.lagged += event.missed
            else:
                self.seen_ns[str(event.key)] = time.monotonic_ns()

    async def put(
        self, of: str, count: int, prefix: str, gap_ms: float
    ) -> dict[str, Any]:
        """Write keys one by one; when each write began."""
        made = self.node.map(of)
        began: dict[str, int] = {}
        for number in range(count):
            began[f"{prefix}{number}"] = time.monotonic_ns()
            await made.put(f"{prefix}{number}", number)
            await asyncio.sleep(gap_ms * random.uniform(0.5, 1.5) / 1_000)
        return {"began_ns": began}

    async def usage(self) -> dict[str, Any]:
        """CPU seconds so far, and resident memory."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "cpu_s": used.ru_utime + used.ru_stime,
            "rss": _rss_bytes(),
            "ns": time.monotonic_ns(),
        }


def _rss_bytes() -> int:
    return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def _idle(process: Process) -> None:
    await process.receive()


async def _candidate(process: Process) -> None:
    async for _ in process:
        pass


async def _serve(name: str, directory: str, settings: dict[str, Any]) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    async with Node(
        name, data_dir=directory, discovery_backends=(), **settings
    ) as node:
        measured = Measured(node)
        _say({"address": str(node.address), "listening_ns": time.monotonic_ns()})
        while line := await reader.readline():
            wanted = json.loads(line)
            command = getattr(measured, wanted.pop("do"))
            _say(await command(**wanted))


def _say(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def main(argv: list[str]) -> None:
    """Serve until stdin ends."""
    name, directory, *settings = argv
    pairs = (text.split("=", 1) for text in settings)
    run(_serve(name, directory, {key: json.loads(value) for key, value in pairs}))


if __name__ == "__main__":
    main(sys.argv[1:])
