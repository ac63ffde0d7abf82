"""Runs seeds in other processes: other Pythons, with hashes of strings that differ."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tree import ROOT

__all__ = ["elsewhere", "need_same_digests"]

PYTHONS = [
    Path(sys.executable),
    *(
        python
        for python in sorted(ROOT.glob(".venv*/bin/python"))
        if python.parent.resolve() != Path(sys.executable).parent.resolve()
    ),
]


def elsewhere[T](test: Callable[..., T]) -> Callable[..., T]:
    """Give a test ``python`` and ``hash_seed``: every Python that is set up here."""
    names = [python.parts[-3] for python in PYTHONS]
    for values in (
        pytest.mark.parametrize("hash_seed", ["0", "1"]),
        pytest.mark.parametrize("python", PYTHONS, ids=names),
    ):
        test = values(test)
    return test


def need_same_digests(
    module: str,
    digest_of: Callable[[int], str],
    seeds: tuple[int, ...],
    *,
    python: Path,
    hash_seed: str,
) -> None:
    """Fail unless ``python -m module SEEDS`` prints what ``digest_of`` returns here."""
    done = subprocess.run(
        [str(python), "-m", module, *map(str, seeds)],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [digest_of(seed) for seed in seeds], done.stderr
