"""Equal seeds replay equal runs, however Python hashes."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.tree import ROOT

PROGRAM = """
import hashlib
from tests.replica_net import Net

net = Net(7, loss=10, doubled=5)
names = [f"n{i}@h" for i in range(6)]
for name in names:
    net.add(name)
for i in range(60):
    net.nodes[names[i % 6]].add(f"key {i % 9}", i)
    net.run(500)
    if i == 20:
        net.part([names[:2], names[2:]], noticed=True)
    if i == 40:
        net.heal()
net.run(60_000)
print(hashlib.sha256(repr(net.frames).encode()).hexdigest(), len(net.frames))
"""


def test_a_seed_replays_a_run_under_every_hash_seed() -> None:
    traces = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4242")
    ]
    assert len(set(traces)) == 1
    assert int(traces[0].split()[1]) > 100
