"""Whom a whole node takes in: pins, races for them, revocation, and the trust mode."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from barrel_p2p.auth.signing import fingerprint
from barrel_p2p.core.clock import SystemClock
from barrel_p2p.core.peers import NodeDown
from barrel_p2p.errors import (
    AuthError,
    AuthModeMismatch,
    CookieMismatch,
    KeyMismatch,
    NameMismatch,
    PeerError,
    PeerTsSkew,
    PeerUnreachable,
    RevokedKey,
    UntrustedKey,
)
from barrel_p2p.node.node import Node
from tests.endpoints import eventually, within
from tests.tools import DEEP, rounds
from tests.unit.node.nodes import config, node, nodes

pytestmark = pytest.mark.timeout(900 if DEEP else 60)

A, B, C = "a@127.0.0.1", "b@127.0.0.1", "c@127.0.0.1"


def pins(one: Node) -> dict[str, bytes]:
    return {pinned.node: pinned.key for pinned in one.keys.list_trusted()}


def at(name: str, one: Node) -> str:
    """The address of ``one`` under another name."""
    return f"{name}={one.address.host}:{one.address.port}"


@contextlib.asynccontextmanager
async def apart(tmp_path: Path, **changes: object) -> AsyncIterator[list[Node]]:
    """Two nodes that have never met."""
    async with nodes(tmp_path, A, B, joined=False, **changes) as both:
        yield both


async def test_a_peer_without_the_cookie_creates_no_pin(tmp_path: Path) -> None:
    """E20, in both roles."""
    async with (
        node(tmp_path, A) as a,
        node(tmp_path, B, dist_cookie="a guess at the cookie") as evil,
    ):
        for one, other in ((evil, a), (a, evil)):
            with pytest.raises(CookieMismatch):
                await one.connect(other)
        assert pins(a) == {}
        assert list((tmp_path / A / "keys" / "trusted").iterdir()) == []


async def test_a_server_is_not_pinned_under_another_name_than_the_dialled_one(
    tmp_path: Path,
) -> None:
    """E20: not under the dialled name, and not under its own."""
    async with apart(tmp_path) as (a, evil):
        with pytest.raises(NameMismatch):
            await a.connect(at("bank@127.0.0.1", evil))
        assert pins(a) == {}
        assert a.nodes() == evil.nodes() == []


async def test_a_switch_to_strict_refuses_the_next_unknown_peer(tmp_path: Path) -> None:
    """E22, in both roles; who is pinned already stays welcome."""
    async with nodes(tmp_path, A, B, C, joined=False) as (a, b, c):
        await a.connect(b)
        a.keys.set_trust_mode("strict")
        for one, other in ((c, a), (a, c)):
            with pytest.raises(UntrustedKey):
                await one.connect(other)
        assert pins(a) == {B: b.public_key}
        a.disconnect(b)
        assert await b.connect(a) == A
        a.keys.set_trust_mode("tofu")
        assert await c.connect(a) == A


async def test_a_key_that_is_copied_to_trusted_is_picked_up(tmp_path: Path) -> None:
    async with apart(tmp_path, auth_trust_mode="strict") as (a, b):
        with pytest.raises(UntrustedKey):
            await a.connect(b)
        for one, other in ((a, b), (b, a)):
            keys = tmp_path / one.name / "keys" / "trusted"
            key_file = tmp_path / other.name / "keys" / "node.pub"
            (keys / f"{other.name}.pub").write_bytes(key_file.read_bytes())
        assert await a.connect(b) == B
        assert pins(a) == {B: b.public_key}


@pytest.mark.parametrize("revoker_dialled", [True, False])
async def test_a_revoked_peer_loses_its_session_and_gets_no_other(
    tmp_path: Path, revoker_dialled: bool
) -> None:
    async with apart(tmp_path) as (a, b):
        await (a.connect(b) if revoker_dialled else b.connect(a))
        async with a.events() as at_a, b.events() as at_b:
            a.keys.revoke(B)
            assert await at_a.next(timeout=1) == NodeDown(B, "revoked")
            assert await at_b.next(timeout=1) == NodeDown(A, "revoked")
        for one, other in ((a, b), (b, a)):
            with pytest.raises(RevokedKey):
                await one.connect(other)
        assert a.nodes() == b.nodes() == []
        a.keys.unrevoke(B)
        assert await b.connect(a) == A


async def test_a_revoked_key_loses_its_sessions_under_other_names_too(
    tmp_path: Path,
) -> None:
    async with node(tmp_path, A) as a, node(tmp_path, B) as b:
        one, other = (tmp_path / name / "keys" for name in (A, C))
        other.parent.mkdir(mode=0o700)
        shutil.copytree(one, other)
        async with node(tmp_path, C) as twin:
            assert twin.public_key == a.public_key
            await a.connect(b)
            await twin.connect(b)
            await eventually(lambda: b.nodes() == [A, C])
            b.keys.revoke(A)
            assert b.nodes() == []
            await eventually(lambda: twin.nodes() == [])
            with pytest.raises(RevokedKey):
                await twin.connect(b)


async def test_revoking_from_another_thread_closes_the_session(tmp_path: Path) -> None:
    async with apart(tmp_path) as (a, b):
        await a.connect(b)
        async with a.events() as events:
            await asyncio.to_thread(a.keys.revoke, B)
            assert await events.next(timeout=1) == NodeDown(B, "revoked")


async def test_a_revocation_copied_in_by_hand_ends_the_session_at_the_next_handshake(
    tmp_path: Path,
) -> None:
    async with nodes(tmp_path, A, B, C, joined=False) as (a, b, c):
        await a.connect(b)
        await b.connect(c)
        c.keys.revoke(B)
        await eventually(lambda: not c.nodes())
        record = f"keys/revoked/{B}.json"
        shutil.copy(tmp_path / C / record, tmp_path / A / record)
        async with a.events() as events:
            assert await c.connect(a) == A
            assert await events.next(timeout=1) == NodeDown(B, "revoked")
        with pytest.raises(RevokedKey):
            await b.connect(a)
        assert a.keys.list_revoked() == [B]


async def test_a_reference_with_the_wrong_fingerprint_is_refused(
    tmp_path: Path,
) -> None:
    async with apart(tmp_path) as (a, b):
        wrong, right = (fingerprint(one.public_key).ssh for one in (a, b))
        with pytest.raises(KeyMismatch):
            await a.connect(f"{at(B, b)}#{wrong}")
        assert pins(a) == {}
        assert a.nodes() == b.nodes() == []
        assert await a.connect(f"{at(B, b)}#{right}") == B
        with pytest.raises(KeyMismatch):
            await a.connect(f"{at(B, b)}#{wrong}")


async def test_a_reference_with_a_fingerprint_is_as_good_as_a_pin(
    tmp_path: Path,
) -> None:
    async with (
        node(tmp_path, A, auth_trust_mode="strict") as a,
        node(tmp_path, B) as b,
    ):
        with pytest.raises(UntrustedKey):
            await a.connect(b)
        assert await a.connect(f"{at(B, b)}#{fingerprint(b.public_key).ssh}") == B


class Ahead:
    """The system's clocks, the one on the wall wrong by some minutes."""

    def __init__(self, minutes: int) -> None:
        self._ahead_ms = minutes * 60_000
        self._right = SystemClock()
        self.now_ms = self._right.now_ms

    def wall_ms(self) -> int:
        return self._right.wall_ms() + self._ahead_ms


