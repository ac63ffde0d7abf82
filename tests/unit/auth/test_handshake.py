"""Two honest nodes admit each other, in one order of messages and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from barrel_p2p.auth.machine import (
    Admitted,
    DeadlinePassed,
    Handshake,
    LocalNode,
    Malformed,
    Mode,
    PeerEnded,
    PeerIdentity,
    Refused,
    Role,
    Unwanted,
    Wanted,
)
from barrel_p2p.auth.messages import (
    Challenge,
    Fail,
    Hello,
    Message,
    Ok,
    Response,
    cut,
)
from barrel_p2p.auth.signing import fingerprint
from barrel_p2p.auth.trust import TrustStore
from barrel_p2p.auth.verdict import Verdict
from barrel_p2p.core.names import NodeReference
from barrel_p2p.errors import InvalidValue, WireError
from tests.handshakes import COOKIE, WALL_MS, Link, Party, Side, key_pair, talk


@pytest.fixture
def a(tmp_path: Path) -> Party:
    return Party(tmp_path, "a@h")


@pytest.fixture
def b(tmp_path: Path) -> Party:
    return Party(tmp_path, "b@h")


def pair(a: Party, b: Party, reference: str | None = None) -> tuple[Side, Side]:
    link = Link()
    return a.dial(link, reference or b.name), b.accept(link)


def meet(a: Party, b: Party, reference: str | None = None) -> tuple[Side, Side]:
    dialler, acceptor = pair(a, b, reference)
    talk(dialler, acceptor)
    return dialler, acceptor


def kinds(sent: list[Message]) -> list[type[Message]]:
    return [type(message) for message in sent]


def test_a_first_contact_pins_and_admits_both(a: Party, b: Party) -> None:
    """AUT-20: in tofu mode the first key is stored and from then on trusted."""
    dialler, acceptor = meet(a, b)
    key_a, key_b = a.keys.public_key, b.keys.public_key
    assert dialler.result == Admitted(
        PeerIdentity("b@h", key_b, 1, Mode.IDENTITY, True)
    )
    assert acceptor.result == Admitted(
        PeerIdentity("a@h", key_a, 1, Mode.IDENTITY, True)
    )
    assert kinds(dialler.sent) == [Hello, Challenge, Response, Ok]
    assert kinds(acceptor.sent) == [Hello, Challenge, Response, Ok]
    assert a.trust.is_trusted("b@h", key_b)
    assert b.trust.is_trusted("a@h", key_a)


def test_a_second_contact_is_no_first_one(a: Party, b: Party) -> None:
    meet(a, b)
    for side in meet(b, a):
        assert isinstance(side.result, Admitted)
        assert not side.result.peer.first_contact


def test_the_dialler_admits_only_after_the_acceptor_s_ok(a: Party, b: Party) -> None:
    dialler, acceptor = pair(a, b)
    acceptor.receive(dialler.take())
    for _ in range(2):
        dialler.receive(acceptor.take())
    for _ in range(2):
        acceptor.receive(dialler.take())
    dialler.receive(acceptor.take())
    assert (dialler.result, acceptor.result) == (None, None)
    assert b.trust.list_trusted() == []
    acceptor.receive(dialler.take())
    assert acceptor.admitted
    assert dialler.result is None
    dialler.receive(acceptor.take())
    assert dialler.admitted


def test_a_stranger_learns_a_name_a_key_and_a_nonce(a: Party, b: Party) -> None:
    dialler, acceptor = pair(a, b)
    acceptor.receive(dialler.take())
    assert kinds(acceptor.sent) == [Hello, Challenge]


def test_another_name_than_the_dialled_one_gets_nothing_signed(
    a: Party, b: Party
) -> None:
    """E20: a server cannot get pinned under a name other than the dialled one."""
    dialler, acceptor = meet(a, b, "c@h")
    assert (dialler.code, dialler.told()) == ("name_mismatch", "name_mismatch")
    assert kinds(dialler.sent) == [Hello, Fail]
    assert isinstance(acceptor.result, Refused)
    assert (acceptor.result.code, acceptor.result.by_peer) == ("name_mismatch", True)
    assert a.trust.list_trusted() == b.trust.list_trusted() == []


def test_a_peer_without_the_cookie_is_pinned_by_nobody(a: Party, b: Party) -> None:
    """E20: a peer without the cluster secret cannot create a pin."""
    a.cookie = bytes(32)
    dialler, acceptor = meet(a, b)
    assert acceptor.code == dialler.code == "cookie"
    assert b.trust.list_trusted() == a.trust.list_trusted() == []
    assert Response not in kinds(acceptor.sent)


def test_a_switch_to_strict_refuses_the_next_stranger(
    a: Party, b: Party, tmp_path: Path
) -> None:
    """E22: the switch acts on the next handshake; AUT-19: strict refuses strangers."""
    assert meet(a, b)[1].admitted
    b.trust.set_trust_mode("strict")
    stranger = Party(tmp_path, "c@h")
    _, refusing = meet(stranger, b)
    assert (refusing.code, refusing.told()) == ("untrusted_key", "untrusted_key")
    assert kinds(refusing.sent) == [Fail]
    assert b.trust.lookup_key("c@h") is None
    assert meet(a, b)[1].admitted
    b.trust.set_trust_mode("tofu")
    assert meet(stranger, b)[1].admitted


def test_a_strict_dialler_takes_the_key_that_its_reference_names(
    a: Party, b: Party
) -> None:
    a.trust.set_trust_mode("strict")
    assert meet(a, b)[0].code == "untrusted_key"
    named = f"b@h#{fingerprint(b.keys.public_key).ssh}"
    dialler, _ = meet(a, b, named)
    assert dialler.admitted
    assert a.trust.is_trusted("b@h", b.keys.public_key)


def test_another_key_than_the_reference_names_gets_nothing_signed(
    a: Party, b: Party
) -> None:
    dialler, _ = meet(a, b, f"b@h#{fingerprint(key_pair().public_key).ssh}")
    assert dialler.code == "key_mismatch"
    assert kinds(dialler.sent) == [Hello, Fail]


def test_a_reference_with_a_key_wants_it_proved_whatever_the_patterns_say(
    a: Party, b: Party
) -> None:
    a.auth_mode = b.auth_mode = Mode.COOKIE
    dialler, _ = meet(a, b, f"b@h#{fingerprint(b.keys.public_key).ssh}")
    assert dialler.code == "mode"


def test_another_key_than_the_pinned_one_is_refused_on_both_sides(
    a: Party, b: Party
) -> None:
    """AUT-05: another key is not trusted, and the pin stays."""
    meet(a, b)
    pinned, b.keys = b.keys.public_key, key_pair()
    dialler, _ = meet(a, b)
    assert (dialler.code, kinds(dialler.sent)) == ("key_mismatch", [Hello, Fail])
    _, acceptor = meet(b, a)
    assert (acceptor.code, kinds(acceptor.sent)) == ("key_mismatch", [Fail])
    assert a.trust.lookup_key("b@h") == pinned


def test_a_revoked_name_and_a_revoked_key_under_any_name_are_refused(
    a: Party, b: Party, tmp_path: Path
) -> None:
    meet(a, b)
    b.trust.revoke("a@h")
    assert meet(a, b)[1].code == "revoked_key"
    other = Party(tmp_path, "other@h")
    other.keys = a.keys
    assert meet(other, b)[1].code == "revoked_key"
    assert meet(b, other)[0].code == "revoked_key"
    a.keys = key_pair()
    assert meet(a, b)[1].code == "revoked_key"


def test_a_revocation_in_the_middle_of_a_handshake_counts(a: Party, b: Party) -> None:
    dialler, acceptor = pair(a, b)
    acceptor.answer = None
    talk(dialler, acceptor)
    b.trust.revoke("a@h")
    acceptor.feed(Wanted())
    talk(dialler, acceptor)
    assert (acceptor.code, dialler.code) == ("revoked_key", "revoked_key")
    b.trust.unrevoke("a@h")
    dialler, acceptor = pair(a, b)
    acceptor.receive(dialler.take())
    for _ in range(2):
        dialler.receive(acceptor.take())
    assert kinds(dialler.sent) == [Hello, Challenge, Response]
    a.trust.revoke("b@h")
    talk(dialler, acceptor)
    assert (dialler.code, acceptor.code) == ("revoked_key", "revoked_key")


class PinnedAtLook:
    """A store in which another thread pins another key just before one look."""

    def __init__(self, store: TrustStore, look: int) -> None:
        self._store = store
        self._left = look

    def check(self, name: str, key: bytes | None) -> Verdict:
        self._left -= 1
        if self._left == 0:
            self._store.store_key(name, key_pair().public_key)
        return self._store.check(name, key)


@pytest.mark.parametrize("role", [Role.DIALLER, Role.ACCEPTOR])
def test_a_key_is_admitted_only_if_every_look_found_no_other_one(
    tmp_path: Path, role: Role
) -> None:
    """A7: of two first contacts that race, the other one's pin may come at any time."""
    refused = 0
    for look in range(1, 10):
        a, b = Party(tmp_path / str(look), "a@h"), Party(tmp_path / str(look), "b@h")
        looking = a if role is Role.DIALLER else b
        dialler, acceptor = pair(a, b)
        side = dialler if looking is a else acceptor
        side.machine._trust = PinnedAtLook(looking.trust, look)
        talk(dialler, acceptor)
        (pinned,) = looking.trust.list_trusted()
        shown = b.keys.public_key if looking is a else a.keys.public_key
        assert side.admitted == (pinned.key == shown)
        refused += not side.admitted
    assert refused >= 3, "at HELLO, before the pin and after it"
    assert side.admitted, "and without another pin it is"


