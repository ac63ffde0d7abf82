"""A node has one name, an address one form; a reference is any spelling of a node."""

from __future__ import annotations

import base64
import socket

import pytest

from barrel_p2p.core.names import (
    NODE_NAME_BYTES_MAX,
    REFERENCE_CHARS_MAX,
    Address,
    NodeReference,
    default_node_name,
    host_of,
    node_name,
    wire_name,
)
from barrel_p2p.errors import InvalidValue, WireError

KEY_HASH = bytes(range(32))
DIGEST = base64.b64encode(KEY_HASH).decode().rstrip("=")


def test_a_user_s_upper_case_is_folded() -> None:
    assert node_name("Alice@Host-1.Example") == "alice@host-1.example"
    assert host_of("alice@host-1.example") == "host-1.example"


@pytest.mark.parametrize("text", ["a", "a@", "@h", "a@h@i", "a b@h", ".a@h", "a@h."])
def test_what_is_no_node_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue, match="no node name"):
        node_name(text)


def test_a_letter_whose_lower_case_is_ascii_is_not_folded_into_it() -> None:
    kelvin = "\u212a@h"
    assert kelvin.lower() == "k@h"
    with pytest.raises(InvalidValue, match="not ASCII"):
        node_name(kelvin)


def test_a_name_that_is_no_text_is_refused() -> None:
    with pytest.raises(InvalidValue, match="bytes"):
        node_name(b"a@h")  # type: ignore[arg-type]


@pytest.mark.parametrize("data", [b"A@h", b"a@H", b"a", b"", b"a@h\xff", b"a@h\0"])
def test_a_peer_s_name_is_never_mended(data: bytes) -> None:
    with pytest.raises(WireError):
        wire_name(data)


def test_a_peer_s_name_is_at_most_200_bytes() -> None:
    longest = b"a" * (NODE_NAME_BYTES_MAX - 2) + b"@h"
    assert wire_name(longest) == longest.decode()
    with pytest.raises(WireError, match="NODE_NAME_BYTES_MAX=200"):
        wire_name(b"a" + longest)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("a@h:9100", Address("a@h", "h", 9100)),
        ("A@Example.org:1", Address("a@example.org", "example.org", 1)),
        ("a@127.0.0.1:65535", Address("a@127.0.0.1", "127.0.0.1", 65535)),
        ("a@h=[::1]:9100", Address("a@h", "::1", 9100)),
        ("a@h=10.0.0.5:9100", Address("a@h", "10.0.0.5", 9100)),
        ("a@h=[fe80::1%eth0]:9100", Address("a@h", "fe80::1%eth0", 9100)),
    ],
)
def test_an_address_is_read_and_shown_in_one_form(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text.lower()


def test_an_ipv6_address_has_one_spelling() -> None:
    long = "a@h=[0000:0::FFFF]:9"
    assert Address.parse(long).host == "::ffff"


@pytest.mark.parametrize(
    "text",
    [
        "a@h",
        "a@h:",
        "a@h:0",
        "a@h:65536",
        "a@h:09100",
        "a@h:+1",
        "a@h:1_0",
        "a@h:\u0661",
        "a@h=",
        "a@h=:9100",
        "a@h=x",
        "a@h=::1:9100",
        "a@h=[::1]",
        "a@h=[::g]:9100",
        "a@h=[h]:9100",
        "a@h=a/b:9100",
        "a@h=..:9100",
        "a@h=" + "x" * 254 + ":9100",
        "a@h:9100#SHA256:" + DIGEST,
        "h:9100",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("a@h", NodeReference("a@h", None, None, None)),
        ("a@h:9100", NodeReference("a@h", "h", 9100, None)),
        ("a@h=[::1]:9100", NodeReference("a@h", "::1", 9100, None)),
        (f"a@h#SHA256:{DIGEST}", NodeReference("a@h", None, None, KEY_HASH)),
        (
            f"a@h=[::1]:9100#SHA256:{DIGEST}",
            NodeReference("a@h", "::1", 9100, KEY_HASH),
        ),
    ],
)
def test_every_reference_is_read_and_shown(text: str, reference: NodeReference) -> None:
    assert NodeReference.parse(text) == reference
    assert str(reference) == text
    assert NodeReference.parse(reference) is reference


def test_a_reference_s_name_is_folded_and_its_fingerprint_is_not() -> None:
    reference = NodeReference.parse(f"A@H#SHA256:{DIGEST}")
    assert (reference.name, reference.fingerprint) == ("a@h", KEY_HASH)


@pytest.mark.parametrize(
    "digest",
    [
        "",
        DIGEST[:-1],
        DIGEST + "=",
        DIGEST + "A",
        DIGEST.replace("A", "-", 1),
        DIGEST[:-1] + chr(ord(DIGEST[-1]) + 1),  # Sets a bit that no byte holds.
        "\u00e9" * 43,
    ],
)
def test_a_fingerprint_has_one_spelling(digest: str) -> None:
    with pytest.raises(InvalidValue, match="fingerprint"):
        NodeReference.parse(f"a@h#SHA256:{digest}")


def test_an_address_and_a_node_are_references() -> None:
    class Listening:
        address = Address("a@h", "::1", 9100)

    expected = NodeReference("a@h", "::1", 9100, None)
    assert NodeReference.parse(Listening.address) == expected
    assert NodeReference.parse(Listening()) == expected


@pytest.mark.parametrize(
    "address",
    [
        Address("a", "h", 1),
        Address("a@h", "h", 0),
        Address("a@h", "a b", 1),
        Address("a@h=x:1", "h", 1),
        Address(None, "h", 1),  # type: ignore[arg-type]
        Address("a@h", "h", "1"),  # type: ignore[arg-type]
    ],
)
def test_an_address_that_nobody_parsed_is_checked(address: Address) -> None:
    with pytest.raises(InvalidValue):
        NodeReference.parse(address)


def test_what_names_no_node_is_refused() -> None:
    with pytest.raises(InvalidValue, match="int names no node"):
        NodeReference.parse(7)  # type: ignore[arg-type]


def test_a_megabyte_is_refused_in_a_short_sentence() -> None:
    with pytest.raises(InvalidValue, match="REFERENCE_CHARS_MAX") as caught:
        NodeReference.parse("a" * 1_000_000)
    assert len(str(caught.value)) < 200
    assert REFERENCE_CHARS_MAX > NODE_NAME_BYTES_MAX + 253 + 60


@pytest.mark.parametrize(
    ("hostname", "name"),
    [
        ("Box-1.Local", "node@box-1.local"),
        ("my box", "node@my-box"),
        ("-.x.", "node@x"),
        ("", "node@localhost"),
        ("\u00e9", "node@localhost"),
        ("h" * 300, "node@" + "h" * 195),
    ],
)
def test_any_host_gets_a_valid_default_name(
    hostname: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: hostname)
    assert default_node_name() == name
