"""Equal seeds give equal runs, wherever and however they are made."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from xxhash import xxh3_64_hexdigest

from barrel_p2p.testing.experiments.cluster import ENCODED_ONE_IN, Cluster
from barrel_p2p.testing.overlay.trace import Trace
from tests.sim.traced_run import digest_of
from tests.tree import ROOT

SEEDS = ("1", "10")
PYTHONS = [
    Path(sys.executable),
    *(
        python
        for python in sorted(ROOT.glob(".venv*/bin/python"))
        if python.parent.resolve() != Path(sys.executable).parent.resolve()
    ),
]


@pytest.mark.parametrize("python", PYTHONS, ids=lambda path: path.parts[-3])
@pytest.mark.parametrize("hash_seed", ["0", "1"])
def test_a_run_depends_on_its_seed_and_on_nothing_else(
    python: Path, hash_seed: str
) -> None:
    """On every Python that is set up here, with hashes of strings that differ."""
    done = subprocess.run(
        [str(python), "-m", "tests.sim.traced_run", *SEEDS],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [digest_of(int(seed)) for seed in SEEDS], done.stderr


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
