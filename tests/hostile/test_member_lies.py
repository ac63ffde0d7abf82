"""What a member can say of others costs memory and time that are bounded."""

from __future__ import annotations

import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.clock import SystemClock
from barrel_p2p.core.effects import Publish, Send
from barrel_p2p.core.inputs import Received
from barrel_p2p.core.members import MemberUp
from barrel_p2p.core.peers import PeerUp
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.errors import WireError
from barrel_p2p.services.member_inputs import ChannelUp, GoAway, Refuse, Start
from barrel_p2p.services.member_machine import (
    REFUSED_NAMES_MAX,
    SEQ_STEP_MAX,
    MemberMachine,
)
from barrel_p2p.services.member_messages import (
    LEASES_PER_FRAME_MAX,
    MEMBER_KINDS,
    SEQ_MAX,
    Alive,
    Leases,
    Leave,
    Suspect,
    decode,
    encode,
)
from barrel_p2p.services.member_table import MEMBERS_MAX


def machine() -> MemberMachine:
    made = MemberMachine("me@h", 5, wall=SystemClock(), rng=SeededRng(1))
    made.handle(Start(), now_ms=0)
    for peer in ("a@h", "b@h"):
        made.handle(ChannelUp(peer, 1), now_ms=0)
        made.handle(PeerUp(peer), now_ms=0)
    return made


@given(st.sampled_from([int(k) for k in MEMBER_KINDS]), st.binary(max_size=120))
def test_any_bytes_are_a_message_or_a_wire_error(kind: int, body: bytes) -> None:
    try:
        message = decode(kind, body)
    except WireError:
        return
    assert encode(message) == (kind, body)


def test_a_count_that_is_not_there_allocates_nothing() -> None:
    with pytest.raises(WireError, match="LEASES_PER_FRAME_MAX=1024"):
        decode(39, bytes(8) + b"\xff\xff")
    tracemalloc.start()
    try:
        with pytest.raises(WireError):
            decode(39, bytes(8) + LEASES_PER_FRAME_MAX.to_bytes(2))
        assert tracemalloc.get_traced_memory()[1] < 64 << 10
    finally:
        tracemalloc.stop()


def test_a_million_names_from_one_peer_are_bounded() -> None:
    """Leases of 10^6 nodes that do not exist: a full table refuses the rest (X6)."""
    made = machine()
    wall = SystemClock().wall_ms()
    tracemalloc.start()
    started = time.process_time()
    for frame in range(250):  # The table is full after 16; the cost stays the same.
        leases = tuple((f"x{frame}-{i}@h", 1, 1, 0) for i in range(1_024))
        made.handle(Received("a@h", Leases(wall, leases)), now_ms=frame)
    seconds = time.process_time() - started
    grown = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(made) == MEMBERS_MAX
    assert made.stats.refused == 250 * 1_024 - MEMBERS_MAX
    assert grown < 32 << 20
    assert seconds < 15
    for i in range(REFUSED_NAMES_MAX + 10):
        made.handle(Refuse(f"y{i}@h"), now_ms=300)
    assert made.stats.ignored == 10


def test_the_gone_make_room_for_the_living() -> None:
    made = machine()
    for i in range(MEMBERS_MAX):
        made.handle(Received("a@h", Leave(f"x{i}@h", 1, 1)), now_ms=1)
    lease = Leases(SystemClock().wall_ms(), (("c@h", 1, 1, 0),))
    effects = made.handle(Received("b@h", lease), now_ms=2)
    assert Publish(MemberUp("c@h", 1)) in effects
    assert len(made) == MEMBERS_MAX


def test_a_number_out_of_reach_takes_no_life() -> None:
    """Nobody can push a lease so high that its owner could not follow."""
    made = machine()
    wall = SystemClock().wall_ms()
    made.handle(Received("b@h", Leases(wall, (("b@h", 1, 1, 0),))), now_ms=0)
    far = 2 + SEQ_STEP_MAX
    for message in (
        Leases(wall, (("b@h", 1, far, 0), ("me@h", 5, SEQ_MAX, 0))),
        Alive("b@h", 1, far),
        Suspect("b@h", 1, far, "a@h", True),
        Leave("b@h", 1, far),
        Leave("me@h", 5, SEQ_MAX),
    ):
        made.handle(Received("a@h", message), now_ms=1)
    assert made.members() == ["b@h", "me@h"]
    assert made.suspects() == []
    assert made.seq < SEQ_STEP_MAX
    grown = Leases(wall, (("b@h", 1, 2, 0),))
    made.handle(Received("b@h", grown), now_ms=2)
    # The right number still is an answer.
    [answer] = made.handle(Received("a@h", Suspect("b@h", 1, 1, "a@h", True)), now_ms=3)
    assert answer == Send("a@h", Alive("b@h", 1, 2))


def test_a_claim_to_our_name_is_counted_and_changes_nothing() -> None:
    made = machine()
    claim = Leases(SystemClock().wall_ms(), (("me@h", 6, 1, 0),))
    made.handle(Received("a@h", claim), now_ms=1)
    assert made.stats.impostors == 1
    assert made.life("me@h") == 5


def test_nothing_that_is_said_after_leaving_calls_us_back() -> None:
    made = machine()
    made.handle(GoAway(), now_ms=1)
    seq = made.seq
    for message in (Alive("me@h", 5, seq + 9), Suspect("me@h", 5, seq, "a@h", False)):
        assert made.handle(Received("a@h", message), now_ms=2) == []
    assert made.seq == seq
