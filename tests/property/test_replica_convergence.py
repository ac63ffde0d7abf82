"""Replicas end alike, whatever the network did to them, once it has healed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.replica_net import Net, Node
from tests.tools import rounds

NAMES = [f"n{i}@h" for i in range(8)]
PERIOD_MS = 30_000

STEP = st.tuples(
    st.sampled_from(
        ["add", "add", "add", "remove", "wait", "part", "crash", "restart"]
    ),
    st.integers(0, 7),
    st.integers(0, 9),
)


def perform(net: Net, step: tuple[str, int, int]) -> bool:
    """Do one thing; returns whether a node has lost its memory by it."""
    what, index, number = step
    nodes = list(net.nodes.values())
    node: Node = nodes[index % len(nodes)]
    match what:
        case "add" if node.up:
            node.add(f"key {number}", [node.name, net.now_ms])
        case "remove" if node.up:
            node.remove(f"key {number}")
        case "wait":
            net.run(number * 700)
        case "part":
            cut = 1 + number % (len(nodes) - 1)
            names = list(net.nodes)
            net.part([names[:cut], names[cut:]], noticed=number % 2 == 0)
        case "crash" if node.up and sum(n.up for n in nodes) > 1:
            node.crash()
        case "restart" if not node.up:
            node.restart(keep=number % 2 == 0)
            return number % 2 == 1
        case _:
            pass
    return False


@pytest.mark.timeout(600)
@settings(max_examples=rounds(100, whole=10_000), deadline=None)
@given(
    st.integers(0, 1 << 30),
    st.integers(3, 8),
    st.integers(0, 30),
    st.lists(STEP, max_size=40),
)
def test_replicas_hold_the_same_bytes_two_periods_after_the_heal(
    seed: int, count: int, loss: int, steps: list[tuple[str, int, int]]
) -> None:
    """D3, S7: loss, doubles, reorder, partitions and restarts, then none."""
    net = Net(seed, loss=loss, doubled=loss // 3, latency_ms=40)
    for name in NAMES[:count]:
        net.add(name)
    forgotten = [perform(net, step) for step in steps]
    for node in net.nodes.values():
        if not node.up:
            node.restart(keep=True)
    net.loss = net.doubled = 0
    net.heal()
    net.run(2 * PERIOD_MS * 5 // 4)
    assert net.converged()
    assert not any(node.echoes_told for node in net.nodes.values())
    if not any(forgotten):
        # No write is lost but to a later one, and no removed key has come back.
        assert net.nodes[NAMES[0]].entries.snapshot() == net.written


@pytest.mark.parametrize("seed", range(rounds(5, whole=100)))
def test_what_two_halves_have_missed_crosses_a_wide_overlay_in_two_periods(
    seed: int,
) -> None:
    """S3: 100 nodes with five neighbours or so, and nobody noticed the split."""
    count, degree = 100, 5
    net = Net(seed, latency_ms=10)
    names = [f"n{i:03}@h" for i in range(count)]
    for name in names:
        net.add(name, connect=False)
    for i, name in enumerate(names):
        net.connect(name, names[(i + 1) % count])
        for other in net.rng.sample(names, (degree - 2) // 2):
            if other != name:
                net.connect(name, other)
    net.run(5_000)
    cut = count // (10 if seed % 2 else 2)
    net.part([names[:cut], names[cut:]], noticed=False)
    for i in range(0, count, 7):
        net.nodes[names[i]].add(("key", i), i)
    net.run(10_000)
    assert not net.converged()
    net.group_of = dict.fromkeys(names, 0)
    net.run(2 * PERIOD_MS * 5 // 4)
    assert net.converged()
    assert net.nodes[names[0]].entries.snapshot() == net.written
