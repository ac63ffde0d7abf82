"""How soon another node leads: ``python -m bench.state_failover`` prints it.

Five nodes, each a process, with their default settings. The one of the greatest
priority leads, and

- ``failover_kill9``: is killed with SIGKILL at any moment between two of its packets;
- ``failover_silent``: is stopped, so that its port still swallows datagrams;

until ``Elected`` is told on another node. The killed one is started again, the stopped
one goes on, and both lead again before the next trial. Every fence has to be greater
than the one before it.
"""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path
from typing import Any, Final

from bench.child import ChildFailed
from bench.harness import emit_json, percentile
from bench.overlay_cluster import Cluster

__all__ = ["failover_figures", "killed", "main", "silent"]

NODES: Final = 5
NAME: Final = "bench"
KILLS: Final = 30
STOPS: Final = 12
SEED: Final = 1
MS: Final = 1e6
LOOK_EVERY_S: Final = 0.05
WAIT_S_MAX: Final = 60.0


def failover_figures(
    quick: bool = False, directory: Path | None = None
) -> dict[str, float]:
    """Both figures, over all trials.

    Args:
        quick: Few trials, for tests.
        directory: Not needed: nothing of it is on a disk that matters.

    Raises:
        ChildFailed: A node has failed, nobody led, or a fence was not greater.
    """
    kills, stops = killed(2 if quick else KILLS), silent(1 if quick else STOPS)
    return {
        "failover_kill9_p50_ms": percentile(kills, 0.50),
        "failover_kill9_p99_ms": percentile(kills, 0.99),
        "failover_silent_p50_ms": percentile(stops, 0.50),
        "failover_silent_p99_ms": percentile(stops, 0.99),
    }


def killed(count: int) -> list[float]:
    """Milliseconds from each SIGKILL of the leader until another one was told."""
    late = []
    with Cluster(NODES) as cluster:
        seed, victim = cluster.addresses["n0@127.0.0.1"], list(cluster.nodes)[-1]
        fence = _stand(cluster, victim)
        for trial in range(count):
            _rest(trial)
            killed_ns = cluster.kill(victim)
            told_ns, fence = _elected(cluster, killed_ns, fence)
            late.append((told_ns - killed_ns) / MS)
            cluster.start(victim)
            cluster.ask(victim, "join", ref=seed)
            cluster.wait_members(NODES)
            cluster.ask(victim, "stand", what=NAME, priority=1)
            fence = _leads(cluster, victim, fence)
    return late


def silent(count: int) -> list[float]:
    """The same from each SIGSTOP."""
    late = []
    with Cluster(NODES) as cluster:
        victim = list(cluster.nodes)[-1]
        fence = _stand(cluster, victim)
        for trial in range(count):
            _rest(trial)
            with cluster.frozen(victim) as stopped_ns:
                told_ns, fence = _elected(cluster, stopped_ns, fence)
                late.append((told_ns - stopped_ns) / MS)
            cluster.wait_members(NODES)
            fence = _leads(cluster, victim, fence)
    return late


def _rest(trial: int) -> None:
    time.sleep(random.Random(SEED + trial).uniform(1.0, 3.0))


def _stand(cluster: Cluster, victim: str) -> int:
    for name in cluster.nodes:
        cluster.ask(name, "stand", what=NAME, priority=int(name == victim))
    return _leads(cluster, victim, 0)


def _leads(cluster: Cluster, node: str, fence: int) -> int:
    """The fence of ``node``, once all know that it leads with a greater one."""

    def all_know(_: Any) -> bool:
        answers = list(cluster.ask_all("leads", what=NAME).values())
        fences = {answer["fence"] for answer in answers}
        return (
            all(answer["node"] == node for answer in answers)
            and len(fences) == 1
            and min(fences) > fence
        )

    cluster.wait(all_know, f"{node} as the leader")
    return int(cluster.ask(node, "leads", what=NAME)["fence"])


def _elected(cluster: Cluster, since_ns: int, fence: int) -> tuple[int, int]:
    """When a node was told since then that it leads, and with which fence."""
    deadline = time.monotonic() + WAIT_S_MAX
    while True:
        answers = cluster.ask_all("elected", what=NAME).values()
        told = [(int(a["ns"]), int(a["fence"])) for a in answers if a["ns"] > since_ns]
        if told:
            break
        if time.monotonic() > deadline:
            raise ChildFailed(f"nobody leads {WAIT_S_MAX:g} s after the leader's end")
        time.sleep(LOOK_EVERY_S)
    if min(told)[1] <= fence:
        raise ChildFailed(f"the fence {min(told)[1]} is not above {fence}")
    return min(told)


def main() -> int:
    """Measure and print."""
    emit_json({"bench": "state_failover", **failover_figures("--quick" in sys.argv)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