@pytest.mark.parametrize("skew_ms", [0, 1_000, -1_000, 30_000, -30_000])
def test_clocks_within_the_window_are_accepted(
    a: Party, b: Party, skew_ms: int
) -> None:
    """AUT-27 and SEC-05: now and a second either way; ours up to the whole window."""
    a.clock.at_ms = WALL_MS + skew_ms
    dialler, acceptor = meet(a, b)
    assert dialler.admitted
    assert acceptor.admitted


@pytest.mark.parametrize("skew_ms", [30_001, -30_001, 300_000, -300_000])
def test_clocks_beyond_the_window_are_refused_and_told_so(
    a: Party, b: Party, skew_ms: int
) -> None:
    """SEC-05: five minutes off are peer_ts_skew; ours from the first ms beyond."""
    a.clock.at_ms = WALL_MS + skew_ms
    dialler, acceptor = meet(a, b)
    assert (dialler.code, acceptor.code) == ("peer_ts_skew", "peer_ts_skew")
    assert kinds(dialler.sent) == [Hello, Fail]


def test_a_step_of_the_wall_clock_in_the_middle_changes_nothing(
    a: Party, b: Party
) -> None:
    """AUT-25: durations are monotonic, so a wall clock set to the far future is too."""
    dialler, acceptor = pair(a, b)
    a.clock.at_ms += 10**12
    b.clock.at_ms -= 10**11
    talk(dialler, acceptor)
    assert dialler.admitted
    assert acceptor.admitted


