"""The clock's operations, one by one, with what they are measured against.

Run with ``pytest bench/micro --benchmark-group-by=group``.
"""

from __future__ import annotations

import time

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from barrel_p2p.core.hlc import HLC, Timestamp
from tests.models.hlc import HlcModel

STAMP = Timestamp(1_800_000_000_000, 5)
DATA = STAMP.to_binary()


@pytest.mark.benchmark(group="now")
def test_now(benchmark: BenchmarkFixture) -> None:
    assert benchmark(HLC().now)


@pytest.mark.benchmark(group="now")
def test_time_ns(benchmark: BenchmarkFixture) -> None:
    assert benchmark(time.time_ns)


@pytest.mark.benchmark(group="now")
def test_now_of_the_model(benchmark: BenchmarkFixture) -> None:
    assert benchmark(HlcModel().now)


@pytest.mark.benchmark(group="update")
def test_update(benchmark: BenchmarkFixture) -> None:
    clock = HLC()
    assert benchmark(clock.update, clock.now())


@pytest.mark.benchmark(group="update")
def test_update_of_the_model(benchmark: BenchmarkFixture) -> None:
    model = HlcModel()
    assert benchmark(model.update, model.now())


@pytest.mark.benchmark(group="binary")
def test_to_binary(benchmark: BenchmarkFixture) -> None:
    assert benchmark(STAMP.to_binary) == DATA


@pytest.mark.benchmark(group="binary")
def test_from_binary(benchmark: BenchmarkFixture) -> None:
    assert benchmark(Timestamp.from_binary, DATA) == STAMP


@pytest.mark.benchmark(group="fence")
def test_pack(benchmark: BenchmarkFixture) -> None:
    assert benchmark(HLC(node="a@host").pack, STAMP)
