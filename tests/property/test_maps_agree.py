"""Maps on nodes that tell each other in any order agree in the end, and undo nothing.

Each node writes keys of its own, so that what a key holds in the end is known, and keys
that all write. Removed keys are put aside at any time, however young, and a node that
heard of nothing for long comes back with all that it had.
"""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.map_net import MapNet, MapNode

NAMES = ("a@h", "b@h", "c@h")
NODE = st.integers(0, len(NAMES) - 1)
KEY = st.integers(0, 1)
STEP = st.one_of(
    st.tuples(st.just("put"), NODE, KEY),
    st.tuples(st.just("remove"), NODE, KEY),
    st.tuples(st.just("put all"), NODE, KEY),
    st.tuples(st.just("remove all"), NODE, KEY),
    st.tuples(st.just("hear"), NODE, NODE),
    st.tuples(st.just("hear"), NODE, NODE),
    st.tuples(st.just("forget"), NODE, st.integers(0, 1)),
)


def _do(net: MapNet, step: tuple[str, int, int], own: dict[Any, int | None]) -> None:
    what, first, second = step
    node = net.nodes[NAMES[first]]
    turn = len(own) * 1_000 + sum(1 for _ in node.events)
    match what:
        case "put":
            node.put((node.name, second), turn)
            own[node.name, second] = turn
        case "remove":
            node.remove((node.name, second))
            own[node.name, second] = None
        case "put all":
            node.put(second, (node.name, turn))
        case "remove all":
            node.remove(second)
        case "hear":
            if first != second:
                node.hear(net.nodes[NAMES[second]])
        case _:
            net.clock.advance(second)
            node.collect()


async def _exchange(net: MapNet) -> None:
    """What anti-entropy does in the end, and gossip of what it brings up."""
    nodes = list(net.nodes.values())
    for _ in range(3):
        for one in nodes:
            for other in nodes:
                if one is not other:
                    one.hear(other)
        for node in nodes:
            await asyncio.sleep(0)
            net.gossip(node)


def _replayed(node: MapNode) -> dict[Any, Any]:
    view: dict[Any, Any] = {}
    for event in node.events:
        if hasattr(event, "value"):
            view[event.key] = event.value
        else:
            del view[event.key]
    return view


@given(st.lists(STEP, min_size=10, max_size=60))
def test_all_end_with_what_each_wrote_last(steps: list[tuple[str, int, int]]) -> None:
    """D6, D7: no write to a key of one writer is lost, and none comes back."""
    asyncio.run(_course(steps))


async def _course(steps: list[tuple[str, int, int]]) -> None:
    net = MapNet()
    for name in NAMES:
        net.add(name)
    own: dict[Any, int | None] = {}
    for step in steps:
        _do(net, step, own)
    await asyncio.sleep(0)
    for node in net.nodes.values():
        node.written.clear()  # All gossip was lost.
    net.clock.advance(1)
    await _exchange(net)
    first, *others = net.nodes.values()
    for node in (first, *others):
        assert node.shown == first.shown
        assert _replayed(node) == node.shown
        for key, value in own.items():
            assert node.shown.get(key) == value
    for node in net.nodes.values():
        node.collect()
    assert len({node.owner.entries.digest() for node in net.nodes.values()}) == 1
