"""Frozen handshakes: a change here is a change of the protocol, and of its label."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import TypedDict

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from barrel_p2p.auth import messages, transcript
from barrel_p2p.auth.cookie import cookie_key
from barrel_p2p.auth.failures import CODES
from barrel_p2p.auth.messages import AuthKind, Challenge, Hello, Mode, Response, decode
from barrel_p2p.auth.signing import KeyPair, fingerprint
from barrel_p2p.auth.transcript import Exchange, Role, proof
from barrel_p2p.errors import WireError
from tests.tree import ROOT


class Node(TypedDict):
    name: str
    seed: str
    public_key: str
    fingerprint: str


class MessageRow(TypedDict):
    name: str
    kind: int
    body: str


class RefusedRow(TypedDict):
    why: str
    kind: int
    body: str


class RoleRow(TypedDict):
    role: str
    transcript: str
    sha256: str
    signature: str
    proof: str


class Session(TypedDict):
    mode: str
    roles: list[RoleRow]


class Vectors(TypedDict):
    cookie: str
    cookie_key: str
    dialler: Node
    acceptor: Node
    messages: list[MessageRow]
    sessions: list[Session]
    refused: list[RefusedRow]


VECTORS: Vectors = json.loads(Path(__file__).with_name("auth.json").read_text())
PAGE = (ROOT / "docs/reference/wire.md").read_text()
CODE = {span.replace(" ", "") for span in re.findall(r"`([^`\n]+)`", PAGE)}
BODIES = {row["name"]: bytes.fromhex(row["body"]) for row in VECTORS["messages"]}
SIGNED = [(s["mode"], row) for s in VECTORS["sessions"] for row in s["roles"]]


def hello(side: str, mode: str) -> Hello:
    found = decode(AuthKind.HELLO, BODIES[f"hello-{side}-{mode.lower()}"])
    assert isinstance(found, Hello)
    return found


def challenge(side: str) -> Challenge:
    found = decode(AuthKind.CHALLENGE, BODIES[f"challenge-{side}"])
    assert isinstance(found, Challenge)
    return found


def exchange(mode: str) -> Exchange:
    return Exchange(
        protocol=1,
        dialler=hello("dialler", mode),
        acceptor=hello("acceptor", mode),
        dialler_challenge=challenge("dialler"),
        acceptor_challenge=challenge("acceptor"),
        certificate_hash=b"\x33" * 32,
        exporter=b"\x44" * 32,
    )


@pytest.mark.parametrize("row", VECTORS["messages"], ids=lambda row: row["name"])
def test_messages_keep_their_bytes(row: MessageRow) -> None:
    body = bytes.fromhex(row["body"])
    message = decode(row["kind"], body)
    assert messages.encode(message) == (row["kind"], body)
    assert row["body"] in CODE or not body


@pytest.mark.parametrize("row", VECTORS["refused"], ids=lambda row: row["why"])
def test_what_is_no_message_stays_refused(row: RefusedRow) -> None:
    with pytest.raises(WireError):
        decode(row["kind"], bytes.fromhex(row["body"]))


@pytest.mark.parametrize(
    ("mode", "row"), SIGNED, ids=[f"{mode}-{row['role']}" for mode, row in SIGNED]
)
def test_transcripts_signatures_and_proofs_keep_their_bytes(
    mode: str, row: RoleRow
) -> None:
    role = Role[row["role"]]
    signed = transcript.transcript(exchange(mode), role)
    assert signed.hex() == row["transcript"]
    node = VECTORS["dialler" if role is Role.DIALLER else "acceptor"]
    assert (
        proof(cookie_key(VECTORS["cookie"]), exchange(mode), role).hex()
        == (row["proof"])
    )
    answer = Response(bytes.fromhex(row["signature"]), bytes.fromhex(row["proof"]))
    name = f"response-{role.name.lower()}-{mode.lower()}"
    assert messages.encode(answer) == (AuthKind.RESPONSE, BODIES[name])
    if Mode[mode] is Mode.IDENTITY:
        seed = bytes.fromhex(node["seed"])
        theirs = Ed25519PrivateKey.from_private_bytes(seed).sign(signed)
        assert theirs.hex() == row["signature"]
        assert KeyPair(seed).sign(signed) == theirs


@pytest.mark.parametrize(
    "row", [row for _, row in SIGNED], ids=lambda row: row["sha256"]
)
def test_a_proof_can_be_made_from_what_the_page_says(row: RoleRow) -> None:
    digest = hashlib.sha256(bytes.fromhex(row["transcript"])).digest()
    assert digest.hex() == row["sha256"]
    key = bytes.fromhex(VECTORS["cookie_key"])
    data = bytes([Role[row["role"]]]) + digest
    assert hmac.new(key, data, "sha256").hexdigest() == row["proof"]


@pytest.mark.parametrize("side", ["dialler", "acceptor"])
def test_keys_and_fingerprints_are_what_they_were(side: str) -> None:
    node = VECTORS["dialler" if side == "dialler" else "acceptor"]
    pair = KeyPair(bytes.fromhex(node["seed"]))
    assert pair.public_key.hex() == node["public_key"]
    assert fingerprint(pair.public_key).ssh == node["fingerprint"]
    assert {node["seed"], node["public_key"], node["fingerprint"]} <= CODE


def test_a_cookie_has_the_key_it_had() -> None:
    assert cookie_key(VECTORS["cookie"]).hex() == VECTORS["cookie_key"]
    assert VECTORS["cookie_key"] in CODE
    assert VECTORS["cookie"].replace(" ", "") in CODE


def test_the_page_shows_the_dialler_s_transcript_and_what_follows_from_it() -> None:
    (row,) = [r for m, r in SIGNED if (m, r["role"]) == ("IDENTITY", "DIALLER")]
    assert {row["transcript"], row["sha256"], row["signature"], row["proof"]} <= CODE


def test_the_page_names_every_kind_every_code_and_every_limit() -> None:
    for kind in AuthKind:
        assert f"| {kind.value} | {kind.name} |" in PAGE
    section = PAGE.partition("### Handshake")[2].partition("\n## ")[0]
    told = set(CODES) - {"nodedown"}  # That one is for a peer that hears nothing more.
    listed = set(re.findall(r"^\| `(\w+)` \|", section, re.M))
    assert {code for code in listed if code.islower()} == told
    for name in ("FAIL_CODE_CHARS_MAX", "FAIL_TEXT_BYTES_MAX"):
        assert f"| `{name}` | {getattr(messages, name)} |" in section
    assert {transcript.LABEL.decode(), transcript.EXPORTER_LABEL} <= CODE
