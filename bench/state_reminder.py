"""What reminders do: ``python -m bench.state_reminder`` prints four figures as JSON.

``remind_64_per_s`` counts reminders that one node has acknowledged, and so has on its
disk, to 64 tasks that set one after the other. The other three are of 5,000 reminders
on five nodes of one process, set on all of them and due in the course of ten seconds:
how late the 99th of 100 was told, how many were not, and how many twice.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from barrel_p2p import Node, run
from barrel_p2p.config import Config
from bench.harness import emit_json, percentile

__all__ = ["Told", "main", "remind_64_per_s", "reminders", "told_on_five"]

WRITERS: Final = 64
WRITE_S: Final = 3.0
NODES: Final = 5
REMINDERS: Final = 5_000
LEAD_S: Final = 6.0
SPREAD_S: Final = 10.0
_GRACE_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Told:
    """What became of reminders: in ms, and how many."""

    late_p99_ms: float
    missed: int
    duplicate: int


def reminders(quick: bool, directory: Path) -> dict[str, float | None]:
    """All figures of reminders, on the disk of ``directory``."""
    told = told_on_five(
        directory / "five",
        200 if quick else REMINDERS,
        lead_s=2.0 if quick else LEAD_S,
        spread_s=1.0 if quick else SPREAD_S,
    )
    per_s = remind_64_per_s(directory / "one", 0.2 if quick else WRITE_S)
    return {
        "remind_64_per_s": round(per_s),
        "reminder_late_p99_ms": round(told.late_p99_ms, 2),
        "reminders_missed": told.missed,
        "reminders_duplicate": told.duplicate,
    }


def remind_64_per_s(directory: Path, seconds: float = WRITE_S) -> float:
    """Reminders acknowledged in a second, with 64 of them under way."""
    return run(_set_many(directory, seconds))


def told_on_five(
    directory: Path,
    reminders: int = REMINDERS,
    *,
    lead_s: float = LEAD_S,
    spread_s: float = SPREAD_S,
) -> Told:
    """Set ``reminders`` on five nodes, and hear what is told.

    Args:
        directory: Where the nodes keep theirs.
        reminders: How many.
        lead_s: Seconds from the beginning to the first that is due.
        spread_s: Seconds from that to the last.
    """
    return run(_tell_many(directory, reminders, lead_s, spread_s))


def _node(directory: Path, number: int) -> Node:
    name = f"n{number}@127.0.0.1"
    config = Config.load(
        None,
        env={},
        node_name=name,
        data_dir=str(directory / name),
        discovery_dir=str(directory / "discovery"),
        dist_cookie="a cookie of the benchmark",
    )
    return Node(config=config)


async def _set_many(directory: Path, seconds: float) -> float:
    done = 0

    async def write(node: Node, writer: int) -> None:
        nonlocal done
        number = 0
        while time.perf_counter() < end:
            number += 1
            await node.remind_after((writer, number), 3_600_000, "payload")
            done += 1

    async with _node(directory, 0) as node:
        began = time.perf_counter()
        end = began + seconds
        await asyncio.gather(*(write(node, writer) for writer in range(WRITERS)))
        return done / (time.perf_counter() - began)


async def _tell_many(
    directory: Path, reminders: int, lead_s: float, spread_s: float
) -> Told:
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(_node(directory, number))
            for number in range(NODES)
        ]
        for one in nodes[1:]:
            await one.join(nodes[0])
        await _part_the_keys(nodes)
        late: list[float] = []
        told: Counter[Any] = Counter()

        async def hear(node: Node) -> None:
            async with node.reminders(maxsize=1 << 20) as stream:
                async for event in stream:
                    now_ms = time.time_ns() / 1e6
                    told[event.key] += 1  # type: ignore[union-attr]
                    late.append(now_ms - event.payload)  # type: ignore[union-attr]

        hearing = [asyncio.ensure_future(hear(node)) for node in nodes]
        first_ms = time.time_ns() // 1_000_000 + round(lead_s * 1_000)
        await _set(nodes, reminders, first_ms, round(spread_s * 1_000))
        end_ms = first_ms + (spread_s + _GRACE_S) * 1_000
        while time.time_ns() / 1e6 < end_ms and len(told) < reminders:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.0)  # A second telling would come soon after the first.
        for task in hearing:
            task.cancel()
        await asyncio.gather(*hearing, return_exceptions=True)
        twice = sum(times - 1 for times in told.values())
        return Told(percentile(late, 0.99), reminders - len(told), twice)


async def _part_the_keys(nodes: list[Node]) -> None:
    async with asyncio.timeout(30):
        owned: list[int] = []
        while sorted(owned) != list(range(64)):
            await asyncio.sleep(0.05)
            owned = [p for node in nodes for p in node.owned_partitions()]


async def _set(
    nodes: list[Node], reminders: int, first_ms: int, spread_ms: int
) -> None:
    async def write(writer: int) -> None:
        for number in range(writer, reminders, WRITERS):
            at_ms = first_ms + number * spread_ms // reminders
            await nodes[number % len(nodes)].remind(("job", number), at_ms, at_ms)

    await asyncio.gather(*(write(writer) for writer in range(WRITERS)))


def main() -> int:
    """Print one JSON object."""
    with tempfile.TemporaryDirectory() as directory:
        emit_json(reminders(False, Path(directory)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
