"""An OR-Map's operations, beside a dict loop and beside the plain-Python model.

Run with ``pytest bench/micro --benchmark-group-by=group``.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from barrel_p2p.core.hlc import Timestamp
from barrel_p2p.ormap import Entry
from barrel_p2p.wire.crdt_ingest import decode_delta, encode_delta, ingest
from bench.ormap import NODE, a_map, delta_of, dict_loop, pairs_of
from tests.models import ormap as model

KEYS = 100_000
DELTA = delta_of(KEYS)
PLAIN = {
    name: model.Written((entry.stamp.wall_ms, entry.stamp.counter), NODE, False)
    for name, entry in DELTA.items()
}
CHUNK = encode_delta(delta_of(1_000), chunk_bytes=1 << 20)[0]


@pytest.mark.benchmark(group="merge of 100,000 keys")
def test_merge_of_everything(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(lambda: a_map().merge(DELTA))) == KEYS


@pytest.mark.benchmark(group="merge of 100,000 keys")
def test_dict_loop_over_everything(benchmark: BenchmarkFixture) -> None:
    pairs = pairs_of(DELTA)
    assert len(benchmark(lambda: dict_loop({}, pairs))) == KEYS


@pytest.mark.benchmark(group="merge of 100,000 keys")
def test_merge_of_everything_by_the_model(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(lambda: model.OrMapModel().merge(PLAIN))) == KEYS


@pytest.mark.benchmark(group="one key of 100,000")
def test_merge_of_one_key(benchmark: BenchmarkFixture) -> None:
    ormap = a_map(DELTA)
    name = next(iter(DELTA))
    ticks = iter(range(1, 1 << 40))

    def newer() -> None:
        entry = Entry(("service", 0), Timestamp(1 << 42, next(ticks)), NODE, 0)
        assert ormap.merge({name: entry})

    benchmark(newer)


@pytest.mark.benchmark(group="one key of 100,000")
def test_add(benchmark: BenchmarkFixture) -> None:
    assert benchmark(a_map(DELTA).add, ("service", 5), 1)


@pytest.mark.benchmark(group="one key of 100,000")
def test_get(benchmark: BenchmarkFixture) -> None:
    assert benchmark(a_map(DELTA).get, ("service", 5)) == 5


@pytest.mark.benchmark(group="digest")
def test_digest(benchmark: BenchmarkFixture) -> None:
    assert any(benchmark(a_map(DELTA).digest))


@pytest.mark.benchmark(group="wire, 1,000 entries")
def test_encode_delta(benchmark: BenchmarkFixture) -> None:
    assert benchmark(encode_delta, delta_of(1_000), chunk_bytes=1 << 20) == [CHUNK]


@pytest.mark.benchmark(group="wire, 1,000 entries")
def test_decode_delta(benchmark: BenchmarkFixture) -> None:
    assert len(benchmark(decode_delta, CHUNK).delta) == 1_000


@pytest.mark.benchmark(group="wire, 1,000 entries")
def test_ingest(benchmark: BenchmarkFixture) -> None:
    ormap = a_map()
    assert len(benchmark(ingest, ormap, CHUNK).delta) == 1_000
