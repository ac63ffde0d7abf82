"""How fast a node says whose a key is: ``python -m bench.state_shard`` prints it.

The question is asked as an application asks it, by ``Node.place``, on a node that knows
100 members. Half of the keys are text and half are tuples; of several turns the median
counts.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from barrel_p2p.config import Config
from barrel_p2p.core.members import MemberUp
from barrel_p2p.node.node import Node
from bench.harness import emit_json

__all__ = ["main", "place_100_members_per_s", "placement"]

MEMBERS: Final = 100
KEYS: Final = 20_000
TURNS: Final = 15


def placement(quick: bool, directory: Path) -> dict[str, float | None]:
    """All figures of placement. There is nothing that could be quicker."""
    return {"place_100_members_per_s": round(place_100_members_per_s(directory))}


def place_100_members_per_s(directory: Path) -> float:
    """Keys placed in a second, on a node with 100 members and its ring at hand."""
    return asyncio.run(_measure(directory))


async def _measure(directory: Path) -> float:
    config = Config.load(
        None,
        env={},
        data_dir=str(directory / "node"),
        discovery_dir=str(directory / "discovery"),
        dist_cookie="a cookie of the benchmark",
    )
    async with Node("n0@127.0.0.1", config) as node:
        shards = node._overlay().shards
        for number in range(1, MEMBERS):
            shards.member_changed(MemberUp(f"n{number}@127.0.0.1", 1))
        await asyncio.sleep(0)  # What changed hands is told.
        keys: list[object] = [
            f"user:{i}" if i % 2 else ("user", i) for i in range(KEYS)
        ]
        if len({node.place(key) for key in keys}) < 40:
            raise AssertionError("64 partitions of 100 members have too few owners")
        return statistics.median(_turn(node, keys) for _ in range(TURNS))


def _turn(node: Node, keys: list[object]) -> float:
    place = node.place
    started = time.perf_counter()
    for key in keys:
        place(key)
    return KEYS / (time.perf_counter() - started)


def main() -> int:
    """Print one JSON object."""
    with tempfile.TemporaryDirectory() as directory:
        emit_json(placement(False, Path(directory)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
