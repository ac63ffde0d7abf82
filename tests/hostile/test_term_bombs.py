"""X5, X6: bytes of an enemy cost little time and memory, and end in a typed error.

Memory is what ``tracemalloc`` sees, at most 8 bytes for each byte of input, counting a
shorter input as 1 MiB. Time is counted in the machine's own terms: ``UNIT_S`` is what
this machine takes for a loop that the machine of the goals runs in a millisecond.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import struct
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable

import psutil
import pytest

from barrel_p2p.core.terms import Atom, Pid, Ref
from barrel_p2p.errors import NotEncodable, WireError
from barrel_p2p.wire import limits
from barrel_p2p.wire.terms import decode, encode
from tests.tools import rounds
from tests.tree import ROOT

MIB = 1 << 20
CORPUS = ROOT / "tests" / "vectors" / "corpus" / "term_weigh"
# hash() of an int is its remainder by this prime: its multiples all hash to 0.
HASH_PRIME = sys.hash_info.modulus


def u32(number: int) -> bytes:
    return struct.pack(">I", number)


def big(number: int) -> bytes:
    size = (number.bit_length() + 7) // 8
    return bytes([110, size, 0]) + number.to_bytes(size, "little")


def a_list(count: int, element: bytes) -> bytes:
    return b"l" + u32(count) + element * count + b"j"


def a_map(keys: Iterable[bytes]) -> bytes:
    pairs = [key + b"a\1" for key in keys]
    return b"t" + u32(len(pairs)) + b"".join(pairs)


def a_set(members: Iterable[bytes], *, tag: bytes = b"\xe2") -> bytes:
    listed = list(members)
    return tag + u32(len(listed)) + b"".join(listed)


def frozen(members: Iterable[bytes]) -> bytes:
    return a_set(members, tag=b"\xe3")


def multiples(count: int) -> list[bytes]:
    return [big(HASH_PRIME * i) for i in range(1, count + 1)]


def colliding_tuples(count: int) -> list[bytes]:
    pairs = itertools.islice(itertools.product(range(1, 200), repeat=2), count)
    return [b"h\2" + big(HASH_PRIME * i) + big(HASH_PRIME * j) for i, j in pairs]


def colliding_sets(fan_out: int, depth: int) -> bytes:
    """Sets of sets whose comparison multiplies from level to level."""
    fresh = itertools.count(1)

    def level(left: int) -> bytes:
        if left == 0:
            return big(HASH_PRIME * next(fresh))
        return frozen(level(left - 1) for _ in range(fan_out))

    return a_set(level(depth) for _ in range(fan_out))


def chained_keys(slots: int) -> list[bytes]:
    """Keys of different hashes that follow one another through a dict's table.

    Half of a table of ``slots`` is filled along the walk that every key falls into at
    the end of its own path; the others have paths that meet only taken slots, and so
    step through all of that walk.
    """
    walk = list(itertools.islice(_walk(0, slots), slots // 3))
    taken = set(walk[: slots // 4])
    keys = [slot if slot > 255 else slot + slots for slot in walk[: slots // 4]]
    fresh = slots
    while len(keys) < slots * 2 // 3 - 1:
        fresh += 1
        if all(slot in taken for slot in _path(fresh, slots)):
            keys.append(fresh)
    return [b"b" + u32(key) for key in keys]


def _walk(slot: int, slots: int) -> Iterable[int]:
    while True:
        yield slot
        slot = (slot * 5 + 1) % slots


def _path(key: int, slots: int) -> list[int]:
    slot, perturb, path = key % slots, key, []
    while perturb:
        path.append(slot)
        perturb >>= 5
        slot = (slot * 5 + perturb + 1) % slots
    return path


BOMBS: dict[str, bytes] = {
    "lists a million deep": b"l\0\0\0\1" * 10**6 + b"j" * (10**6 + 1),
    "lists 20,000 deep": b"l\0\0\0\1" * 20_000 + b"j" * 20_001,
    "tuples 20,000 deep as a key": a_map([b"h\1" * 20_000 + b"a\1"]),
    "tuples a million deep": b"h\1" * 10**6 + b"a\1",
    "maps a million deep": b"t\0\0\0\1a\1" * 10**6,
    "ten million elements in 20 bytes": b"l" + u32(10**7) + b"j" * 14,
    "four billion elements": b"i" + u32(2**32 - 1) + b"j" * 14,
    "ten million pairs in 20 bytes": b"t" + u32(10**7) + b"j" * 14,
    "ten million members in 20 bytes": b"\xe2" + u32(10**7) + b"j" * 14,
    "every level claims all that is left": b"".join(
        b"l" + u32(130_000 - 5 * i) for i in range(255)
    )
    + b"j" * 128_000,
    "compressed": b"P" + u32(2**32 - 1) + b"\x78\x9c" + b"\0" * 99,
    "integer of 10 MB": b"o" + u32(10**7) + b"\0" + b"\xff" * 10**7,
    "integer of 7 MB": b"o" + u32(7 * MIB) + b"\0" + b"\xff" * 7 * MIB,
    "text that ends too soon": b"\xe1" + u32(2**32 - 1) + b"x" * 99,
    "a million empty lists": a_list(10**6, b"j"),
    "empty maps": a_list(3 * 10**5, b"t\0\0\0\0"),
    "empty sets": a_list(3 * 10**5, b"\xe2\0\0\0\0"),
    "sets of one": a_list(3 * 10**5, b"\xe2\0\0\0\1a\1"),
    "tuples of one": a_list(10**6, b"h\1a\1"),
    "short texts": a_list(10**6, b"\xe0\2ab"),
    "three million small integers": a_list(3 * 10**6, b"a\1"),
    "map keys that hash to 0": a_map(multiples(20_000)),
    "members that hash to 0": a_set(multiples(20_000)),
    "frozen members that hash to 0": frozen(multiples(20_000)),
    "tuples of equal hash": a_set(colliding_tuples(9_000)),
    "sets of sets, 8 by 8": colliding_sets(8, 4),
    "sets of sets, 2 by 2": colliding_sets(2, 12),
    "keys that chain": a_map(chained_keys(1 << 12)),
    "text first, then keys of equal hash": a_map(
        [b"\xe0\5%05d" % i for i in range(5_000)] + multiples(9_000)
    ),
    "not a number as a key": a_map([b"F\x7f\xf8" + bytes(6)]),
    "not a number inside a key": a_map([b"h\1F\x7f\xf8" + bytes(6)]),
    "a key twice": a_map([b"\xe0\1k"] * 20_000),
    "keys equal across types": a_map([b"a\1", b"F\x3f\xf0" + bytes(6), b"w\4true"]),
    "surrogates": b"\xe1" + u32(3 * 10**5) + b"\xed\xa0\x80" * 10**5,
    "text that is not UTF-8": b"\xe1" + u32(10**6) + b"x" * 999_999 + b"\xff",
    "overlong UTF-8": b"\xe0\2\xc0\x80",
    "a list as a key": a_map([b"l\0\0\0\1a\1j"]),
}


def peak_bytes(call: Callable[[], object]) -> int:
    """Most memory in use during the call, as Python allocated it."""
    tracemalloc.start()
    try:
        call()
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


def refuse(data: bytes) -> None:
    # A bomb that only ends wrongly would be no bomb.
    with pytest.raises(WireError) as caught:
        decode(data)
    assert "bytes follow" not in str(caught.value)


def unit_s() -> float:
    """Seconds that this machine takes now for what a reference machine does in 1 ms."""
    best = math.inf
    for _ in range(5):
        start = time.perf_counter()
        total = 0
        for turn in range(20_000):
            total += turn & 7
        best = min(best, time.perf_counter() - start)
    return best


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_the_memory_of_its_length(name: str) -> None:
    data = b"\x83" + BOMBS[name]
    assert peak_bytes(lambda: refuse(data)) <= 8 * max(len(data), MIB)


@pytest.mark.serial
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_the_time_of_its_length(name: str) -> None:
    data = b"\x83" + BOMBS[name]
    best_s = math.inf
    for _ in range(5):
        start = time.perf_counter()
        refuse(data)
        best_s = min(best_s, time.perf_counter() - start)
    assert best_s <= (20 * len(data) / MIB + 5) * unit_s()


@pytest.mark.parametrize("name", ["keys that chain", "map keys that hash to 0"])
def test_what_makes_keys_a_bomb_is_that_they_collide(name: str) -> None:
    # The same number of keys, of the same size, that do not collide.
    count = decode_count(BOMBS[name])
    apart = a_map(big(HASH_PRIME * i + i) for i in range(1, count + 1))
    assert isinstance(decode(b"\x83" + apart, memory_max=1 << 30), dict)
    with pytest.raises(WireError, match="collide"):
        decode(b"\x83" + BOMBS[name], memory_max=1 << 30)


def decode_count(data: bytes) -> int:
    return int.from_bytes(data[1:5])


def test_tables_of_this_interpreter_grow_as_the_probe_of_keys_assumes() -> None:
    # The numbers that csrc/tests/test_key_probe.c holds the probe to.
    assert grows_at({}, dict.setdefault) == [6, 11, 22, 43, 86, 171, 342, 683]
    assert grows_at(set(), set.add) == [5, 19, 77, 307, 1229]


def grows_at[T](table: T, add: Callable[[T, int], object]) -> list[int]:
    """Numbers of keys, from 2 on, that made the table larger."""
    sizes = []
    for key in range(1_230):
        add(table, key)
        sizes.append(sys.getsizeof(table))
    return [n for n in range(2, len(sizes) + 1) if sizes[n - 1] > sizes[n - 2]]


@pytest.mark.parametrize(
    "value",
    [
        {i: i for i in range(20_000)},
        {-i: i for i in range(20_000)},
        {i << 40 for i in range(5_000)},
        {i * 65_536 for i in range(5_000)},
        {i / 7 for i in range(5_000)},
        {(x, y, z) for x, y, z in itertools.product(range(-9, 9), repeat=3)},
        [{-1, -2, 0}] * 9_000,
        [{frozenset({-1, -2}), frozenset({-1, 5})}] * 40,
        {float(1 << i) for i in range(500)},
    ],
    ids=lambda value: type(value).__name__,
)
def test_keys_of_honest_programs_are_no_bomb(value: object) -> None:
    assert decode(encode(value)) == value


def test_keys_that_collide_are_refused_at_their_sender_already() -> None:
    numbers = {HASH_PRIME * i: i for i in range(1, 2_000)}
    for value in (numbers, set(numbers), [1, {"k": frozenset(numbers)}]):
        with pytest.raises(NotEncodable, match="collide"):
            encode(value)


def test_shared_references_cannot_blow_up_what_is_sent() -> None:
    value: object = "x" * 100
    for _ in range(100):
        value = [value, value]
    with pytest.raises(NotEncodable, match="limit"):
        encode(value)


def test_a_sender_learns_that_a_value_is_too_heavy() -> None:
    with pytest.raises(NotEncodable, match="would take its receiver"):
        encode([[] for _ in range(200_000)])
    with pytest.raises(NotEncodable, match="values, more than TERM_NODES_MAX"):
        encode([0] * limits.TERM_NODES_MAX)
    assert encode([0] * (limits.TERM_NODES_MAX - 2))


def dense(count: int) -> list[bytes]:
    return [
        a_list(count, b"j"),
        a_list(count, b"h\1a\1"),
        a_list(count, b"t\0\0\0\1a\1a\1"),
        a_list(count, b"\xe2\0\0\0\1a\1"),
        a_list(count, b"m\0\0\0\2ab"),
        a_list(count, b"\xe0\3\xe2\x82\xac"),
        a_list(count, b"F" + bytes(8)),
        a_list(count, b"b\1\1\1\1"),
        a_map(b"b" + u32(i) for i in range(256, 256 + count)),
        a_map(b"\xe0\x06%06d" % i for i in range(count)),
        a_map([b"\xe0\1k", *(b"b" + u32(i) for i in range(256, 256 + count))]),
        a_set(b"b" + u32(i) for i in range(256, 256 + count)),
        a_set(big(i << 70) for i in range(1, count)),
    ]


@pytest.mark.parametrize("index", range(len(dense(1))))
@pytest.mark.parametrize("count", [1_000, 87_390, 120_000])
def test_a_term_is_never_lighter_than_it_turns_out(index: int, count: int) -> None:
    data = b"\x83" + dense(count)[index]
    peak = peak_bytes(lambda: decode(data, memory_max=1 << 36))
    with pytest.raises(WireError, match="would take"):
        decode(data, memory_max=int(peak * 0.98))


def rich_term() -> bytes:
    return encode(
        {
            "op": ("call", 1, -1, 2**70, -(2**40), 1.5, None, True, False),
            Atom("reply"): [1, [2, {}], b"xy", "é€😀", set(), {"a", "b"}],
            (1, (2, "x")): frozenset({1, (2, 3)}),
            Pid("a@h", 2**40 + 5, 9): Ref("b@h.c", 3, (1, 2)),
            "long": "x" * 33,
        }
    )


def test_every_truncation_of_a_rich_term_is_refused() -> None:
    data = rich_term()
    for size in range(len(data)):
        refuse(data[:size])


def test_every_one_byte_mutant_of_a_rich_term_is_a_value_or_refused() -> None:
    data = rich_term()
    refused = 0

    def run() -> None:
        nonlocal refused
        for at, byte in itertools.product(range(len(data)), range(256)):
            mutant = data[:at] + bytes([byte]) + data[at + 1 :]
            try:
                decode(mutant)
            except WireError:
                refused += 1

    assert peak_bytes(run) <= 8 * MIB
    # Many mutants are other values; if all were, nothing would be checked.
    assert len(data) * 64 < refused < len(data) * 224


def test_refusals_leave_no_memory_behind() -> None:
    data = rich_term()
    mutants = [data[:at] + b"\xff" + data[at + 1 :] for at in range(len(data))]
    mutants += [data[:size] for size in range(len(data))]

    def refuse_all() -> None:
        for mutant in mutants:
            with contextlib.suppress(WireError):
                decode(mutant)
        for value in ({1: [2, {3: object()}]}, {(1, 2j)}, [{frozenset({1, 2, 3j})}]):
            with contextlib.suppress(NotEncodable):
                encode(value)

    refuse_all()  # Fills the caches of names.
    tracemalloc.start()
    try:
        refuse_all()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(20):
            refuse_all()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 20 * len(mutants)


def test_the_kept_corpus_of_the_fuzzer_decodes_or_is_refused() -> None:
    seen = {"value": 0, "refused": 0}
    for path in CORPUS.iterdir():
        try:
            value = decode(b"\x83" + path.read_bytes())
        except WireError:
            seen["refused"] += 1
        else:
            assert len(encode(decode(encode(value)))) == len(encode(value))
            seen["value"] += 1
    assert min(seen.values()) > 10


def test_no_end_of_names_takes_no_end_of_memory() -> None:
    """A peer's keys, tags, atoms and nodes: only the last few hundred stay alive."""
    process = psutil.Process()

    def feed(first: int, count: int) -> None:
        for i in range(first, first + count):
            name = b"%012d" % i
            decode(b"\x83t\0\0\0\1\xe0\x0c" + name + b"w\x0c" + name)
            decode(b"\x83h\2\xe0\x0c" + name + b"Xw\x0e" + name + b"@h" + bytes(12))

    feed(0, 5_000)
    before = process.memory_info().rss
    assert peak_bytes(lambda: feed(5_000, 20_000)) <= MIB
    feed(25_000, rounds(100_000, whole=1_000_000))
    assert process.memory_info().rss - before <= 16 * MIB


def test_names_of_a_peer_are_not_interned() -> None:
    value = decode(encode({"from-a-peer": ("and-only-there",)}))
    assert isinstance(value, dict)
    ((key, (tag,)),) = value.items()
    assert sys.intern("-".join(["from", "a", "peer"])) is not key
    assert sys.intern("-".join(["and", "only", "there"])) is not tag
