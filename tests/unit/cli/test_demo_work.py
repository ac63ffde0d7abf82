"""The demo's receiver agrees with its sender about whole work, and only about that."""

from __future__ import annotations

import struct
from collections.abc import Callable
from itertools import chain, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.cli.demo_report import Figures
from barrel_p2p.cli.demo_stock import DIGEST_BYTES, KIND_END, Stock
from barrel_p2p.cli.demo_work import Exchange, Receiver, same_digest
from barrel_p2p.errors import WireError
from barrel_p2p.wire import frames

HEADER = struct.Struct(">BQ")
ANSWER = struct.Struct(">?16s")
PINGS, MESSAGES, STREAM = 1, 2, 3
MESSAGE_BYTES = 100 + frames.HEADER_BYTES

STOCK = Stock(messages=150, stream_bytes=70_000)
SENT = {
    "messages": b"".join(
        [
            HEADER.pack(MESSAGES, STOCK.message_count),
            *STOCK.batches(),
            frames.encode(KIND_END, 0, STOCK.messages_digest),
        ]
    ),
    "stream": b"".join(
        [
            HEADER.pack(STREAM, STOCK.stream_bytes),
            *STOCK.blocks(),
            STOCK.stream_digest,
        ]
    ),
}


def answers(*chunks: bytes) -> list[tuple[bool, bytes]]:
    """What a receiver says to these chunks."""
    written: list[bytes] = []
    receiver = Receiver(written.append)
    for chunk in chunks:
        receiver.received(chunk)
    return list(ANSWER.iter_unpack(b"".join(written)))


@pytest.mark.parametrize("kind", SENT)
@given(cuts=st.lists(st.integers(0, 70_000), max_size=5))
def test_whole_work_is_agreed_on_however_it_is_cut(kind: str, cuts: list[int]) -> None:
    sent = SENT[kind]
    places = [0, *sorted(cuts), len(sent)]
    chunks = [sent[a:b] for a, b in pairwise(places)]
    digest = STOCK.messages_digest if kind == "messages" else STOCK.stream_digest
    assert answers(*chunks) == [(True, digest)]


@pytest.mark.parametrize("kind", SENT)
@given(data=st.data())
def test_no_changed_byte_is_agreed_on(kind: str, data: st.DataObject) -> None:
    sent = bytearray(SENT[kind])
    place = data.draw(st.integers(HEADER.size, len(sent) - 1).filter(is_hashed(kind)))
    sent[place] ^= data.draw(st.integers(1, 255))
    assert all(not agreed for agreed, _ in answers(bytes(sent)))


def is_hashed(kind: str) -> Callable[[int], bool]:
    """Everything is but a frame's kind and flags."""
    return lambda place: (
        kind == "stream" or (place - HEADER.size) % MESSAGE_BYTES not in (4, 5)
    )


def test_a_lost_a_doubled_and_a_swapped_message_are_noticed() -> None:
    sent, start = SENT["messages"], HEADER.size
    first, second = (
        sent[start + i * MESSAGE_BYTES : start + (i + 1) * MESSAGE_BYTES]
        for i in range(2)
    )
    head, rest = sent[:start], sent[start + 2 * MESSAGE_BYTES :]
    for changed in (second, first + first, second + first, first + second + second):
        assert [agreed for agreed, _ in answers(head, changed, rest)] == [False]


def test_a_frame_that_is_refused_is_answered_once_and_the_rest_ignored() -> None:
    refused = HEADER.pack(MESSAGES, 1) + bytes(4)
    assert [agreed for agreed, _ in answers(refused, bytes(1_000))] == [False]


def test_pings_come_back_as_they_are() -> None:
    written: list[bytes] = []
    receiver = Receiver(written.append)
    for chunk in (HEADER.pack(PINGS, 2)[:3], HEADER.pack(PINGS, 2)[3:] + b"ab", b"c"):
        receiver.received(chunk)
    assert written == [b"ab", b"c"]


def test_unknown_work_is_refused() -> None:
    with pytest.raises(WireError, match="no work of kind 9"):
        answers(HEADER.pack(9, 1))


def test_digests_agree_only_when_whole_and_equal() -> None:
    ours = STOCK.stream_digest
    assert same_digest(ours, bytes(ours))
    assert not same_digest(ours, ours[:-1])
    assert not same_digest(ours[:-1], ours[:-1])
    assert not same_digest(b"", b"")
    assert not same_digest(ours, bytes(DIGEST_BYTES))


@pytest.mark.parametrize("corrupt", ["messages", "stream"])
def test_a_corrupted_stock_differs_from_what_it_hashed_in_one_byte(
    corrupt: str,
) -> None:
    stock = Stock(messages=200, stream_bytes=200_000, corrupt=corrupt)
    sent = {
        "messages": (b"".join(stock.batches()), stock.messages_digest, MESSAGES),
        "stream": (b"".join(stock.blocks()), stock.stream_digest, STREAM),
    }
    for kind, (data, digest, number) in sent.items():
        amount = stock.message_count if kind == "messages" else stock.stream_bytes
        tail = frames.encode(KIND_END, 0, digest) if kind == "messages" else digest
        answer = answers(HEADER.pack(number, amount), data, tail)
        assert [agreed for agreed, _ in answer] == [kind != corrupt]


def test_every_message_is_another_one() -> None:
    splitter = frames.Splitter()
    bodies = [f.body for f in chain(*map(splitter.feed, STOCK.batches()))]
    assert len(set(bodies)) == len(bodies) == STOCK.message_count
    assert {len(body) for body in bodies} == {100}


@pytest.mark.parametrize(
    ("laps_us", "p50", "p99"),
    [([7], 7, 7), ([1, 9], 1, 9), ([*range(100, 0, -1)], 50, 99)],
)
def test_a_percentile_is_the_smallest_value_that_covers_it(
    laps_us: list[int], p50: float, p99: float
) -> None:
    done = Exchange(1.0, verified=True)
    figures = Figures([us * 1_000 for us in laps_us], done, done)
    assert (figures.lap_us(50), figures.lap_us(99)) == (p50, p99)
