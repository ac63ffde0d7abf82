"""The passive view at its work in a large cluster, beside the model over dicts.

Run with ``pytest bench/micro --benchmark-group-by=group``.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from barrel_p2p.core.names import Address
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.membership.passive import PassiveView
from barrel_p2p.membership.settings import Settings
from tests.models.passive import PassiveModel

HEARD = [
    tuple(
        Address(f"n{at * 5 % 1_000}@h", "10.0.0.1", 1) for at in range(first, first + 8)
    )
    for first in range(0, 8_000, 8)
]


def hear(view: PassiveView | PassiveModel) -> int:
    return sum(
        view.hear_all(addresses, 8, 0, barred=(), expiring=(), up={})
        for addresses in HEARD
    )


@pytest.mark.benchmark(group="1,000 shuffles of 8 nodes")
def test_hear_all(benchmark: BenchmarkFixture) -> None:
    view = PassiveView(Settings(), SeededRng(1))
    assert benchmark(hear, view) > 0


@pytest.mark.benchmark(group="1,000 shuffles of 8 nodes")
def test_hear_all_with_dicts(benchmark: BenchmarkFixture) -> None:
    view = PassiveModel(Settings(), SeededRng(1))
    assert benchmark(hear, view) > 0
