"""C8 and C9: whose a key is, and what a wrong clock does to who counts."""

from __future__ import annotations

import os
import random
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final

from barrel_p2p.core.members import MemberDead
from barrel_p2p.core.rendezvous import Ring
from tests.faults.goals import Outcome
from tests.member_net import MemberNet, clock_warnings, names
from tests.shard_net import OVERLAP_MS_MAX, SIZE, ShardNet, living

__all__ = ["c8", "c9"]

NODES: Final = 8
SHARE_MAX: Final = 1.35
SEEDS: Final = 20
SEEDS_DEEP: Final = 500
_SETTLED_MS: Final = 12_000
_MANY: Final = 128 * NODES  # Partitions at which chance is even enough.


def c8(deep: bool, directory: Path) -> Outcome:
    """Placement: one owner each, only what has to moves, the same everywhere."""
    seeds = range(1, (SEEDS_DEEP if deep else SEEDS) + 1)
    overlap_ms = max(_churned(seed) for seed in seeds)
    clusters = [_names(seed) for seed in seeds]
    astray = sum(_moved_astray(names) for names in clusters)
    elsewhere = sum(not _same_elsewhere(clusters[0], seed) for seed in ("0", "1", "7"))
    small = statistics.median(_share(SIZE, names) for names in clusters)
    large = max(_share(_MANY, names) for names in clusters)
    return Outcome(
        figure=overlap_ms,
        target=f"two owners for <= {OVERLAP_MS_MAX} ms; moved without need: 0;"
        f" other owners elsewhere: 0; share <= {SHARE_MAX} of the mean at 128"
        " partitions a node",
        n=len(seeds),
        passed=overlap_ms <= OVERLAP_MS_MAX
        and not astray
        and not elsewhere
        and large <= SHARE_MAX,
        note=f"moved without need: {astray}, other owners elsewhere: {elsewhere},"
        f" largest share at {_MANY} partitions {large:.2f}, median at {SIZE}"
        f" partitions {small:.2f}",
    )


def c9(deep: bool, directory: Path) -> Outcome:
    """Leases: who is slow or has a slow clock stays, who is an hour ahead is named."""
    seeds = range(1, (SEEDS_DEEP if deep else SEEDS) + 1)
    swept = sum(_swept(seed) for seed in seeds)
    unnamed = sum(not _named(seed) for seed in seeds)
    return Outcome(
        figure=swept + unnamed,
        target="members swept for being 4 s slow: 0; clocks 1 h ahead not named: 0",
        n=len(seeds),
        passed=not swept and not unnamed,
        note=f"swept: {swept}, not named: {unnamed}",
    )


def _churned(seed: int) -> int:
    """Kill one, let one come, let one stand still: how long two own a partition."""
    net = ShardNet(NODES, seed)
    net.run(_SETTLED_MS)
    net.kill("n03@h")
    net.run(_SETTLED_MS)
    net.start("n99@h", 1)
    net.link("n99@h", "n00@h")
    net.link("n99@h", "n06@h")
    net.run(_SETTLED_MS)
    net.stop("n05@h", 9_000 + seed % 7 * 500)
    net.run(3 * _SETTLED_MS)
    net.need_one_owner_each(living(net))
    return net.overlap_ms()


def _names(seed: int) -> list[str]:
    rng = random.Random(seed)
    return [f"n{rng.randrange(10**9)}@h{rng.randrange(99)}" for _ in range(NODES)]


def _moved_astray(nodes: list[str]) -> int:
    """Partitions that move although the node that leaves did not own them."""
    astray = 0
    for gone in nodes:
        ring = Ring(SIZE, nodes)
        before = list(ring.owners)
        ring.remove(gone)
        after = Ring(SIZE, [node for node in nodes if node != gone]).owners
        astray += sum(
            before[p] != after[p] and before[p] != gone for p in range(SIZE)
        ) + (ring.owners != after)
    return astray


def _share(ring_size: int, nodes: list[str]) -> float:
    owned = Counter(Ring(ring_size, nodes).owners)
    return max(owned.values()) / (ring_size / len(nodes))


def _same_elsewhere(nodes: list[str], hash_seed: str) -> bool:
    script = (
        "from barrel_p2p.core.rendezvous import Ring;"
        f"print(*Ring({SIZE}, set({nodes!r})).owners)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split() == Ring(SIZE, nodes).owners


def _swept(seed: int) -> int:
    """Nodes that are declared dead although they only answer 4 s late, or whose
    clocks are 4 s behind.
    """
    net = MemberNet(6, seed)
    net.nodes["n02@h"].wall_offset_ms = -4_000
    net.run(_SETTLED_MS)
    net.stop("n04@h", 4_000)
    net.run(2 * _SETTLED_MS)
    told = [
        node.told(MemberDead, name) for node in net.nodes.values() for name in names(6)
    ]
    return sum(map(len, told))


def _named(seed: int) -> bool:
    """Whether all neighbours of a node that is an hour ahead say so, and refuse it."""
    net = MemberNet(6, seed)
    net.nodes["n02@h"].wall_offset_ms = 3_600_000
    net.run(2 * _SETTLED_MS)
    others = [name for name in names(6) if name != "n02@h"]
    neighbours = [other for one, other in net.channels if one == "n02@h"]
    named = all(
        {event.node for event in clock_warnings(net.nodes[name])} == {"n02@h"}
        for name in neighbours
    )
    refused = all("n02@h" not in known for known in net.agreed(others))
    return named and refused and bool(neighbours)