@pytest.mark.parametrize("minutes", [5, -5])
async def test_a_peer_whose_clock_is_minutes_off_is_refused(
    tmp_path: Path, minutes: int
) -> None:
    """SEC-05: in both roles; with the right time it is welcome."""
    wrong = Node(config=config(tmp_path, B), clock=Ahead(minutes))
    async with node(tmp_path, A) as a:
        async with wrong as b:
            for one, other in ((a, b), (b, a)):
                with pytest.raises(PeerTsSkew):
                    await one.connect(other)
        assert pins(a) == {}
        async with node(tmp_path / "new", B) as b:
            assert await b.connect(a) == A


async def test_another_key_under_a_pinned_name_is_refused(tmp_path: Path) -> None:
    """A5: in both roles, and the pin stays."""
    async with node(tmp_path, A) as a:
        async with node(tmp_path, B) as b:
            await a.connect(b)
            key = b.public_key
        async with node(tmp_path / "evil", B) as evil:
            for one, other in ((evil, a), (a, evil)):
                with pytest.raises(KeyMismatch):
                    await one.connect(other)
        assert pins(a) == {B: key}
        assert a.nodes() == []


async def test_of_two_first_contacts_that_race_exactly_one_is_pinned(
    tmp_path: Path,
) -> None:
    """A7: two keys claim one name at once; the other one finds a pin."""
    async with (
        node(tmp_path, A) as a,
        node(tmp_path / "one", B) as one,
        node(tmp_path / "two", B) as two,
    ):
        won = set()
        for turn in range(rounds(20, whole=300)):
            racers = [one, two] if turn % 2 else [two, one]
            dials = (each.connect(a) for each in racers)
            ends = await within(asyncio.gather(*dials, return_exceptions=True))
            (winner,) = [
                each for each, end in zip(racers, ends, strict=True) if end == A
            ]
            (refused,) = [end for end in ends if end != A]
            assert isinstance(refused, KeyMismatch)
            assert pins(a) == {B: winner.public_key}
            won.add(winner.public_key)
            assert a.disconnect(B)
            await eventually(lambda: one.nodes() == two.nodes() == [])
            a.keys.delete_key(B)
        assert len(won) == 2, "one always wins, so nothing raced"