def test_time_that_passes_is_no_skew(a: Party, b: Party) -> None:
    dialler, acceptor = pair(a, b)
    for party in (a, b):
        party.now_ms += 3_600_000
    talk(dialler, acceptor)
    assert dialler.admitted
    assert acceptor.admitted


def test_the_greatest_common_version_is_used(a: Party, b: Party) -> None:
    a.versions, b.versions = (1, 7), (3, 5)
    for side in meet(a, b):
        assert isinstance(side.result, Admitted)
        assert side.result.peer.protocol == 5


@pytest.mark.parametrize("theirs", [(2, 3), (6, 9)])
def test_without_a_common_version_both_ranges_are_named(
    a: Party, b: Party, theirs: tuple[int, int]
) -> None:
    a.versions, b.versions = (4, 5), theirs
    dialler, acceptor = meet(a, b)
    assert isinstance(acceptor.result, Refused)
    assert isinstance(dialler.result, Refused)
    assert (dialler.code, acceptor.code) == ("version", "version")
    for text in (dialler.result.text, acceptor.result.text):
        assert "4 to 5" in text
        assert f"{theirs[0]} to {theirs[1]}" in text


def test_the_cookie_alone_admits_where_both_ask_for_no_more(a: Party, b: Party) -> None:
    a.auth_mode = b.auth_mode = Mode.COOKIE
    dialler, acceptor = meet(a, b)
    expected = PeerIdentity("b@h", None, 1, Mode.COOKIE, False)
    assert dialler.result == Admitted(expected)
    assert acceptor.admitted
    assert a.trust.list_trusted() == b.trust.list_trusted() == []
    assert all(m.public_key == b"" for m in dialler.sent if isinstance(m, Hello))
    assert all(m.signature == b"" for m in acceptor.sent if isinstance(m, Response))


