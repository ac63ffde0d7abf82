"""Attackers on the wire between two nodes, with real QUIC on both of their sides.

``test_handshake_attacks`` has the same attacks on the machine alone, faster and in more
shapes. Here is what only real connections have: certificates, exporters, two victims
that dial at once, and sessions that end.

Negative control: each attack has to succeed against the signature it is known to break.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from barrel_p2p.auth.certs import ensure_certificate
from barrel_p2p.auth.machine import Mode
from barrel_p2p.auth.messages import Challenge, Hello, Message, Ok, Response
from barrel_p2p.node.node import Node
from tests.endpoints import eventually, within
from tests.tools import DEEP, rounds
from tests.unit.node.nodes import nodes
from tests.weaknesses import unbound, version_2, weakened
from tests.wire_attackers import Attacker, Leg, attacker, fresh_challenge

pytestmark = pytest.mark.timeout(900 if DEEP else 60)

A, B = "a@127.0.0.1", "b@127.0.0.1"
TRIALS = rounds(100, whole=1_000)
RELAYS = rounds(20, whole=1_000)  # They wait for the other side's acknowledgements.
CONTROLS = rounds(5, whole=50)


class Scene:
    """Two victims and what an attack needs of them.

    Attributes:
        one: An endpoint of the attacker.
        other: Another one, with another certificate unless the scene says not so.
        dials: What victims were made to dial.
    """

    def __init__(self, victims: list[Node], one: Attacker, other: Attacker) -> None:
        self.a, self.b = victims
        self.one, self.other = one, other
        self.dials: list[asyncio.Task[str]] = []

    async def lured(self, victim: Node, name: str, to: Attacker | None = None) -> Leg:
        """The leg on which ``victim`` dials ``name``, as it thinks."""
        to = to or self.one
        work = victim.connect(to.as_node(name))
        self.dials.append(asyncio.create_task(work))
        return await to.dialled()

    async def over(self) -> bool:
        """Hang up everywhere; whether any victim took what it was shown for true."""
        legs = self.one.legs + self.other.legs
        for leg in legs:
            await leg.settled()
        self.one.hang_up()
        self.other.hang_up()
        ends = await within(asyncio.gather(*self.dials, return_exceptions=True))
        self.dials.clear()
        receptions = [each._channels().reception for each in (self.a, self.b)]
        await eventually(lambda: not any(one.admitting for one in receptions))
        dialled = any(not isinstance(end, BaseException) for end in ends)
        return dialled or any(leg.admitted for leg in legs)


Attack = Callable[[Scene, random.Random], Awaitable[None]]


async def carry(source: Leg, sink: Leg) -> None:
    """Hand on what one victim says to the other, with a proof that fits there."""
    while (message := await source.next()) is not None:
        if isinstance(message, Response):
            sink.respond(message.signature)
        else:
            sink.say(message)
            if isinstance(message, Ok) and not sink.connection.dialled:
                return
    await sink.settled()
    sink.close()


async def relay(scene: Scene, rng: random.Random) -> None:
    """A1: a dials b, and everything is carried on."""
    front, back = await scene.lured(scene.a, B), await scene.other.dial(scene.b)
    await asyncio.gather(carry(front, back), carry(back, front))


async def relay_the_other_way(scene: Scene, rng: random.Random) -> None:
    """A1: with the roles of the victims exchanged."""
    front, back = await scene.lured(scene.b, A), await scene.other.dial(scene.a)
    await asyncio.gather(carry(front, back), carry(back, front))


async def crossed_dials(
    scene: Scene, rng: random.Random, second: Attacker | None = None
) -> None:
    """A2: both dial each other and meet one endpoint, so one certificate."""
    one = await scene.lured(scene.a, B)
    other = await scene.lured(scene.b, A, second)
    await _cross(one, other)


async def crossed_dials_to_two_endpoints(scene: Scene, rng: random.Random) -> None:
    """A2: the same with an endpoint for each."""
    await crossed_dials(scene, rng, scene.other)


async def _cross(one: Leg, other: Leg) -> None:
    to_a, to_b = await other.next(), await one.next()
    assert to_a is not None
    assert to_b is not None
    one.say(to_a)
    other.say(to_b)
    one.say(fresh_challenge())
    asked = await one.next()
    if asked is None:
        return
    other.say(asked)
    await other.next()  # Its own challenge; b could ask anything.
    signed = await other.next()
    mine = await one.next()
    answered = []
    if isinstance(signed, Response):
        # What b signed for its challenge of a is b's answer to a, were it not bound.
        one.respond(signed.signature)
        answered.append(one)
    if isinstance(mine, Response):
        other.respond(mine.signature)
        answered.append(other)
    await asyncio.gather(*map(_agree, answered))


async def _agree(leg: Leg) -> None:
    """Say OK as soon as the victim has, which stores what it believes first."""
    while (message := await leg.next()) is not None:
        if isinstance(message, Ok):
            leg.say(Ok())
            return


async def reflection(scene: Scene, rng: random.Random) -> None:
    """A3: a dials b twice and is to answer its own challenge as if it were b."""
    key = scene.a.public_key
    one, other = await scene.lured(scene.a, B), await scene.lured(scene.a, B2)
    for leg, name in ((one, B), (other, B2)):
        await leg.next()
        leg.say(Hello(1, 1, Mode.IDENTITY, name, key))
    one.say(fresh_challenge())
    asked = await one.next()
    if isinstance(asked, Challenge):
        other.say(asked)
        await other.next()
        answer = await other.next()
        if isinstance(answer, Response):
            one.respond(answer.signature)
            await _agree(one)
    await one.settled()


async def reflection_to_a_server(scene: Scene, rng: random.Random) -> None:
    """A3: the attacker dials b twice with b's own key, and plays it to itself."""
    one, other = await scene.one.dial(scene.b), await scene.one.dial(scene.b)
    for leg in (one, other):
        leg.say(Hello(1, 1, Mode.IDENTITY, A, scene.b.public_key))
    if await one.next() is None or await other.next() is None:
        return
    asked = await one.next()
    if isinstance(asked, Challenge):
        one.say(fresh_challenge())
        other.say(asked)
        other.respond(rng.randbytes(64))
        await other.next()
        answer = await other.next()
        one.respond(answer.signature if isinstance(answer, Response) else bytes(64))
        one.say(Ok())
    await one.settled()


