"""Attackers between, beside and in front of two nodes: nobody is let in by any of them.

An attacker here ends TLS on both of its sides, sees and holds back every message, and
sends what it likes. It signs nothing in the name of others. So whatever it does, no
victim may admit anybody: no two victims ever share a connection.

The same attackers have to succeed against what is known to be weak: the signature that
the documentation describes as version 2 (``nonce, time, own key, certificate``), and
one that is bound to no connection. Otherwise these tests would show nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from barrel_p2p.auth import machine as machine_module
from barrel_p2p.auth.machine import Handshake, Role
from barrel_p2p.auth.messages import Challenge, Fail, Hello, Message, Ok, Response
from barrel_p2p.auth.transcript import Exchange, proof
from tests.handshakes import COOKIE, WALL_MS, Link, Party, Side, talk
from tests.tools import DEEP, rounds
from tests.weaknesses import unbound, version_2, weakened

TRIALS = rounds(100, whole=1_000)
REPLAYS = rounds(100, whole=25_000)  # By each of four tests, so that 10^5 are made.
CERTIFICATE = b"the attacker's, byte for byte the same on both legs"
Attack = Callable[[Party, Party, random.Random], list[Side]]


@pytest.fixture(params=["tofu", "strict"])
def victims(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Party, Party]:
    """Two nodes that have never met, or that an operator made known to each other."""
    a, b = (Party(tmp_path, name, mode=request.param) for name in ("a@h", "b@h"))
    if request.param == "strict":
        a.knows(b)
        b.knows(a)
    return a, b


def leg() -> Link:
    """A connection whose acceptor is the attacker."""
    return Link.with_certificate(CERTIFICATE)


def sent[M: Message](side: Side, kind: type[M]) -> M:
    """The message of that kind that ``side`` has sent."""
    (found,) = [message for message in side.sent if isinstance(message, kind)]
    return found


def relay(a: Party, b: Party, rng: random.Random) -> list[Side]:
    """A1: a dials b, and the attacker carries every message on, unchanged."""
    dialler, acceptor = a.dial(leg(), b.name), b.accept(Link())
    talk(dialler, acceptor)
    return [dialler, acceptor]


def relay_with_a_stolen_certificate(
    a: Party, b: Party, rng: random.Random
) -> list[Side]:
    """A1: the attacker shows a the certificate of b, so only the exporters differ."""
    dialler, acceptor = a.dial(leg(), b.name), b.accept(leg())
    talk(dialler, acceptor)
    return [dialler, acceptor]


def relay_with_one_exporter(a: Party, b: Party, rng: random.Random) -> list[Side]:
    """A1: were the exporters ever equal, the certificates would still differ."""
    exporter = rng.randbytes(32)
    dialler = a.dial(Link(rng.randbytes(32), exporter), b.name)
    acceptor = b.accept(Link(rng.randbytes(32), exporter))
    talk(dialler, acceptor)
    return [dialler, acceptor]


def relay_by_a_member(a: Party, b: Party, rng: random.Random) -> list[Side]:
    """A1, by one who knows the cookie and so makes each proof fit its leg."""
    to_a, to_b = leg(), Link()
    dialler, acceptor = a.dial(to_a, b.name), b.accept(to_b)
    acceptor.receive(sent(dialler, Hello))
    dialler.receive(sent(acceptor, Hello))
    dialler.receive(sent(acceptor, Challenge))
    acceptor.receive(sent(dialler, Challenge))

    def exchange(link: Link) -> Exchange:
        return Exchange(
            protocol=1,
            dialler=sent(dialler, Hello),
            acceptor=sent(acceptor, Hello),
            dialler_challenge=sent(dialler, Challenge),
            acceptor_challenge=sent(acceptor, Challenge),
            certificate_hash=link.certificate_hash,
            exporter=link.exporter,
        )

    signature = sent(dialler, Response).signature
    acceptor.receive(Response(signature, proof(COOKIE, exchange(to_b), Role.DIALLER)))
    answers = [m for m in acceptor.sent if isinstance(m, Response)]
    answer = answers[0].signature if answers else rng.randbytes(64)
    dialler.receive(Response(answer, proof(COOKIE, exchange(to_a), Role.ACCEPTOR)))
    acceptor.receive(Ok())
    dialler.receive(Ok())
    return [dialler, acceptor]


def crossed_dials(a: Party, b: Party, rng: random.Random) -> list[Side]:
    """A2: each dials the other, and meets the attacker with one certificate."""
    one, other = a.dial(leg(), b.name), b.dial(leg(), a.name)
    one.receive(sent(other, Hello))
    other.receive(sent(one, Hello))
    one.receive(Challenge(rng.randbytes(32), WALL_MS))
    other.receive(sent(one, Challenge))
    one.receive(sent(other, Response))
    one.receive(Ok())
    other.receive(sent(one, Response))
    other.receive(Ok())
    return [one, other]


def reflection(a: Party, b: Party, rng: random.Random) -> list[Side]:
    """A3: a dials b twice, and has to answer its own challenge as if it were b."""
    own = Hello(1, 1, machine_module.Mode.IDENTITY, b.name, a.keys.public_key)
    one, other = a.dial(leg(), b.name), a.dial(leg(), b.name)
    for side in (one, other):
        side.receive(own)
    one.receive(Challenge(rng.randbytes(32), WALL_MS))
    for answered in [m for m in one.sent if isinstance(m, Challenge)]:
        other.receive(answered)
    for answer in [m for m in other.sent if isinstance(m, Response)]:
        one.receive(answer)
        one.receive(Ok())
    return [one, other]


def interleaving(a: Party, b: Party, rng: random.Random) -> list[Side]:
    """A3: many sessions at once; what one of them said goes to any, recombined."""
    sides = [
        side
        for _ in range(2)
        for side in (
            a.dial(leg(), b.name),
            b.dial(leg(), a.name),
            a.accept(Link()),
            b.accept(Link()),
        )
    ]
    delivered = {id(side): 0 for side in sides}
    for _ in range(60):
        side = rng.choice(sides)
        kind = (Hello, Challenge, Response, Ok)[min(delivered[id(side)], 3)]
        message = _crafted(
            kind, [m for s in sides if s is not side for m in s.sent], rng
        )
        if message is not None and side.result is None:
            delivered[id(side)] += 1
            side.receive(message)
    return sides


def _crafted(
    kind: type[Message], seen: list[Message], rng: random.Random
) -> Message | None:
    found = [message for message in seen if isinstance(message, kind)]
    if kind is Ok:
        return Ok()
    if kind is Challenge and (not found or rng.random() < 0.2):
        return Challenge(rng.randbytes(32), WALL_MS)
    if not found:
        return None
    chosen = rng.choice(found)
    if isinstance(chosen, Response) and rng.random() < 0.3:
        other = rng.choice(found)
        assert isinstance(other, Response)
        return Response(chosen.signature, other.proof)
    return chosen


def admitted(attack: Attack, victims: tuple[Party, Party]) -> int:
    """How many of the trials ended with anybody let in."""
    let_in = 0
    for trial in range(TRIALS):
        sides = attack(*victims, random.Random(trial))
        let_in += any(side.admitted for side in sides)
    return let_in


@pytest.mark.parametrize(
    "attack",
    [
        relay,
        relay_with_a_stolen_certificate,
        relay_with_one_exporter,
        relay_by_a_member,
        crossed_dials,
        reflection,
        interleaving,
    ],
)
def test_an_attacker_gets_nobody_admitted_and_nothing_pinned(
    attack: Attack, victims: tuple[Party, Party]
) -> None:
    before = [party.trust.list_trusted() for party in victims]
    assert admitted(attack, victims) == 0
    assert [party.trust.list_trusted() for party in victims] == before


@pytest.mark.parametrize(
    "attack",
    [
        relay,
        relay_with_a_stolen_certificate,
        relay_with_one_exporter,
        relay_by_a_member,
    ],
)
def test_the_relay_succeeds_where_nothing_is_bound(
    attack: Attack, victims: tuple[Party, Party]
) -> None:
    with weakened(unbound):
        assert admitted(attack, victims) == TRIALS


def test_crossed_dials_succeed_against_the_documented_signature(
    victims: tuple[Party, Party],
) -> None:
    with weakened(version_2):
        assert admitted(crossed_dials, victims) == TRIALS


def test_the_reflection_succeeds_against_the_documented_signature(
    tmp_path: Path,
) -> None:
    let_in = 0
    for trial in range(TRIALS):
        a, b = (Party(tmp_path / str(trial), name) for name in ("a@h", "b@h"))
        with weakened(version_2):
            sides = reflection(a, b, random.Random(trial))
        let_in += any(side.admitted for side in sides)
    assert let_in == TRIALS


def test_interleaving_succeeds_against_the_documented_signature(
    victims: tuple[Party, Party],
) -> None:
    with weakened(version_2):
        assert admitted(interleaving, victims) > TRIALS // 10


def test_the_transcript_alone_stops_a_reflection(
    victims: tuple[Party, Party], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handshake, "_name_fault", lambda *_: None)
    if victims[0].trust.get_trust_mode() == "strict":
        victims[0].trust.store_key("b@h", victims[0].keys.public_key)
    assert admitted(reflection, victims) == 0


def test_the_proof_of_the_cookie_cannot_be_given_back(tmp_path: Path) -> None:
    """A3, A12: in cookie mode nothing but the role tells the two proofs apart."""
    cookie_only = machine_module.Mode.COOKIE
    a = Party(tmp_path, "a@h", auth_mode=cookie_only)
    for _ in range(TRIALS):
        side = a.dial(leg(), "b@h")
        side.receive(Hello(1, 1, cookie_only, "b@h", b""))
        side.receive(sent_by_us := Challenge(bytes(32), WALL_MS))
        assert sent(side, Challenge) != sent_by_us
        side.receive(sent(side, Response))
        assert side.code == "cookie"


def honest(a: Party, b: Party, link: Link) -> tuple[Side, Side]:
    return a.dial(link, b.name), b.accept(link)


@pytest.mark.timeout(600 if DEEP else 60)
def test_a_recorded_session_opens_no_other(victims: tuple[Party, Party]) -> None:
    """A4: each side of a whole session, played to a new victim."""
    a, b = victims
    recorded = honest(a, b, Link())
    talk(*recorded)
    assert recorded[0].admitted
    for _ in range(REPLAYS):
        dialler, acceptor = a.dial(leg(), b.name), b.accept(Link())
        for message in recorded[0].sent:
            acceptor.receive(message)
        for message in recorded[1].sent:
            dialler.receive(message)
        assert not dialler.admitted
        assert not acceptor.admitted


@pytest.mark.timeout(600 if DEEP else 60)
def test_no_recorded_message_passes_for_a_fresh_one(
    victims: tuple[Party, Party],
) -> None:
    """A4: one message of an honest session is swapped for its recorded twin."""
    a, b = victims
    old = honest(a, b, Link())
    talk(*old)
    assert old[1].admitted
    replayed = 0
    for trial in range(REPLAYS):
        from_dialler, at = trial % 2 == 0, trial // 2 % 4
        dialler, acceptor = honest(a, b, Link())

        def swap(
            side: Side,
            message: Message,
            swapped: Side = dialler if from_dialler else acceptor,
            at: int = at,
            recorded: Side = old[0 if from_dialler else 1],
        ) -> Message:
            nonlocal replayed
            if side is not swapped or side.sent.index(message) != at:
                return message
            replayed += recorded.sent[at] != message
            return recorded.sent[at]

        carry(dialler, acceptor, swap)
        # HELLO and OK say the same each time, so swapping them changes nothing.
        fresh = at in (0, 3)
        assert dialler.admitted == acceptor.admitted == fresh
    assert replayed == REPLAYS // 2


def carry(
    dialler: Side, acceptor: Side, change: Callable[[Side, Message], Message]
) -> None:
    """``talk``, with ``change`` applied to every message on its way."""
    while dialler.outbox or acceptor.outbox:
        for sender, receiver in ((dialler, acceptor), (acceptor, dialler)):
            while sender.outbox:
                receiver.receive(change(sender, sender.take()))


def test_a_version_cannot_be_talked_down(tmp_path: Path) -> None:
    """A6: even who could change bytes inside TLS gets no older version."""
    a, b = (Party(tmp_path, name, versions=(1, 9)) for name in ("a@h", "b@h"))
    for trial in range(TRIALS):
        highest = 1 + trial % 8
        dialler, acceptor = honest(a, b, Link())

        def lower(_: Side, message: Message, highest: int = highest) -> Message:
            if not isinstance(message, Hello):
                return message
            return Hello(1, highest, message.mode, message.name, message.public_key)

        carry(dialler, acceptor, lower)
        assert not dialler.admitted
        assert not acceptor.admitted
    assert a.trust.list_trusted() == b.trust.list_trusted() == []


def test_a_mode_cannot_be_talked_down(victims: tuple[Party, Party]) -> None:
    """A6: a node that wants a key takes no HELLO without one, from either side."""
    cookie_only = machine_module.Mode.COOKIE
    for trial in range(TRIALS):
        dialler, acceptor = honest(*victims, Link())
        only = (dialler, acceptor, None)[trial % 3]

        def lower(side: Side, message: Message, only: Side | None = only) -> Message:
            if isinstance(message, Hello) and only in (side, None):
                return Hello(1, 1, cookie_only, message.name, b"")
            if isinstance(message, Response) and only in (side, None):
                return Response(b"", message.proof)
            return message

        carry(dialler, acceptor, lower)
        assert not dialler.admitted
        assert not acceptor.admitted


@pytest.mark.parametrize("early", [Ok(), Fail("cookie", "spoofed")])
def test_no_early_ok_and_no_spoofed_fail_lets_anybody_in(
    victims: tuple[Party, Party], early: Message
) -> None:
    """A6: injected before each message of either direction, and in place of each."""
    for trial in range(TRIALS):
        dialler, acceptor = honest(*victims, Link())
        sender, receiver = ((dialler, acceptor), (acceptor, dialler))[trial % 2]
        at, instead = trial // 2 % 4, trial // 8 % 2 == 0

        def inject(
            side: Side,
            message: Message,
            sender: Side = sender,
            receiver: Side = receiver,
            at: int = at,
            instead: bool = instead,
        ) -> Message:
            if side is not sender or side.sent.index(message) != at:
                return message
            if instead:
                return early
            receiver.receive(early)
            return message

        carry(dialler, acceptor, inject)
        last = at == 3 and isinstance(early, Ok)
        assert receiver.admitted == last, "at the place of an OK, an OK is no attack"


def test_ok_without_response_admits_nobody(victims: tuple[Party, Party]) -> None:
    """A6: whoever leaves out the proof is told so."""
    for _ in range(TRIALS):
        dialler, acceptor = honest(*victims, Link())
        acceptor.receive(dialler.take())
        dialler.receive(acceptor.take())
        dialler.receive(acceptor.take())
        acceptor.receive(dialler.take())
        acceptor.receive(Ok())
        dialler.receive(Ok())
        assert (acceptor.code, dialler.code) == ("malformed", "malformed")


def test_no_unknown_frame_is_taken_before_hello(victims: tuple[Party, Party]) -> None:
    """A6: 256 kinds, of which four are refused as too early and one ends it."""
    rng = random.Random(6)
    for kind in range(256):
        for side in honest(*victims, Link()):
            side.receive_bytes(kind, rng.randbytes(rng.randrange(300)))
            assert side.code == "malformed"
            assert side.told() == "malformed"


def test_the_cookie_is_never_on_the_wire(tmp_path: Path) -> None:
    """A12: neither as it is nor as anything that follows from it alone."""
    a, b = (Party(tmp_path, name) for name in ("a@h", "b@h"))
    seen: list[set[bytes]] = []
    for _ in range(3):
        sides = honest(a, b, Link())
        talk(*sides)
        assert sides[0].admitted
        seen.append({sent(side, Response).proof for side in sides})
        wire = b"".join(repr(side.sent).encode() for side in sides)
        assert COOKIE not in wire
    # A digest of the cookie alone would come twice.
    assert len(set().union(*seen)) == 6
