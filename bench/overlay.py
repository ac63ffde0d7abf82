"""The overlay on real processes: ``python -m bench.overlay [--json]``.

Nodes on loopback with their default settings, authentication on. Every figure is of
this run; what it is compared with runs in it too. ``--only`` takes parts of it.

- ``reg_visible``: from ``register_service`` to the event on each other node;
- ``bcast``: 100 byte broadcasts to 5 nodes, from the call to the reader;
- ``flood``: as many as ``broadcast`` lets through, beside TCP to each receiver;
- ``kill9``: SIGKILL of an idle node, until its neighbours and its services know;
- ``silent``: the same for a node that is stopped and so swallows packets;
- ``join20``: 20 nodes join one at once;
- ``churn``: services registered and taken back on one node;
- ``idle20``: what 20 nodes cost that do nothing;
- ``ormap``, ``dedup``: the data structures alone.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from bench import churn, dedup, ormap
from bench.fanout import fanout_per_s
from bench.harness import ForeignCpu, calib_ns, emit_json, percentile
from bench.overlay_cluster import Cluster
from bench.ratios import Bar

__all__ = ["BARS", "PARTS", "main"]

MS = 1e6
SIZE_BYTES = 100
FLOOD = 50_000
SEED = 1


def reg_visible(quick: bool) -> dict[str, float]:
    """Registration seen on 2 and on 5 nodes."""
    figures = {}
    for size in (2, 5):
        late = _late(size, 20 if quick else 1_000)
        figures[f"reg_visible_{size}_p50_ms"] = percentile(late, 0.50)
        figures[f"reg_visible_{size}_p99_ms"] = percentile(late, 0.99)
    return figures


def _late(size: int, count: int) -> list[float]:
    with Cluster(size) as cluster:
        owner = next(iter(cluster.nodes))
        cluster.ask(owner, "register", count=10, prefix="warm", gap_ms=5)
        told = cluster.ask(owner, "register", count=count, prefix="s", gap_ms=10)
        cluster.wait(lambda _: _all_seen(cluster, owner, count), "sight of all")
        return [
            (seen_ns - told["began_ns"][name]) / MS
            for node, seen in cluster.ask_all("seen", prefix="s").items()
            if node != owner
            for name, seen_ns in seen.items()
        ]


def _all_seen(cluster: Cluster, owner: str, count: int) -> bool:
    seen = cluster.ask_all("seen", prefix="s")
    return all(len(of) == count for node, of in seen.items() if node != owner)


def bcast(quick: bool) -> dict[str, float]:
    """Broadcasts at 500 and at 5,000 a second, to 5 nodes."""
    with Cluster(5) as cluster:
        slow = _broadcasts(cluster, 500 if quick else 15_000, 500)
        fast = _broadcasts(cluster, 2_000 if quick else 50_000, 5_000)
    return {
        "bcast_500_p50_ms": slow["p50_ms"],
        "bcast_500_p99_ms": slow["p99_ms"],
        "bcast_500_lost": slow["lost"],
        "bcast_5000_p99_ms": fast["p99_ms"],
        "bcast_5000_lost": fast["lost"],
    }


def flood(quick: bool) -> dict[str, float]:
    """A flood to 5 nodes, and the same bytes over TCP."""
    count = 5_000 if quick else FLOOD
    ours, theirs, lost = [], [], 0.0
    for _ in range(1 if quick else 3):
        with Cluster(5) as cluster:
            _broadcasts(cluster, 200, 500)
            figures = _broadcasts(cluster, count, 0)
        ours.append(figures["per_s"])
        lost += figures["lost"]
        theirs.append(fanout_per_s(4, count, SIZE_BYTES))
    return {
        "flood_deliveries_per_s": statistics.median(ours),
        "tcp_fanout_per_s": statistics.median(theirs),
        "flood_vs_tcp_fanout": statistics.median(ours) / statistics.median(theirs),
        "flood_lost": lost,
    }


def _broadcasts(cluster: Cluster, count: int, rate: float) -> dict[str, float]:
    origin, *others = cluster.nodes
    cluster.ask_all("forget")
    told = cluster.ask(origin, "broadcast", count=count, rate=rate)
    deadline = time.monotonic() + 60
    while True:
        reports = {name: cluster.ask(name, "report") for name in others}
        heard = sum(report["heard"] for report in reports.values())
        if heard == count * len(others) or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    last_ns = max(report["last_ns"] for report in reports.values())
    return {
        "lost": float(count * len(others) - heard),
        "per_s": heard / ((last_ns - told["began_ns"]) / 1e9),
        "p50_ms": statistics.median(report["p50_ms"] for report in reports.values()),
        "p99_ms": max(report["p99_ms"] for report in reports.values()),
    }


def kill9(quick: bool) -> dict[str, float]:
    """SIGKILL, seen by neighbours and in the registries of 5 nodes."""
    channels, services = [], []
    with Cluster(5) as cluster:
        victim = list(cluster.nodes)[-1]
        seed = next(iter(cluster.addresses.values()))
        for trial in range(2 if quick else 20):
            service = f"v{trial}-0"
            cluster.ask(victim, "register", count=1, prefix=f"v{trial}-", gap_ms=0)
            _wait_count(cluster, service, 1)
            neighbours = cluster.ask(victim, "views")["active"]
            # At any moment between two of its packets.
            time.sleep(random.Random(SEED + trial).uniform(0.0, 2.0))
            killed_ns = cluster.kill(victim)
            for name, ns in _gone(cluster, f"channel {victim}", killed_ns).items():
                if name in neighbours:
                    channels.append((ns - killed_ns) / MS)
            gone = _gone(cluster, service, killed_ns)
            services += [(ns - killed_ns) / MS for ns in gone.values()]
            cluster.start(victim)
            cluster.ask(victim, "join", ref=seed)
            cluster.wait_members(5)
    return {
        "kill9_neighbour_p50_ms": percentile(channels, 0.50),
        "kill9_neighbour_p99_ms": percentile(channels, 0.99),
        "kill9_services_gone_p99_ms": percentile(services, 0.99),
    }


def silent(quick: bool) -> dict[str, float]:
    """A node that swallows packets, until its services are gone everywhere."""
    late = []
    for trial in range(1 if quick else 5):
        with Cluster(5) as cluster:
            victim = list(cluster.nodes)[-1]
            cluster.ask(victim, "register", count=1, prefix="v", gap_ms=0)
            _wait_count(cluster, "v0", 1)
            time.sleep(random.Random(SEED + trial).uniform(0.0, 2.0))
            with cluster.frozen(victim) as frozen_ns:
                gone = _gone(cluster, "v0", frozen_ns)
                late += [(ns - frozen_ns) / MS for ns in gone.values()]
    return {"silent_host_p99_ms": percentile(late, 0.99)}


def _wait_count(cluster: Cluster, service: str, count: int) -> None:
    def there(_: Any) -> bool:
        found = cluster.ask_all("lookup", name=service)
        return all(answer["count"] == count for answer in found.values())

    cluster.wait(there, f"{service} everywhere")


def _gone(cluster: Cluster, what: str, since_ns: int) -> dict[str, int]:
    """When each node saw ``what`` go, once all have."""
    found: dict[str, int] = {}

    def all_gone(_: Any) -> bool:
        answers = cluster.ask_all("gone", name=what)
        found.update({name: int(answer["ns"]) for name, answer in answers.items()})
        return all(ns > since_ns for ns in found.values())

    if what.startswith("channel "):
        # Only those that had one; they are long done when the services are gone.
        time.sleep(4)
        all_gone(None)
        return {name: ns for name, ns in found.items() if ns > since_ns}
    cluster.wait(all_gone, f"end of {what}")
    return found


def join20(quick: bool) -> dict[str, float]:
    """Many nodes join one at once."""
    size = 8 if quick else 20
    with Cluster(size, join=False) as cluster:
        first, *others = cluster.nodes
        began_ns = max(cluster.listening_ns.values())
        for name in others:
            cluster.nodes[name].say({"do": "join", "ref": cluster.addresses[first]})
        for name in others:
            cluster.nodes[name].line()
        cluster.wait(lambda views: _is_connected(views), "single component")
        connected_ms = (time.monotonic_ns() - began_ns) / MS
        full = min(5, size - 1)
        cluster.wait(
            lambda views: all(len(v["active"]) >= full for v in views.values()),
            "full views",
        )
        full_ms = (time.monotonic_ns() - began_ns) / MS
        cluster.wait(lambda views: _oneway(views) == 0, "symmetric links")
        symmetric_ms = (time.monotonic_ns() - began_ns) / MS
        views = cluster.ask_all("views")
        cluster.ask_all("forget")
        chance = random.Random(SEED)
        broadcasts = 40
        for _ in range(broadcasts):
            cluster.ask(
                chance.choice(list(cluster.nodes)), "broadcast", count=1, rate=0
            )
        wanted = broadcasts * (size - 1)
        deadline = time.monotonic() + 10
        while True:
            reports = cluster.ask_all("report").values()
            heard = sum(report["heard"] for report in reports)
            if heard >= wanted or time.monotonic() > deadline:
                break
            time.sleep(0.1)
    return {
        "join20_connected_ms": connected_ms,
        "join20_full_views_ms": full_ms,
        "join20_symmetric_ms": symmetric_ms,
        "join20_oneway_links": float(_oneway(views)),
        "join20_bcast_lost": float(wanted - heard),
    }


def _is_connected(views: dict[str, Any]) -> bool:
    reached = {next(iter(views))}
    frontier = list(reached)
    while frontier:
        for peer in views[frontier.pop()]["active"]:
            if peer in views and peer not in reached:
                reached.add(peer)
                frontier.append(peer)
    return len(reached) == len(views)


def _oneway(views: dict[str, Any]) -> int:
    return sum(
        name not in views[peer]["active"]
        for name, view in views.items()
        for peer in view["active"]
    )


def idle20(quick: bool) -> dict[str, float]:
    """What nodes cost that have nothing to do."""
    with Cluster(8 if quick else 20) as cluster:
        time.sleep(2 if quick else 10)  # Timers of the start are over.
        before = cluster.ask_all("usage")
        time.sleep(3 if quick else 30)
        after = cluster.ask_all("usage")
    shares = [
        100
        * (after[name]["cpu_s"] - before[name]["cpu_s"])
        / ((after[name]["ns"] - before[name]["ns"]) / 1e9)
        for name in after
    ]
    return {
        "idle20_cpu_pct_median": statistics.median(shares),
        "idle20_cpu_pct_max": max(shares),
        "idle20_rss_mb_median": statistics.median(
            answer["rss"] / 2**20 for answer in after.values()
        ),
    }


PARTS: dict[str, Callable[[bool], dict[str, float]]] = {
    "reg_visible": reg_visible,
    "bcast": bcast,
    "flood": flood,
    "kill9": kill9,
    "silent": silent,
    "join20": join20,
    "churn": lambda quick: churn.measure(cycles=2_000 if quick else 200_000),
    "idle20": idle20,
    "ormap": lambda quick: ormap.measure(keys=2_000 if quick else 100_000),
    "dedup": lambda quick: dedup.measure(ids=20_000 if quick else 1_000_000),
}


BARS = (
    Bar("reg_visible_2_p50_ms", False, None, 1.3),
    Bar("reg_visible_2_p99_ms", False, None, 2.2),
    Bar("reg_visible_5_p50_ms", False, None, 4.1),
    Bar("reg_visible_5_p99_ms", False, None, 8.0),
    Bar("bcast_500_p99_ms", False, None, 3.0),
    Bar("bcast_500_lost", False, None, 0.0),
    Bar("bcast_5000_lost", False, None, 0.0),
    Bar("flood_vs_tcp_fanout", True, None, 0.4),
    Bar("flood_lost", False, None, 0.0),
    Bar("kill9_neighbour_p99_ms", False, None, 2_000.0),
    Bar("kill9_services_gone_p99_ms", False, None, 3_000.0),
    Bar("silent_host_p99_ms", False, None, 6_500.0),
    Bar("join20_full_views_ms", False, None, 5_000.0),
    Bar("join20_oneway_links", False, None, 0.0),
    Bar("join20_bcast_lost", False, None, 0.0),
    Bar("churn_tail_vs_head", True, None, 0.8),
    Bar("idle20_cpu_pct_max", False, None, 1.5),
    Bar("idle20_rss_mb_median", False, None, 60.0),
    Bar("ormap_delta_100k_us", False, None, 20.0),
    Bar("ormap_merge_100k_vs_dict_loop", True, None, 1.0),
    Bar("dedup_vs_ttlcache", True, None, 3.0),
    Bar("dedup_memory_vs_ttlcache", False, None, 1 / 3),
)
"""Limits for any single run; some are absolute, so they hold for the machine of CI."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for and print it."""
    parser = argparse.ArgumentParser(prog="bench.overlay", description=__doc__)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--quick", action="store_true", help="small sizes: for tests")
    parser.add_argument("--only", default=",".join(PARTS), help=",".join(PARTS))
    args = parser.parse_args(argv)
    wanted = args.only.split(",")
    unknown = [name for name in wanted if name not in PARTS]
    if unknown:
        parser.error(f"--only {','.join(unknown)}: choose from {','.join(PARTS)}")
    result: dict[str, Any] = {"bench": "overlay", "quick": args.quick}
    result["calib"] = calib_ns()
    with ForeignCpu() as foreign:
        for name in wanted:
            sys.stderr.write(f"{name}\n")
            result |= PARTS[name](args.quick)
    result["foreign_cpu"] = foreign.cores
    result["missed"] = [
        f"{bar.key} {bar.comparison} {bar.single_run:g}: {result[bar.key]:.3g}"
        for bar in BARS
        if bar.key in result
        and bar.single_run is not None
        and not bar.is_met(result[bar.key], bar.single_run)
    ]
    if args.json:
        emit_json(result)
    else:
        for key, value in result.items():
            print(f"{key:32} {value}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