async def interleaving(scene: Scene, rng: random.Random) -> None:
    """A3: sessions of all kinds at once; what one said goes to any, recombined."""
    legs = [
        await scene.lured(scene.a, B),
        await scene.lured(scene.b, A),
        await scene.one.dial(scene.a),
        await scene.one.dial(scene.b),
    ]
    steps = dict.fromkeys(range(len(legs)), 0)
    for _ in range(24):
        at = rng.randrange(len(legs))
        seen = [m for i, leg in enumerate(legs) if i != at for m in leg.heard]
        kind = (Hello, Challenge, Response, Ok)[min(steps[at], 3)]
        found = [message for message in seen if isinstance(message, kind)]
        if not found and kind not in (Challenge, Ok):
            continue
        steps[at] += 1
        _recombine(legs[at], kind, found, rng)
        await legs[at].settled()


def _recombine(
    leg: Leg, kind: type[Message], found: Sequence[Message], rng: random.Random
) -> None:
    if kind is Ok:
        leg.say(Ok())
    elif kind is Challenge and (not found or rng.random() < 0.2):
        leg.say(fresh_challenge())
    else:
        chosen = rng.choice(found)
        if isinstance(chosen, Response):
            leg.respond(chosen.signature)
        else:
            leg.say(chosen)


B2 = "b2@127.0.0.1"


@asynccontextmanager
async def scene(
    tmp_path: Path, mode: str = "tofu", *, stolen: bool = False
) -> AsyncIterator[Scene]:
    """Two victims that never met, or know each other's keys; an attacker between.

    ``stolen``: the attacker has the certificate of b, with its key, everywhere.
    """
    async with nodes(tmp_path, A, B, joined=False, auth_trust_mode=mode) as victims:
        a, b = victims
        if mode == "strict":
            a.keys.store_key(B, b.public_key)
            b.keys.store_key(A, a.public_key)
        first = ensure_certificate(tmp_path / (f"{B}/quic" if stolen else "evil"), B)
        second = first if stolen else ensure_certificate(tmp_path / "evil2")
        async with attacker(first) as one, attacker(second) as other:
            yield Scene(victims, one, other)


async def succeeded(attack: Attack, on: Scene, trials: int | None = None) -> int:
    """In how many trials anybody believed it."""
    if trials is None:
        trials = RELAYS if attack in (relay, relay_the_other_way) else TRIALS
    believed = 0
    for trial in range(trials):
        await within(attack(on, random.Random(trial)))
        believed += await on.over()
    return believed


ATTACKS: list[Attack] = [
    relay,
    relay_the_other_way,
    crossed_dials,
    crossed_dials_to_two_endpoints,
    reflection,
    reflection_to_a_server,
    interleaving,
]


@pytest.mark.parametrize("mode", ["tofu", "strict"])
@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attacker_on_the_wire_gets_nobody_admitted_and_nothing_pinned(
    tmp_path: Path, attack: Attack, mode: str
) -> None:
    """A1, A2, A3: by a member that knows the cookie."""
    async with scene(tmp_path, mode) as on:
        before = [each.keys.list_trusted() for each in (on.a, on.b)]
        assert await succeeded(attack, on) == 0
        assert [each.keys.list_trusted() for each in (on.a, on.b)] == before
        assert on.a.nodes() == on.b.nodes() == []


@pytest.mark.parametrize("attack", [relay, crossed_dials])
async def test_one_certificate_on_both_legs_does_not_help(
    tmp_path: Path, attack: Attack
) -> None:
    """A1, A2: the attacker has stolen a victim's certificate, with its key."""
    async with scene(tmp_path, stolen=True) as on:
        assert await succeeded(attack, on) == 0
        assert on.a.keys.list_trusted() == on.b.keys.list_trusted() == []


@pytest.mark.parametrize(
    ("attack", "weak"),
    [
        (relay, unbound),
        (relay_the_other_way, unbound),
        (crossed_dials, version_2),
        (crossed_dials_to_two_endpoints, unbound),
        (reflection, version_2),
    ],
)
async def test_the_attack_succeeds_against_the_signature_it_breaks(
    tmp_path: Path, attack: Attack, weak: Callable[..., bytes]
) -> None:
    async with scene(tmp_path) as on:
        with weakened(weak):
            for _ in range(CONTROLS):
                assert await succeeded(attack, on, 1) == 1
                for victim in (on.a, on.b):
                    for pinned in victim.keys.list_trusted():
                        victim.keys.delete_key(pinned.node)


async def test_interleaving_succeeds_against_the_documented_signature(
    tmp_path: Path,
) -> None:
    async with scene(tmp_path, "strict") as on:
        with weakened(version_2):
            assert await succeeded(interleaving, on, 4 * CONTROLS) > 0
