"""A ring that is kept up to date owns what one computed anew would own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.rendezvous import Ring
from tests.models import rendezvous as model

NAMES = st.sampled_from([f"{name}@h" for name in "abcdefghij"])
CHANGES = st.lists(st.tuples(st.booleans(), NAMES), max_size=30)


@given(st.integers(1, 40), CHANGES)
def test_a_ring_after_any_changes_is_the_models(
    ring_size: int, changes: list[tuple[bool, str]]
) -> None:
    ring, there = Ring(ring_size), dict[str, None]()
    for comes, name in changes:
        before = list(ring.owners)
        if comes:
            moved = ring.add(name)
            there[name] = None
        else:
            moved = ring.remove(name)
            there.pop(name, None)
        assert ring.owners == model.owners(ring_size, there)
        assert moved == [p for p in range(ring_size) if ring.owners[p] != before[p]]
    assert ring.nodes() == sorted(there)
    for partition in range(min(ring_size, 3)):
        assert ring.ranking(partition, 4) == model.ranked(partition, there)[:4]
