"""Terms, one operation at a time, with what they are measured against.

Run with ``pytest bench/micro --benchmark-group-by=group``.
"""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from barrel_p2p.core.terms import Atom, Pid
from barrel_p2p.wire.terms import decode, encode, key_bytes
from bench.codec import Codec, codecs, values
from tests.models import terms as model

MESSAGE = ("job", 12_345, b"x" * 83)
ADDRESSED = (Atom("reply"), Pid("a@host", 7, 1), MESSAGE)
VALUES = values()


@pytest.mark.benchmark(group="encode")
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("codec", codecs(), ids=lambda codec: codec.name)
def test_encode(benchmark: BenchmarkFixture, name: str, codec: Codec) -> None:
    assert benchmark(codec.encode, VALUES[name])


@pytest.mark.benchmark(group="decode")
@pytest.mark.parametrize("name", VALUES)
@pytest.mark.parametrize("codec", codecs(), ids=lambda codec: codec.name)
def test_decode(benchmark: BenchmarkFixture, name: str, codec: Codec) -> None:
    assert benchmark(codec.decode, codec.encode(VALUES[name]))


@pytest.mark.benchmark(group="message")
@pytest.mark.parametrize("value", [MESSAGE, ADDRESSED], ids=["plain", "addressed"])
def test_encode_a_message(benchmark: BenchmarkFixture, value: object) -> None:
    assert benchmark(encode, value)


@pytest.mark.benchmark(group="message")
@pytest.mark.parametrize("value", [MESSAGE, ADDRESSED], ids=["plain", "addressed"])
def test_decode_a_message(benchmark: BenchmarkFixture, value: object) -> None:
    assert benchmark(decode, encode(value)) == value


@pytest.mark.benchmark(group="message")
def test_encode_a_message_with_the_model(benchmark: BenchmarkFixture) -> None:
    assert benchmark(model.encode, MESSAGE) == encode(MESSAGE)


@pytest.mark.benchmark(group="message")
def test_decode_a_message_with_the_model(benchmark: BenchmarkFixture) -> None:
    assert benchmark(model.decode, encode(MESSAGE)) == MESSAGE


@pytest.mark.benchmark(group="key")
@pytest.mark.parametrize("key", ["cart", ("cart", 42)], ids=str)
def test_key_bytes(benchmark: BenchmarkFixture, key: object) -> None:
    assert benchmark(key_bytes, key)


@pytest.mark.benchmark(group="keys that a peer chooses")
@pytest.mark.parametrize("count", [16, 17, 10_000])
def test_decode_integer_keys(benchmark: BenchmarkFixture, count: int) -> None:
    # From 17 keys on their way through the hash table is counted.
    assert benchmark(decode, encode({i * 7: None for i in range(count)}))
