"""Equal seeds give equal runs, wherever and however they are made."""

from __future__ import annotations

from pathlib import Path

import pytest
from xxhash import xxh3_64_hexdigest

from barrel_p2p.testing.experiments.cluster import ENCODED_ONE_IN, Cluster
from barrel_p2p.testing.overlay.trace import Trace
from tests.sim.elsewhere import elsewhere, need_same_digests
from tests.sim.traced_run import digest_of

SEEDS = (1, 10)


@elsewhere
def test_a_run_depends_on_its_seed_and_on_nothing_else(
    python: Path, hash_seed: str
) -> None:
    need_same_digests(
        "tests.sim.traced_run", digest_of, SEEDS, python=python, hash_seed=hash_seed
    )


def test_another_seed_is_another_run() -> None:
    assert len({digest_of(seed) for seed in range(1, 5)}) == 4


@pytest.mark.parametrize("encodes", [False, True])
def test_messages_are_the_same_after_they_were_encoded(encodes: bool) -> None:
    def run() -> tuple[str, int]:
        cluster = Cluster(40, 3, policy="three", is_traced=True, encodes=encodes)
        cluster.start_all(40)
        cluster.rounds(2)
        sent, _ = cluster.send(cluster.world.nodes[9], 5_000)
        return cluster.digest(), len(sent.reached)

    plain = Cluster(40, 3, policy="three", is_traced=True, encodes=False)
    plain.start_all(40)
    plain.rounds(2)
    sent, _ = plain.send(plain.world.nodes[9], 5_000)
    assert run() == (plain.digest(), len(sent.reached))


def test_one_seed_in_ten_encodes_its_messages() -> None:
    encoding = [Cluster(2, seed).world.encodes for seed in range(1, 31)]
    assert sum(encoding) == 30 // ENCODED_ONE_IN


def test_the_hash_knows_every_event_and_their_order() -> None:
    def digest(*events: tuple[int, int, int, int]) -> str:
        trace = Trace()
        for event in events:
            trace.add(*event)
        return trace.digest()

    first, second = (1_000, 3, 4, 32), (1_001, 4, 3, 35)
    assert digest(first, second) == digest(first, second)
    assert digest(first, second) != digest(second, first)
    for place in range(4):
        changed = tuple(value + (at == place) for at, value in enumerate(first))
        assert digest(changed) != digest(first)  # type: ignore[arg-type]
    word = 1_000 << 34 | 3 << 20 | 4 << 6 | 32
    assert digest(first) == xxh3_64_hexdigest(word.to_bytes(8, "little"))
