"""Whatever happens in whatever order: sizes, no node in both views, one story a link.

``SimViews`` checks after every input that views are within their sizes, disjoint, and
what was published; the test adds that links are symmetric once nothing is under way.
"""

from __future__ import annotations

import random

import pytest

from barrel_p2p.membership.commands import BlockPeers, Join, UnblockPeers
from barrel_p2p.membership.machine import Settings
from tests.overlay_nodes import SimViews, address
from tests.tools import rounds

NODES = [f"{letter}@h" for letter in "abcdefg"]
EVENTS = [
    *["wait"] * 6,
    *["join"] * 2,
    *["hang_up", "disconnect", "shutdown", "crash", "leave", "block", "unblock"],
]
WAITS_MS = [0, 1, 1, 2, 3, 5, 20, 300, 1_000]

type Step = tuple[str, int, str, str]


def schedule(seed: int) -> tuple[SimViews, list[Step]]:
    """Seven nodes that know one seed, and what is to happen to them."""
    chance = random.Random(seed)
    views = SimViews(
        Settings(
            active_size=chance.randint(1, 4),
            passive_size=3,
            arwl=3,
            prwl=1,
            # Shorter than an answer takes, at times.
            pending_timeout_ms=chance.choice([2, 4, 8, 40]),
        ),
        seed=seed,
    )
    for name in NODES:
        views.add(name, contacts=(NODES[0],))
    steps = [
        (
            chance.choice(EVENTS),
            chance.choice(WAITS_MS),
            chance.choice(NODES),
            chance.choice(NODES),
        )
        for _ in range(chance.randint(5, 120))
    ]
    return views, steps


def perform(views: SimViews, step: Step) -> None:
    """Have one thing happen, where it can."""
    what, wait_ms, first, second = step
    if what == "wait":
        views.run(wait_ms)
        return
    pair = frozenset((first, second))
    if what == "crash":
        if len(views.nodes) > 2 and first in views.nodes:
            views.crash(first)
        elif first not in views.nodes:
            views.add(first, contacts=(second,))
    elif what == "leave":
        views.leave(first)
    elif first == second:
        return
    elif what == "join":
        views.feed(first, Join(address(second)))
    elif what == "block":
        views.feed(first, BlockPeers((second,)))
    elif what == "unblock":
        views.feed(first, UnblockPeers((second,)))
    else:
        reason = {"hang_up": "idle_timeout"}.get(what, what)
        views.hang_up(pair, reason)


def test_links_are_symmetric_whatever_happened() -> None:
    for seed in range(rounds(250, whole=10_000)):
        views, steps = schedule(seed)
        for step in steps:
            perform(views, step)
        views.quiet()
        assert views.one_way() == [], f"seed {seed}"


@pytest.mark.parametrize("seed", range(5))
def test_equal_seeds_give_equal_traces(seed: int) -> None:
    traces = []
    for _ in range(2):
        views, steps = schedule(seed)
        views.trace = []
        for step in steps:
            perform(views, step)
        traces.append(views.trace)
    assert traces[0] == traces[1]
