"""Searches on random overlays: complete, bounded, and the same for the same seed."""

from __future__ import annotations

import hashlib
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st

from barrel_p2p.core.rng import SeededRng
from barrel_p2p.services.router_inputs import ROUTE_TTL
from barrel_p2p.services.router_messages import FoundService, RouteRequest
from tests.route_net import RouteNet, entry, names
from tests.tools import rounds
from tests.tree import ROOT

RUNS = settings(max_examples=rounds(100, whole=3_000), deadline=None)


def overlay(seed: int, count: int, extra: int) -> list[tuple[str, str]]:
    """A random tree and ``extra`` more links: connected, whatever is drawn."""
    rng, nodes = SeededRng(seed), names(count)
    links = {(nodes[rng.below(i)], nodes[i]): None for i in range(1, count)}
    for _ in range(extra):
        a, b = sorted(rng.sample(nodes, 2))
        links.setdefault((a, b))
    return list(links)


def distances(links: list[tuple[str, str]], start: str) -> dict[str, int]:
    """Hops from ``start``, by a search in breadth that knows the whole graph."""
    near = {start: 0}
    edge = [start]
    while edge:
        found = []
        for a, b in links:
            for node, peer in ((a, b), (b, a)):
                if node in edge and peer not in near:
                    near[peer] = near[node] + 1
                    found.append(peer)
        edge = found
    return near


def digest(seed: int) -> str:
    """What a run with losses looks like, to the last message."""
    links = overlay(seed, 12, 8)
    net = RouteNet(links, seed, loss=100, latency=(1, 80), max_in_flight=4)
    net.nodes["n11@h"].services["s"] = entry("s", "n11@h")
    for at in names(12):
        net.begin(at, "s", timeout_ms=2_000)
    net.run(10_000)
    answers = [node.answers for node in net.nodes.values()]
    return hashlib.sha256(repr((net.trace, answers)).encode()).hexdigest()


@given(st.integers(0, 1 << 32), st.integers(2, 20), st.integers(0, 20), st.data())
@RUNS
def test_a_service_is_found_exactly_when_it_is_near_enough(
    seed: int, count: int, extra: int, data: st.DataObject
) -> None:
    links = overlay(seed, count, extra)
    holder = data.draw(st.sampled_from(names(count)))
    net = RouteNet(links, seed)
    net.nodes[holder].services["s"] = entry("s", holder)
    answer = net.find("n00@h", "s")
    assert answer is not None
    near = distances(links, "n00@h")[holder] <= ROUTE_TTL
    assert isinstance(answer.outcome, FoundService) is near
    assert net.now < 1_000, "nobody was waited for in vain"


@given(st.integers(0, 1 << 32), st.integers(2, 20), st.integers(0, 20))
@RUNS
def test_a_search_in_vain_costs_each_link_a_few_messages(
    seed: int, count: int, extra: int
) -> None:
    links = overlay(seed, count, extra)
    net = RouteNet(links, seed)
    assert net.find("n00@h", "s") is not None
    net.run(20_000)
    # Two ways a link, a request and a reply, and as often as there are ttls to see.
    assert net.sent <= 4 * len(links) * (1 + 2 + ROUTE_TTL)
    for a, b, ttl in {
        (a, b, m.ttl) for _, a, b, m in net.trace if isinstance(m, RouteRequest)
    }:
        same = [
            m
            for _, x, y, m in net.trace
            if (x, y) == (a, b) and isinstance(m, RouteRequest) and m.ttl == ttl
        ]
        assert len(same) == 1, "one ring asks over one link once"
    assert all(node.machine.in_flight == 0 for node in net.nodes.values())


def test_equal_seeds_make_equal_traces_whatever_the_hashes() -> None:
    here = digest(7)
    code = "from tests.property.test_route_searches import digest; print(digest(7))"
    for hashes in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": hashes, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.strip() == here
    assert digest(8) != here