def test_the_cookie_alone_still_has_to_be_the_right_one(a: Party, b: Party) -> None:
    a.auth_mode = b.auth_mode = Mode.COOKIE
    b.cookie = bytes(32)
    assert meet(a, b)[1].code == "cookie"


@pytest.mark.parametrize(
    "modes", [(Mode.COOKIE, Mode.IDENTITY), (Mode.IDENTITY, Mode.COOKIE)]
)
def test_both_have_to_ask_for_the_same_mode(
    a: Party, b: Party, modes: tuple[Mode, Mode]
) -> None:
    a.auth_mode, b.auth_mode = modes
    dialler, acceptor = meet(a, b)
    assert (dialler.code, acceptor.code) == ("mode", "mode")


def test_a_revoked_name_is_refused_in_cookie_mode_too(a: Party, b: Party) -> None:
    a.auth_mode = b.auth_mode = Mode.COOKIE
    b.trust.revoke("a@h")
    assert meet(a, b)[1].code == "revoked_key"


def test_a_node_that_meets_itself_refuses(a: Party, tmp_path: Path) -> None:
    link = Link()
    dialler, acceptor = a.dial(link, "x@h"), a.accept(link)
    talk(dialler, acceptor)
    assert (dialler.code, acceptor.code) == ("self_connect", "self_connect")
    assert a.dial(Link(), "a@h").code == "self_connect"
    copied = Party(tmp_path, "copy@h")
    copied.keys = a.keys
    assert meet(copied, a)[1].code == "self_connect"


def test_who_is_revoked_while_its_pin_is_stored_is_refused(a: Party, b: Party) -> None:
    dialler, acceptor = pair(a, b)
    acceptor.pinned = lambda name: b.trust.revoke(name)
    talk(dialler, acceptor)
    assert (dialler.code, acceptor.code) == ("revoked_key", "revoked_key")
    assert b.trust.list_trusted() == []


def test_an_unwanted_session_is_refused_before_ok_and_pins_nothing(
    a: Party, b: Party
) -> None:
    dialler, acceptor = pair(a, b)
    acceptor.answer = Unwanted("duplicate", "another session stays")
    talk(dialler, acceptor)
    assert acceptor.result == Refused("duplicate", "another session stays", False)
    assert dialler.result == Refused("duplicate", "another session stays", True)
    assert Ok not in kinds(acceptor.sent)
    assert b.trust.list_trusted() == []
    assert acceptor.asked is not None
    assert acceptor.asked.peer.name == "a@h"


def test_a_pin_that_cannot_be_stored_refuses(a: Party, b: Party) -> None:
    dialler, acceptor = pair(a, b)
    (b.trust_directory / "trusted").rename(b.trust_directory / "elsewhere")
    talk(dialler, acceptor)
    assert (acceptor.code, dialler.code) == ("pin_failed", "pin_failed")
    assert isinstance(dialler.result, Refused)
    assert str(b.trust_directory) not in dialler.result.text
    assert b.trust.lookup_key("a@h") is None


