"""Keys and signatures that lenient verifiers accept are refused, by one strict rule.

A8: the point of a key and of a signature has to be canonical and of prime order, the
scalar below the order. Each forgery here is one that the plain equation, times eight,
accepts; where libsodium alone accepts it, the test says so.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

import pytest
from nacl.bindings import (
    crypto_core_ed25519_add,
    crypto_core_ed25519_is_valid_point,
    crypto_scalarmult_ed25519_base_noclamp,
)
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from barrel_p2p.auth.messages import Hello, Mode
from barrel_p2p.auth.signing import KeyPair, is_public_key, verify
from barrel_p2p.errors import InvalidValue
from tests.handshakes import Link, Party, key_pair
from tests.tools import rounds

TRIALS = rounds(100, whole=1_000)
ORDER = 2**252 + 27742317777372353535851937790883648493
PRIME = 2**255 - 19
IDENTITY = (1).to_bytes(32, "little")
OF_ORDER_8 = [
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]


def with_sign(point: bytes) -> bytes:
    """The same y with the other sign of x."""
    return point[:31] + bytes([point[31] ^ 0x80])


SMALL = [
    IDENTITY,
    (PRIME - 1).to_bytes(32, "little"),
    bytes(32),
    with_sign(bytes(32)),
    *OF_ORDER_8,
    *map(with_sign, OF_ORDER_8),
]
NOT_CANONICAL = [
    with_sign(IDENTITY),
    with_sign((PRIME - 1).to_bytes(32, "little")),
    *(y.to_bytes(32, "little") for y in range(PRIME, 2**255)),
    *(with_sign(y.to_bytes(32, "little")) for y in range(PRIME, 2**255)),
]


def scalar(data: bytes) -> bytes:
    return (int.from_bytes(data, "little") % ORDER).to_bytes(32, "little")


def secret_scalar(seed: bytes) -> int:
    low = bytearray(hashlib.sha512(seed).digest()[:32])
    low[0] &= 248
    low[31] = low[31] & 127 | 64
    return int.from_bytes(low, "little")


def sign_as(key: bytes, secret: int, message: bytes, torsion: bytes) -> bytes:
    """RFC 8032's signature for a key of one's own making, ``torsion`` added to R."""
    nonce = int.from_bytes(secrets.token_bytes(64), "little") % ORDER
    point = crypto_scalarmult_ed25519_base_noclamp(nonce.to_bytes(32, "little"))
    if torsion != IDENTITY:
        point = crypto_core_ed25519_add(point, torsion)
    digest = hashlib.sha512(point + key + message).digest()
    challenge = int.from_bytes(digest, "little") % ORDER
    return point + ((nonce + challenge * secret) % ORDER).to_bytes(32, "little")


def libsodium_accepts(key: bytes, signature: bytes, message: bytes) -> bool:
    try:
        VerifyKey(key).verify(message, signature)
    except BadSignatureError:
        return False
    return True


def test_the_forger_can_sign_at_all() -> None:
    """Its honest signatures are good, so what is refused below is refused for cause."""
    seed = secrets.token_bytes(32)
    key = KeyPair(seed).public_key
    signature = sign_as(key, secret_scalar(seed), b"m", IDENTITY)
    assert verify(key, signature, b"m")


@pytest.mark.parametrize("key", SMALL + NOT_CANONICAL, ids=bytes.hex)
def test_a_small_or_second_spelling_of_a_key_verifies_nothing(key: bytes) -> None:
    assert not is_public_key(key)
    for _ in range(TRIALS // 10):
        # R = sB fits every message where h times the key is the identity.
        s = scalar(secrets.token_bytes(32))
        forged = crypto_scalarmult_ed25519_base_noclamp(s) + s
        assert not verify(key, forged, b"m")
        assert not verify(key, key + bytes(32), b"m")


@pytest.mark.parametrize("key", SMALL + NOT_CANONICAL[:6], ids=bytes.hex)
@pytest.mark.parametrize("role", ["dialler", "acceptor"])
def test_nobody_gets_in_or_pinned_with_such_a_key(
    tmp_path: Path, key: bytes, role: str
) -> None:
    node = Party(tmp_path, "b@h")
    side = node.dial(Link(), "a@h") if role == "dialler" else node.accept(Link())
    side.receive(Hello(1, 1, Mode.IDENTITY, "a@h", key))
    assert (side.code, side.told()) == ("malformed", "malformed")
    with pytest.raises(InvalidValue):
        node.trust.pin("a@h", key)
    with pytest.raises(InvalidValue):
        node.trust.store_key("a@h", key)
    assert node.trust.list_trusted() == []


@pytest.mark.parametrize("torsion", OF_ORDER_8, ids=bytes.hex)
def test_a_key_of_mixed_order_is_refused(torsion: bytes) -> None:
    """It would be a second key of one owner: eight of them share every secret."""
    accepted = 0
    for _ in range(TRIALS):
        seed = secrets.token_bytes(32)
        mixed = crypto_core_ed25519_add(KeyPair(seed).public_key, torsion)
        assert not is_public_key(mixed)
        signature = sign_as(mixed, secret_scalar(seed), b"m", IDENTITY)
        accepted += libsodium_accepts(mixed, signature, b"m")
        assert not verify(mixed, signature, b"m")
    assert accepted > 0, "the control: libsodium alone takes some or all of them"


@pytest.mark.parametrize("torsion", OF_ORDER_8, ids=bytes.hex)
def test_a_signature_with_a_point_of_mixed_order_is_refused(torsion: bytes) -> None:
    for _ in range(TRIALS):
        seed = secrets.token_bytes(32)
        key = KeyPair(seed).public_key
        signature = sign_as(key, secret_scalar(seed), b"m", torsion)
        assert not crypto_core_ed25519_is_valid_point(signature[:32])
        assert not verify(key, signature, b"m")


def test_no_signature_can_be_turned_into_another() -> None:
    for _ in range(TRIALS):
        pair, message = key_pair(), secrets.token_bytes(32)
        signature = pair.sign(message)
        assert verify(pair.public_key, signature, message)
        point, s = signature[:32], int.from_bytes(signature[32:], "little")
        changed = [
            point + (s + n * ORDER).to_bytes(32, "little")
            for n in range(1, 16)
            if s + n * ORDER < 2**256
        ]
        assert changed
        changed += [
            with_sign(point) + signature[32:],
            point + (ORDER - s).to_bytes(32, "little"),
            with_sign(point) + (ORDER - s).to_bytes(32, "little"),
            IDENTITY + signature[32:],
        ]
        assert not any(verify(pair.public_key, other, message) for other in changed)
