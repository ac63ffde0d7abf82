"""Erlang's own codec reads what we write, and we read what it writes."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Self

import pytest

from barrel_p2p.core.terms import Atom, Pid, Ref
from barrel_p2p.errors import WireError
from barrel_p2p.wire.terms import decode, encode
from tests.term_values import is_same
from tests.tools import require_tool, rounds

pytestmark = pytest.mark.erlang

PEER = Path(__file__).with_name("term_peer.escript")
TERMS = 2_000
RECODE, MAKE, COMPARE, REFUSES = b"\0", b"\1", b"\2", b"\3"


class ErlangPeer:
    """One Erlang process that encodes and decodes on request."""

    def __enter__(self) -> Self:
        require_tool("erl")
        command = [require_tool("escript"), str(PEER)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(timeout=20) == 0

    def ask(self, what: bytes, data: bytes) -> bytes:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        request = what + data
        self._process.stdin.write(struct.pack(">I", len(request)) + request)
        self._process.stdin.flush()
        (size,) = struct.unpack(">I", self._process.stdout.read(4))
        return self._process.stdout.read(size)


class TermMaker:
    """Random values that Erlang has too: no text, no sets, no infinities.

    Hypothesis would take ten times as long for as many.
    """

    def __init__(self, seed: int) -> None:
        self.rng = Random(seed)

    def value(self, depth: int) -> object:
        kind = self.rng.randrange(6) if depth else 5
        if kind == 0:
            return self.values(depth)
        if kind == 1:
            return tuple(self.values(depth))
        if kind == 2:
            return {self.key(2): self.value(depth - 1) for _ in self.few()}
        if kind == 3:
            return list(self.rng.randbytes(self.rng.randrange(300)))
        if kind == 4:
            return tuple(self.rng.randbytes(self.rng.randrange(300)))
        return self.rng.choice(self.SCALARS)(self)

    def key(self, depth: int) -> object:
        if depth and self.rng.random() < 0.3:
            return tuple(self.key(depth - 1) for _ in self.few())
        return self.rng.choice(self.SCALARS)(self)

    def values(self, depth: int) -> list[object]:
        return [self.value(depth - 1) for _ in self.few()]

    def few(self) -> range:
        return range(self.rng.randrange(5))

    def constant(self) -> object:
        return self.rng.choice([None, True, False, 0, 255, 256, -1, 0.0, -0.0, 1e308])

    def integer(self) -> int:
        bits = self.rng.choice([7, 8, 31, 32, 63, 64, 2_039, 2_040, 3_000])
        return self.rng.choice([1, -1]) * ((1 << bits) + self.rng.randrange(-1, 2))

    def real(self) -> float:
        return self.rng.uniform(-1, 1) * 10.0 ** self.rng.randrange(-300, 300)

    def binary(self) -> bytes:
        return self.rng.randbytes(self.rng.choice([0, 1, 9, 300]))

    def atom(self) -> Atom:
        size = self.rng.choice([0, 1, 5, 85, 86, 255])
        return Atom("".join(self.rng.choices("aZ0 é€😀", k=size)))

    def pid(self) -> Pid:
        return Pid("node@h.x", self.rng.getrandbits(64), self.rng.getrandbits(32))

    def ref(self) -> Ref:
        words = [self.rng.getrandbits(32) for _ in range(self.rng.randrange(1, 6))]
        return Ref("node@h.x", self.rng.getrandbits(32), tuple(words))

    SCALARS = (constant, integer, real, binary, atom, pid, ref)


@pytest.fixture(scope="module")
def erlang() -> Iterator[ErlangPeer]:
    with ErlangPeer() as peer:
        yield peer


def test_erlang_reads_what_we_write(erlang: ErlangPeer) -> None:
    make = TermMaker(20_261_122)
    for _ in range(rounds(TERMS, whole=20_000)):
        value = make.value(4)
        back = decode(erlang.ask(RECODE, encode(value)))
        # Erlang keeps maps in an order of its own.
        assert is_same(in_order(back), in_order(value))


def test_we_read_what_erlang_writes(erlang: ErlangPeer) -> None:
    numbers = Random(20_261_122).sample(range(2**32), rounds(TERMS, whole=20_000))
    for number in numbers:
        made = erlang.ask(MAKE, struct.pack(">I", number))
        value = decode(made)
        assert erlang.ask(COMPARE, encode(value)) == b"\1", (number, value)


@pytest.mark.parametrize("value", ["text", {1}, frozenset({1}), float("inf"), ["x"]])
def test_erlang_has_no_such_value(erlang: ErlangPeer, value: object) -> None:
    assert erlang.ask(REFUSES, encode(value)) == b"\1"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x83w\1\xff", id="atom-not-utf8"),
        pytest.param(b"\x83v\1\0" + b"x" * 256, id="atom-of-256"),
        pytest.param(b"\x83h\2a\1", id="short"),
        pytest.param(b"\x83t\0\0\0\2a\1a\1a\1a\1", id="key-twice"),
        pytest.param(b"\x82a\1", id="version"),
    ],
)
def test_both_refuse_what_is_malformed(erlang: ErlangPeer, data: bytes) -> None:
    assert erlang.ask(REFUSES, data) == b"\1"
    with pytest.raises(WireError):
        decode(data)


def test_none_true_and_false_are_erlang_s_atoms(erlang: ErlangPeer) -> None:
    made = erlang.ask(RECODE, encode([None, True, False, Atom("nil")]))
    for name in (b"undefined", b"true", b"false", b"nil"):
        assert name in made


def in_order(value: object) -> object:
    """The value with its maps in one order."""
    if isinstance(value, dict):
        pairs = [(in_order(key), in_order(held)) for key, held in value.items()]
        return dict(sorted(pairs, key=lambda pair: repr(pair[0])))
    if isinstance(value, list | tuple):
        return type(value)(map(in_order, value))
    return value
