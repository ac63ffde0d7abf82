"""What an attacker says in a handshake on the wire instead of what it should."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from barrel_p2p.auth.machine import Mode
from barrel_p2p.auth.messages import Challenge, Fail, Hello, Message, Ok, Response
from barrel_p2p.errors import AuthError, BarrelError, PeerUnreachable
from barrel_p2p.node.node import Node
from barrel_p2p.wire.frames import encode
from tests.endpoints import eventually, within
from tests.tools import DEEP, rounds
from tests.unit.node.nodes import node, nodes
from tests.wire_attackers import Attacker, Leg, attacker, fresh_challenge

pytestmark = pytest.mark.timeout(900 if DEEP else 60)

A, B = "a@127.0.0.1", "b@127.0.0.1"
SCRIPTS = rounds(60, whole=2_000)

type Line = Message | bytes


def hello(key: bytes, **changes: object) -> Hello:
    fields: dict[str, object] = {
        "protocol_min": 1,
        "protocol_max": 1,
        "mode": Mode.IDENTITY,
        "name": B,
        "public_key": key,
    }
    return Hello(**(fields | changes))  # type: ignore[arg-type]


def scripts(key: bytes) -> list[list[Line]]:
    """Attempts to be b, whose key everybody knows and the attacker does not have."""
    honest: list[Line] = [
        hello(key),
        fresh_challenge(),
        Response(bytes(64), bytes(32)),
        Ok(),
    ]
    return [
        [Ok()],
        [Ok(), Ok()],
        [hello(key), Ok()],
        [hello(key), fresh_challenge(), Ok()],
        [hello(key), fresh_challenge(), Ok(), Ok()],
        [hello(key), Response(bytes(64), bytes(32)), Ok()],
        [*honest, *honest],
        honest,
        [hello(b"", mode=Mode.COOKIE), fresh_challenge(), Response(b"", bytes(32))],
        [hello(b"", mode=Mode.COOKIE), fresh_challenge(), Ok()],
        [hello(key, protocol_min=2, protocol_max=9), *honest[1:]],
        [hello(key), hello(key, protocol_max=9), *honest[1:]],
        [encode(9, 0, b"?"), *honest],
        [encode(0, 0, b""), *honest],
        [encode(200, 1, b"may be skipped on a channel"), *honest],
        [Fail("cookie", "spoofed"), *honest],
        [hello(key), Fail("duplicate", "spoofed"), *honest[1:]],
        [hello(key), Challenge(bytes(32), 0), *honest[2:]],
    ]


def random_script(key: bytes, rng: random.Random) -> list[Line]:
    lines = [line for script in scripts(key) for line in script]
    return rng.sample(lines, rng.randrange(1, 6))


def perform(leg: Leg, script: list[Line]) -> None:
    for line in script:
        if isinstance(line, bytes):
            leg.say_bytes(line)
        elif not isinstance(line, Response):
            leg.say(line)
        elif not leg.respond(line.signature):
            leg.say(line)  # Too early for a proof that fits.


async def tried(evil: Attacker, victim: Node, script: list[Line], dial: bool) -> bool:
    """Whether the victim believed it, as the attacker's server or its client."""
    work: asyncio.Task[str] | None = None
    if dial:
        leg = await evil.dial(victim)
    else:
        # Whoever is told that another dial stays waits for that one.
        waits = any(isinstance(m, Fail) and m.code == "duplicate" for m in script)
        dialling = victim.connect(evil.as_node(B), timeout=0.5 if waits else 10.0)
        work = asyncio.create_task(dialling)
        leg = await evil.dialled()
    for line in script:
        perform(leg, [line])
        await leg.settled()
    evil.hang_up()
    if work is not None:
        with pytest.raises((AuthError, BarrelError, PeerUnreachable)):
            await within(work)
    reception = victim._channels().reception
    await eventually(lambda: reception.admitting == 0)
    return leg.admitted


@pytest.mark.parametrize("dial", [True, False])
async def test_nobody_becomes_a_pinned_node_by_saying_something_else(
    tmp_path: Path, dial: bool
) -> None:
    """A6: versions, modes, early OK, OK without RESPONSE, spoofed FAIL, odd frames."""
    async with nodes(tmp_path, A, B) as (a, b), attacker() as evil:
        key = b.public_key
        a.disconnect(B)
        rng = random.Random(6)
        all_scripts = scripts(key) + [random_script(key, rng) for _ in range(SCRIPTS)]
        for script in all_scripts:
            assert not await tried(evil, a, script, dial), script
        assert [(p.node, p.key) for p in a.keys.list_trusted()] == [(B, key)]
        assert a.nodes() == []
        assert await b.connect(a) == A


