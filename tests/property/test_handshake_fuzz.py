"""Whatever comes, in whatever order: no handshake raises or admits a stranger."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.auth.machine import (
    Admitted,
    DeadlinePassed,
    Effect,
    Event,
    Handshake,
    Malformed,
    Mode,
    PeerEnded,
    PinFailed,
    PinStored,
    Received,
    Refused,
    Role,
    SendMessage,
    Started,
    Unwanted,
    Wanted,
)
from barrel_p2p.auth.messages import Challenge, Fail, Hello, Ok, Response
from barrel_p2p.core.names import NodeReference
from barrel_p2p.errors import KeyMismatch, StorageError, WireError
from tests.handshakes import WALL_MS, Party, key_pair

# Few values, so that a run gets past the first checks.
STRANGER = key_pair()
NAMES = st.sampled_from(["a@h", "b@h", "c@h"])
PUBLIC = st.sampled_from([STRANGER.public_key, bytes(32), b"\x01" + bytes(31)])
BYTES32 = st.sampled_from([bytes(32), b"\x07" * 32]) | st.binary(
    min_size=32, max_size=32
)
SIGNATURES = st.sampled_from([b"", bytes(64), STRANGER.sign(b"")])
IDENTITY_HELLOS = st.builds(
    Hello, st.just(1), st.integers(1, 2), st.just(Mode.IDENTITY), NAMES, PUBLIC
)
COOKIE_HELLOS = st.builds(
    Hello, st.just(1), st.just(1), st.just(Mode.COOKIE), NAMES, st.just(b"")
)
CLOCKS = st.sampled_from([WALL_MS, WALL_MS + 30_000, 0, 2**64 - 1])
MESSAGES = st.one_of(
    IDENTITY_HELLOS,
    COOKIE_HELLOS,
    st.builds(Challenge, BYTES32, CLOCKS),
    st.builds(Response, SIGNATURES, BYTES32),
    st.just(Ok()),
    st.builds(Fail, st.sampled_from(["cookie", "new_one"]), st.text(max_size=9)),
)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Received, MESSAGES),
    st.just(Started()),
    st.just(Malformed(WireError("spoilt"))),
    st.just(PeerEnded()),
    st.just(DeadlinePassed()),
    st.just(PinStored()),
    st.just(PinFailed(StorageError("full"))),
    st.just(PinFailed(KeyMismatch("another"))),
    st.just(Wanted()),
    st.just(Unwanted("busy", "later")),
)


@st.composite
def legal_starts(draw: st.DrawFn, mode: Mode) -> list[Event]:
    """A peer that does all it can without a secret, as far as it is let."""
    key = STRANGER.public_key if mode is Mode.IDENTITY else b""
    signature = bytes(64) if mode is Mode.IDENTITY else b""
    whole: list[Event] = [
        Received(Hello(1, 1, mode, "a@h", key)),
        Received(Challenge(draw(BYTES32), WALL_MS)),
        Received(Response(signature, draw(BYTES32))),
        Received(Ok()),
        Wanted(),
        PinStored(),
        Received(Ok()),
    ]
    return [Started(), *whole[: draw(st.integers(0, len(whole)))]]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> dict[Mode, Party]:
    directory = tmp_path_factory.mktemp("fuzz")
    return {m: Party(directory / m.name, "b@h", auth_mode=m) for m in Mode}


@given(
    st.sampled_from(Mode),
    st.sampled_from(Role),
    st.data(),
    st.lists(EVENTS, max_size=8),
)
def test_random_events_in_random_order_never_raise_and_never_admit(
    nodes: dict[Mode, Party],
    mode: Mode,
    role: Role,
    data: st.DataObject,
    events: list[Event],
) -> None:
    node = nodes[mode]
    dialled = role is Role.DIALLER
    machine = Handshake(
        role,
        node.local(),
        node.trust,
        reference=NodeReference("a@h", None, None, None) if dialled else None,
        certificate_hash=bytes(32),
        exporter=bytes(32),
        nonce=b"\x09" * 32,
    )
    done: list[Effect] = []
    for event in [*data.draw(legal_starts(mode)), *events]:
        effects = machine.handle(event, now_ms=0, wall_ms=WALL_MS)
        assert not done or effects == []
        assert not any(isinstance(effect, Admitted) for effect in effects)
        done += [effect for effect in effects if isinstance(effect, Refused)]
        if done:
            assert effects in ([], effects[-1:], effects[-2:])
            if not done[0].by_peer and len(effects) > 1:  # type: ignore[union-attr]
                assert isinstance(effects[-2], SendMessage)
                assert isinstance(effects[-2].message, Fail)
    assert len(done) <= 1
    assert node.trust.list_trusted() == []
