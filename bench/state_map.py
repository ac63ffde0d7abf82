"""How fast replicated maps are: ``python -m bench.state_map`` prints it.

- ``map_get_vs_dict``: ``Node.map_get`` a second, beside a dict looked up through a
  method, in turns on the same key;
- ``map_put_per_s``: writes to a map in memory, of 20,000 keys, by one writer who waits
  for each;
- ``map_put_same_key_tail_vs_head``: the same to one key: the rate after 100,000
  writes, beside that at first, both the median of 3 times 10,000 writes;
- ``map_visible_5``: from a write on one of 5 nodes, each a process, to the event on
  each of the others.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from barrel_p2p import Node, run
from barrel_p2p.config import Config
from barrel_p2p.services.replicated_map import ReplicatedMap
from bench.harness import emit_json, percentile
from bench.overlay_cluster import Cluster

__all__ = ["local", "main", "map_figures", "visible"]

KEYS: Final = 20_000
PART: Final = 10_000
PARTS: Final = 13
ENDS: Final = 3
READS: Final = 200_000
TURNS: Final = 9
MS: Final = 1e6
MAP: Final = "m"


class _Dict:
    """A dict behind a method, which is what a read is compared with."""

    def __init__(self, entries: dict[Any, Any]) -> None:
        self._entries = entries

    def get(self, key: Any, default: Any = None) -> Any:
        return self._entries.get(key, default)


def map_figures(quick: bool, directory: Path) -> dict[str, float]:
    """All figures of maps in memory.

    Args:
        quick: Measure a tenth of it.
        directory: For what a node keeps.
    """
    return {**local(directory, quick=quick), **visible(50 if quick else 1_000)}


def local(directory: Path, *, quick: bool = False) -> dict[str, float]:
    """What one node does alone."""
    return run(_local(directory, 10 if quick else 1))


def visible(count: int) -> dict[str, float]:
    """How soon the others see a write.

    Args:
        count: Writes that are measured.
    """
    late: list[float] = []
    with Cluster(5) as cluster:
        owner = next(iter(cluster.nodes))
        cluster.ask_all("open_map", of=MAP)
        for prefix, writes in (("warm", 20), ("k", count)):
            told = cluster.ask(
                owner, "put", of=MAP, count=writes, prefix=prefix, gap_ms=10
            )
            cluster.wait(_all_saw(cluster, owner, prefix, writes), "sight of all")
        for node, seen in cluster.ask_all("seen", prefix="k").items():
            if node != owner:
                began_ns = told["began_ns"]
                late += [(ns - began_ns[key]) / MS for key, ns in seen.items()]
    return {
        "map_visible_5_p50_ms": percentile(late, 0.50),
        "map_visible_5_p99_ms": percentile(late, 0.99),
    }


def _all_saw(
    cluster: Cluster, owner: str, prefix: str, count: int
) -> Callable[[object], bool]:
    def all_saw(_: object) -> bool:
        seen = cluster.ask_all("seen", prefix=prefix)
        return all(len(of) == count for node, of in seen.items() if node != owner)

    return all_saw


async def _local(directory: Path, less: int) -> dict[str, float]:
    config = Config.load(
        None,
        env={},
        data_dir=str(directory / "node"),
        discovery_backends=(),
        dist_cookie="a cookie of the benchmark",
    )
    async with Node("n0@127.0.0.1", config) as node:
        made = await node.new_map(MAP)
        puts = [await _puts(made, list(range(KEYS // less))) for _ in range(TURNS)]
        one = await node.new_map("one")
        same = [await _puts(one, [0] * (PART // less)) for _ in range(PARTS)]
        return {
            "map_get_vs_dict": _reads(node, made, READS // less),
            "map_put_per_s": statistics.median(puts),
            "map_put_same_key_tail_vs_head": (
                statistics.median(same[-ENDS:]) / statistics.median(same[:ENDS])
            ),
        }


async def _puts(made: ReplicatedMap[Any, Any], keys: list[int]) -> float:
    """Writes in a second."""
    started = time.perf_counter()
    for number, key in enumerate(keys):
        await made.put(key, number)
    took = time.perf_counter() - started
    await asyncio.sleep(0.05)  # Gossip has its turn outside of what is measured.
    return len(keys) / took


def _reads(node: Node, made: ReplicatedMap[Any, Any], count: int) -> float:
    plain = _Dict(dict(made.items()))
    get = node.map_get
    ratios = []
    for _ in range(TURNS):
        started = time.perf_counter()
        for _ in range(count):
            plain.get(7)
        between = time.perf_counter()
        for _ in range(count):
            get(MAP, 7)
        ratios.append((between - started) / (time.perf_counter() - between))
    return statistics.median(ratios)


def main() -> int:
    """Print one JSON object."""
    with tempfile.TemporaryDirectory() as directory:
        figures = map_figures(quick=False, directory=Path(directory))
    emit_json({name: round(value, 3) for name, value in figures.items()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
