"""The table of seen ids beside cachetools' TTLCache: ``python -m bench.dedup``.

Both are given the same fresh ids and are filled to their end, then given as many again,
so that each id pushes an old one out: a node's life under load. Both drop ids by age
and by count. Ours is asked with the time, theirs reads a clock itself; that clock is a
constant here, which flatters it. The turns of the two are interleaved.

Memory is measured with nothing else alive: what ``tracemalloc`` saw for theirs, ids
included, since it keeps the objects; for ours the bytes that the table has allocated,
which hold the ids.
"""

from __future__ import annotations

import gc
import json
import secrets
import statistics
import time
import tracemalloc
from collections.abc import Callable, MutableMapping

from barrel_p2p.broadcast.dedup import ID_BYTES, SeenIds

try:
    import cachetools
except ModuleNotFoundError:  # `make bench` installs it, `make setup` does not.
    cachetools = None

__all__ = ["HAS_PEER", "measure"]

HAS_PEER = cachetools is not None
IDS = 1_000_000
TTL_MS = 300_000
REPEATS = 3


def measure(*, ids: int = IDS, repeats: int = REPEATS) -> dict[str, float]:
    """Return what an id costs in each table, and the ratios.

    Args:
        ids: Ids that each table holds, at least 1.
        repeats: Timed runs of each, at least 1.

    Returns:
        ``dedup_ids_per_s``, ``ttlcache_ids_per_s``, ``dedup_vs_ttlcache`` (how many
        times faster ours is), ``dedup_bytes_per_id``, ``ttlcache_bytes_per_id``,
        ``dedup_memory_vs_ttlcache`` (ours by theirs); ours alone without cachetools.
    """
    first, second = _ids(ids), _ids(ids)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(repeats):
        ours.append(_fill_ours(ids, first, second))
        if cachetools is not None:
            theirs.append(_fill_theirs(ids, first, second))
    figures = {
        "dedup_ids_per_s": 2 * ids / statistics.median(ours),
        "dedup_bytes_per_id": _our_bytes(ids, first),
    }
    if cachetools is None:
        return figures
    ratios = [t / o for o, t in zip(ours, theirs, strict=True)]
    their_bytes = _their_bytes(ids)
    return figures | {
        "ttlcache_ids_per_s": 2 * ids / statistics.median(theirs),
        "dedup_vs_ttlcache": statistics.median(ratios),
        "ttlcache_bytes_per_id": their_bytes,
        "dedup_memory_vs_ttlcache": figures["dedup_bytes_per_id"] / their_bytes,
    }


def _ids(count: int) -> list[bytes]:
    return [secrets.token_bytes(ID_BYTES) for _ in range(count)]


def _our_table(ids: int) -> SeenIds:
    return SeenIds(ids, ttl_ms=TTL_MS, key=secrets.randbits(128))


def _their_table(ids: int) -> MutableMapping[bytes, bool]:
    table: MutableMapping[bytes, bool] = cachetools.TTLCache(
        maxsize=ids, ttl=TTL_MS / 1_000, timer=lambda: 0.0
    )
    return table


def _fill_ours(ids: int, first: list[bytes], second: list[bytes]) -> float:
    add = _our_table(ids).add

    def fill() -> None:
        for some in (first, second):
            for one in some:
                assert add(one, 0)

    return _timed(fill)


def _fill_theirs(ids: int, first: list[bytes], second: list[bytes]) -> float:
    table = _their_table(ids)

    def fill() -> None:
        for some in (first, second):
            for one in some:
                assert one not in table
                table[one] = True

    return _timed(fill)


def _timed(work: Callable[[], None]) -> float:
    gc.collect()
    gc.disable()
    try:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin
    finally:
        gc.enable()


def _our_bytes(ids: int, first: list[bytes]) -> float:
    table = _our_table(ids)
    for one in first:
        table.add(one, 0)
    return table.held_bytes / ids


def _their_bytes(ids: int) -> float:
    gc.collect()
    tracemalloc.start()
    try:
        table = _their_table(ids)
        for _ in range(ids):
            table[secrets.token_bytes(ID_BYTES)] = True
        held, _ = tracemalloc.get_traced_memory()
        return held / ids
    finally:
        tracemalloc.stop()


def main() -> None:
    """Print the figures as one JSON object."""
    print(json.dumps({name: round(value, 3) for name, value in measure().items()}))


if __name__ == "__main__":
    main()
