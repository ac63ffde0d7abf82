"""Nodes that come and go in one process leave nothing in it."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from tests.tools import DEEP, rounds
from tests.tree import ROOT

pytestmark = pytest.mark.timeout(900 if DEEP else 60)

CYCLES = rounds(60, whole=1_000)
DEADLINE_S = 60.0 * CYCLES / 60
OBJECTS_PER_CYCLE_MAX = 5


async def test_starting_and_stopping_two_nodes_leaves_nothing_behind(
    tmp_path: Path,
) -> None:
    """In the interpreter's development mode, where each warning is an error."""
    command = ["-X", "dev", "-W", "error", "-m", "tests.cluster.cycling_nodes"]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command, str(tmp_path), str(CYCLES)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(DEADLINE_S):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, err.decode()
    assert err == b""
    before, after = map(json.loads, out.splitlines())
    grown = after.pop("objects") - before.pop("objects")
    assert after == before
    assert grown <= OBJECTS_PER_CYCLE_MAX * CYCLES