async def test_a_node_dialled_and_dialling_at_first_contact_pins_one_key(
    tmp_path: Path,
) -> None:
    """A7: it dials one holder of the name while the other dials it."""
    async with (
        node(tmp_path, A) as a,
        node(tmp_path / "one", B) as one,
        node(tmp_path / "two", B) as two,
    ):
        for turn in range(rounds(3, whole=20)):
            dials = [a.connect(at(B, one)), two.connect(at(A, a))]
            if turn % 2:
                dials.reverse()
            ends = await within(asyncio.gather(*dials, return_exceptions=True))
            assert len(pins(a)) == 1
            kept = pins(a)[B]
            (holder,) = [each for each in (one, two) if each.public_key == kept]
            for end in ends:
                assert end in (A, B) or isinstance(
                    end, AuthError | PeerError | PeerUnreachable
                )
            (stranger,) = [each for each in (one, two) if each is not holder]
            assert stranger.nodes() == []
            a.disconnect(B)
            await eventually(lambda: one.nodes() == two.nodes() == [])
            a.keys.delete_key(B)


@pytest.mark.parametrize(
    ("patterns", "matches"),
    [
        ([C], True),
        (["*@127.0.0.1"], True),
        ([B, "c@*"], True),
        ([B, "*@elsewhere"], False),
        ([], False),
    ],
)
async def test_a_node_that_the_patterns_name_needs_the_cookie_alone(
    tmp_path: Path, patterns: list[str], matches: bool
) -> None:
    """AUC-13, AUC-14: who needs a key has a pin afterwards, who does not has none."""
    theirs = ["a@*"] if matches else []
    async with (
        node(tmp_path, A, cookie_only_nodes=patterns) as a,
        node(tmp_path, C, cookie_only_nodes=theirs) as c,
    ):
        assert a.config.cookie_only_nodes == tuple(patterns)
        assert await c.connect(a) == A
        assert pins(a) == ({} if matches else {C: c.public_key})


async def test_a_node_that_wants_a_key_takes_nobody_without(tmp_path: Path) -> None:
    """A6: the mode is not the peer's to choose."""
    async with (
        node(tmp_path, A) as a,
        node(tmp_path, C, cookie_only_nodes=["*@*"]) as c,
    ):
        for one, other in ((a, c), (c, a)):
            with pytest.raises(AuthModeMismatch):
                await one.connect(other)
        assert pins(a) == pins(c) == {}
