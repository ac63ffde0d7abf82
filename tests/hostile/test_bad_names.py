"""A name is refused, or kept as it is: no spelling of one skips the pin of another."""

from __future__ import annotations

from pathlib import Path

import pytest

from barrel_p2p.auth.messages import AuthKind, Mode
from barrel_p2p.errors import InvalidValue
from tests.handshakes import Link, Party, key_pair, talk

PINNED = "victim@host"
BAD = [
    *(b"", b"@", b"@host", b"victim@", b"victim", b"victim@@host", b"victim@ho@st"),
    *(b"Victim@host", b"victim@HOST", b"VICTIM@HOST", b"victim@host.", b"victim.@host"),
    *(b".victim@host", b"-victim@host", b"victim@.host", b"victim@-host"),
    *(b"../victim@host", b"victim@host/..", b"..@..", b"../../etc/passwd@host"),
    *(b"victim@host/x", b"/victim@host", b"victim\\@host", b"~victim@host"),
    *(b"victim@host\0", b"victim@host\n", b" victim@host", b"victim @host", b"\0"),
    *("v\u0131ctim@host".encode(), "v\u00edctim@host".encode()),
    *(
        "victim\uff20host".encode(),
        "\u202evictim@host".encode(),
        "vi\u200bctim@host".encode(),
    ),
    *("Kelvin\u212a@host".encode(), b"victim@host\xff", b"\xc0\xaf@host"),
    *(b"v" * 196 + b"@host", b"v" * 250 + b"@host", b"v@" + b"h" * 199),
    *(b"victim@host:9100", b"victim@host#SHA256:x", b"victim@host%00", b"*@host"),
]
GOOD = [
    *("victim@host2", "victim2@host", "victim@host.example", "_@_", "a..b@c--d"),
    *("x.pub@h", "x@h.pub", "x@h.json", "x@h.pub.tmp", "node.key@h", "con@nul"),
    *("v" * 195 + "@host", "v@" + "h" * 198),
]


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> dict[Mode, Party]:
    """One node for each mode, which knows a victim."""
    made = {}
    for mode in Mode:
        directory = tmp_path_factory.mktemp(mode.name)
        made[mode] = Party(directory, "me@h", auth_mode=mode)
        made[mode].trust.pin(PINNED, key_pair().public_key)
    return made


@pytest.mark.parametrize("mode", Mode, ids=lambda mode: mode.name)
@pytest.mark.parametrize("name", BAD, ids=repr)
def test_a_bad_name_is_refused_and_leaves_nothing(
    nodes: dict[Mode, Party], name: bytes, mode: Mode
) -> None:
    """A5: by whichever side it is shown to."""
    node, key = nodes[mode], key_pair().public_key
    files = sorted(node.trust_directory.rglob("*"))
    shown = key if mode is Mode.IDENTITY else b""
    body = bytes([0, 1, 0, 1, mode, len(name) % 256]) + name + shown
    for side in (node.accept(Link()), node.dial(Link(), PINNED)):
        side.receive_bytes(AuthKind.HELLO, body)
        assert (side.code, side.told()) == ("malformed", "malformed")
    assert sorted(node.trust_directory.rglob("*")) == files


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_is_stored_without_loss(tmp_path: Path, name: str) -> None:
    """A5: also where the name and a suffix come near the limit of a file system."""
    node, peer = Party(tmp_path / "1", "me@h"), Party(tmp_path / "2", name)
    node.trust.pin(PINNED, key_pair().public_key)
    link = Link()
    dialler, acceptor = peer.dial(link, "me@h"), node.accept(link)
    talk(dialler, acceptor)
    assert acceptor.admitted
    reread = Party(tmp_path / "1", "me@h").trust
    assert reread.lookup_key(name) == peer.keys.public_key
    assert [p.node for p in reread.list_trusted()] == sorted([PINNED, name])


@pytest.mark.parametrize("name", BAD, ids=repr)
def test_an_operator_s_bad_name_is_refused_or_folded(
    tmp_path: Path, name: bytes
) -> None:
    text, trust = name.decode("latin-1"), Party(tmp_path, "me@h").trust
    key, files = key_pair().public_key, sorted(tmp_path.rglob("*"))
    try:
        trust.store_key(text, key)
    except InvalidValue:
        assert sorted(tmp_path.rglob("*")) == files
        for call in (trust.lookup_key, trust.delete_key, trust.revoke, trust.unrevoke):
            with pytest.raises(InvalidValue):
                call(text)
    else:
        assert [p.node for p in trust.list_trusted()] == [text.lower()] == [PINNED]


@pytest.mark.parametrize(
    ("name", "other_key"),
    [(PINNED, True), ("other@host", False)],
    ids=["pinned name, other key", "other name, pinned key"],
)
def test_a_swapped_identity_is_not_the_pinned_one(
    tmp_path: Path, name: str, other_key: bool
) -> None:
    """A5: the name does not help without the key, nor the key under another name."""
    node, victim = Party(tmp_path, "me@h"), Party(tmp_path / "1", PINNED)
    node.knows(victim)
    thief = Party(tmp_path / "2", name)
    if not other_key:
        # It shows the victim's key, and has to sign with its own.
        thief.keys.public_key = victim.keys.public_key
    link = Link()
    dialler, acceptor = thief.dial(link, "me@h"), node.accept(link)
    talk(dialler, acceptor)
    assert acceptor.code == ("key_mismatch" if other_key else "signature_invalid")
    assert [p.node for p in node.trust.list_trusted()] == [PINNED]
    assert node.trust.lookup_key(PINNED) == victim.keys.public_key