@pytest.mark.parametrize("dial", [True, False])
async def test_the_same_says_nothing_to_a_node_that_has_no_pin(
    tmp_path: Path, dial: bool
) -> None:
    """E20: at first contact neither, and nothing is pinned on the way."""
    async with node(tmp_path, A) as a, node(tmp_path, B) as b, attacker() as evil:
        for script in scripts(b.public_key):
            assert not await tried(evil, a, script, dial), script
        assert a.keys.list_trusted() == []
        assert a.nodes() == []


async def told_duplicate(evil: Attacker, key: bytes) -> None:
    leg = await evil.dialled()
    for line in (hello(key), Fail("duplicate", "b has dialled a already")):
        perform(leg, [line])
        await leg.settled()
    leg.close()


async def test_who_is_told_duplicate_waits_for_the_channel_that_was_promised(
    tmp_path: Path,
) -> None:
    """It does not knock every second meanwhile, and has the channel once it is up."""
    async with node(tmp_path, A) as a, node(tmp_path, B) as b, attacker() as evil:
        waiting = asyncio.create_task(a.connect(evil.as_node(B)))
        await told_duplicate(evil, b.public_key)
        await asyncio.sleep(2.2)  # not synchronisation: nothing must happen
        assert evil.legs_seen == 1
        assert not waiting.done()
        assert await b.connect(a) == A
        assert await within(waiting, 1.0) == B


async def test_who_is_told_duplicate_for_nothing_dials_again_after_a_while(
    tmp_path: Path,
) -> None:
    async with node(tmp_path, A) as a, node(tmp_path, B) as b, attacker() as evil:
        waiting = asyncio.create_task(a.connect(evil.as_node(B), timeout=20.0))
        await told_duplicate(evil, b.public_key)
        started_s = asyncio.get_running_loop().time()
        await told_duplicate(evil, b.public_key)
        assert 2.5 < asyncio.get_running_loop().time() - started_s < 8.0
        waiting.cancel()
        await asyncio.wait([waiting])


def files(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*"))


def raw_hello(name: bytes, key: bytes) -> bytes:
    body = (1).to_bytes(2) + (1).to_bytes(2) + bytes([Mode.IDENTITY, len(name)])
    return encode(1, 0, body + name + key)


@pytest.mark.parametrize(
    "name",
    [
        b"",
        b"b",
        b"@127.0.0.1",
        b"B@127.0.0.1",
        b"b@127.0.0.1.",
        b"b@127.0.0.1\0",
        b"b@127.0.0.1\n",
        b"../b@127.0.0.1",
        b"..@..",
        b"b@h/../../x",
        b"b@/etc/passwd",
        "\u0432@127.0.0.1".encode(),
        b"\xff\xfe@h",
        b"b@" + b"h" * 199,
        b"b@" + b"h" * 253,
        b"b@h@h",
        b".b@h",
        b"-b@h",
    ],
)
async def test_a_name_that_is_none_is_refused_and_leaves_no_file(
    tmp_path: Path, name: bytes
) -> None:
    """A5: case, dots, look-alikes, paths and lengths, from a client and a server."""
    async with node(tmp_path, A) as a, attacker() as evil:
        key = a.public_key
        before = files(tmp_path)
        for dial in (True, False):
            assert not await tried(evil, a, [raw_hello(name, key)], dial)
        assert a.keys.list_trusted() == []
        assert files(tmp_path) == before


async def test_the_longest_name_is_pinned_as_it_is(tmp_path: Path) -> None:
    """A5: its file's name is longer than it, and still one."""
    name = f"{'n' * 188}@127.0.0.1"
    async with node(tmp_path, A) as a:
        directory = str(tmp_path / "long")
        async with node(tmp_path, name, data_dir=directory) as b:
            await b.connect(a)
            assert [p.node for p in a.keys.list_trusted()] == [name]
            key = b.public_key
    async with node(tmp_path, A) as again:
        assert [(p.node, p.key) for p in again.keys.list_trusted()] == [(name, key)]