def test_the_deadline_refuses_and_says_so(a: Party, b: Party) -> None:
    for side in pair(a, b):
        side.feed(DeadlinePassed())
        assert (side.code, side.told()) == (
            "auth_stream_timeout",
            "auth_stream_timeout",
        )


def test_a_peer_that_ends_is_refused_without_a_word(a: Party, b: Party) -> None:
    dialler, _ = pair(a, b)
    dialler.feed(PeerEnded("FIN"))
    assert dialler.result == Refused("nodedown", "FIN, unfinished", False)
    assert dialler.told() is None


def test_bytes_that_are_no_message_are_refused_and_named(a: Party, b: Party) -> None:
    _, acceptor = pair(a, b)
    acceptor.feed(Malformed(WireError("kind 9 is no message of the handshake")))
    assert acceptor.result == Refused(
        "malformed", "kind 9 is no message of the handshake", False
    )
    assert acceptor.told() == "malformed"


@pytest.mark.parametrize("code", ["key_mismatch", "brand_new_reason"])
def test_a_fail_of_the_peer_ends_it_with_its_code(
    a: Party, b: Party, code: str
) -> None:
    for side in pair(a, b):
        side.receive(Fail(code, "no\x1b[31m\n\u202e" + "é" * 240))
        assert isinstance(side.result, Refused)
        assert (side.code, side.result.by_peer, side.told()) == (code, True, None)
        assert side.result.text == "no?[31m??" + "é" * 240


def test_nothing_happens_after_the_end(a: Party, b: Party) -> None:
    dialler, acceptor = meet(a, b)
    for side in (dialler, acceptor):
        before = list(side.sent)
        for event in (DeadlinePassed(), PeerEnded(), Unwanted("busy", "")):
            side.feed(event)
        side.receive(Ok())
        assert side.sent == before
        assert side.admitted


@pytest.mark.parametrize("broken", ["certificate_hash", "exporter", "nonce"])
@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_binding_of_the_wrong_size_is_a_bug_of_ours(
    a: Party, broken: str, size: int
) -> None:
    values = {name: bytes(32) for name in ("certificate_hash", "exporter", "nonce")}
    values[broken] = bytes(size)
    with pytest.raises(InvalidValue, match=f"{broken} has {size} bytes, not 32"):
        Handshake(Role.ACCEPTOR, a.local(), a.trust, reference=None, **values)


def test_only_a_dialler_has_a_reference(a: Party) -> None:
    values = {name: bytes(32) for name in ("certificate_hash", "exporter", "nonce")}
    reference = NodeReference("b@h", None, None, None)
    for role, whom in ((Role.ACCEPTOR, reference), (Role.DIALLER, None)):
        with pytest.raises(InvalidValue, match=role.name):
            Handshake(role, a.local(), a.trust, reference=whom, **values)


def test_a_node_without_a_key_says_so_where_one_is_asked_for(
    a: Party, b: Party
) -> None:
    def keyless(party: Party) -> LocalNode:
        return LocalNode(
            name=party.name,
            key_pair=None,
            cookie_key=COOKIE,
            protocol_min=1,
            protocol_max=1,
            timestamp_window_ms=1_000,
            mode_of=lambda _: Mode.IDENTITY,
        )

    a.local = lambda: keyless(a)  # type: ignore[method-assign]
    dialler, acceptor = meet(a, b)
    assert (dialler.code, acceptor.code) == ("mode", "mode")
    _, acceptor = meet(b, a)
    assert acceptor.code == "mode"


def test_what_is_shown_of_a_node_holds_no_secret(a: Party) -> None:
    shown = repr(a.local()) + repr(a.keys)
    assert repr(COOKIE)[2:-1] not in shown
    assert COOKIE.hex() not in shown


def test_a_text_is_cut_within_a_character() -> None:
    assert cut("é" * 600) == "é" * 256
    assert len(cut("x" * 600)) == 512
    assert cut("\ud800\x00ok") == "??ok"
