"""What merging costs: ``python -m bench.ormap`` prints the figures as one JSON object.

The yardstick is the least that Python could do: a loop over a dict of (stamp, node)
pairs that keeps the greater and lists the keys that changed. It keeps no values and no
digests. Both merge the same 100,000 entries in turns: into nothing, as on a first sync,
into older entries, and into the very same, as when gossip repeats itself. Of each the
fastest turn counts, and the three times are added.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from collections.abc import Callable
from functools import partial

from barrel_p2p.core.hlc import HLC, Timestamp
from barrel_p2p.ormap import Delta, Entry, OrMap
from barrel_p2p.wire.terms import key_bytes

__all__ = ["Pairs", "a_map", "delta_of", "dict_loop", "main", "measure", "pairs_of"]

KEYS = 100_000
NODE = "b@host"
BASE_MS = 1_700_000_000_000
CALLS = 2_000
TURNS = 7

type Pairs = dict[bytes, tuple[Timestamp, str]]


def delta_of(keys: int, *, later_ms: int = 0) -> Delta:
    """``keys`` entries as a peer's deltas bring them: new objects, not hashed yet."""
    delta: Delta = {}
    for i in range(keys):
        key = ("service", i)
        stamp = Timestamp(BASE_MS + i // 100 + later_ms, i % 100)
        delta[key_bytes(key)] = Entry(key, stamp, NODE, i)
    return delta


def pairs_of(delta: Delta) -> Pairs:
    """The same for the loop."""
    return {name: (entry.stamp, entry.node) for name, entry in delta.items()}


def dict_loop(mine: Pairs, delta: Pairs) -> list[bytes]:
    """Merge as a plain dict does it; return the keys that changed."""
    changed = []
    for name, theirs in delta.items():
        known = mine.get(name)
        if known is None or theirs > known:
            mine[name] = theirs
            changed.append(name)
    return changed


def a_map(*deltas: Delta) -> OrMap:
    """A map that has merged ``deltas``."""
    ormap = OrMap("a@host", HLC())
    for delta in deltas:
        ormap.merge(delta)
    return ormap


def measure(*, keys: int = KEYS, turns: int = TURNS) -> dict[str, float]:
    """Return what one key costs in a full map, and how a full merge compares.

    Args:
        keys: Entries of the map, at least 1.
        turns: How often each merge is timed, at least 1.

    Returns:
        ``ormap_delta_100k_us``, microseconds of a merge of one changed key, and
        ``ormap_merge_100k_vs_dict_loop``, how many times as fast as the loop the three
        merges of everything are; with milliseconds of each for both.
    """
    figures = {"ormap_delta_100k_us": _delta_us(keys, turns)}
    ours_s = loop_s = 0.0
    for known in ("nothing", "older", "same"):
        ours, loop = _into(keys, turns, known)
        figures[f"ormap_merge_into_{known}_ms"] = ours * 1e3
        figures[f"dict_loop_into_{known}_ms"] = loop * 1e3
        ours_s, loop_s = ours_s + ours, loop_s + loop
    figures["ormap_merge_100k_vs_dict_loop"] = loop_s / ours_s
    return figures


def _delta_us(keys: int, turns: int) -> float:
    ormap = a_map(delta_of(keys))
    (name, last), *_ = reversed(ormap.snapshot().items())
    taken_us = []
    for turn in range(turns):
        deltas: list[Delta] = [
            {name: Entry(last.key, Timestamp(BASE_MS * 2 + turn, i), NODE, i)}
            for i in range(CALLS)
        ]
        started_s = time.perf_counter()
        for delta in deltas:
            ormap.merge(delta)
        taken_us.append((time.perf_counter() - started_s) * 1e6 / CALLS)
    return statistics.median(taken_us)


def _into(keys: int, turns: int, known: str) -> tuple[float, float]:
    """Seconds of our merge and of the loop's into a map that knows so much."""
    ours, loop = [], []
    for _ in range(turns):
        older, delta = delta_of(keys), delta_of(keys, later_ms=1)
        here: Delta = {"nothing": {}, "older": older, "same": delta}[known]
        ormap, mine = a_map(here), dict(pairs_of(here))
        pairs = pairs_of(delta)
        ours.append(_timed(partial(ormap.merge, delta)))
        loop.append(_timed(partial(dict_loop, mine, pairs)))
        assert len(ormap) == len(mine) == keys
    return min(ours), min(loop)


def _timed(call: Callable[[], object]) -> float:
    # A collection in the middle would be charged to whoever happens to run.
    gc.collect()
    gc.disable()
    try:
        started_s = time.perf_counter()
        call()
        return time.perf_counter() - started_s
    finally:
        gc.enable()


def main() -> None:
    """Print the figures as one JSON object."""
    print(json.dumps({name: round(v, 3) for name, v in measure().items()}))


if __name__ == "__main__":
    main()
