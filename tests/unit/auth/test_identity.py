"""A node has one key pair: made once, kept private, never replaced by accident."""

from __future__ import annotations

import hashlib
import logging
import pickle
import secrets
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from barrel_p2p.auth.identity import ensure_key_pair, load_key_pair, verify
from barrel_p2p.auth.signing import Fingerprint, KeyPair, fingerprint
from barrel_p2p.errors import InvalidValue, KeypairMismatch, StorageError
from tests.handshakes import key_pair


def test_a_new_node_gets_two_files_of_32_bytes(tmp_path: Path) -> None:
    """AUT-01, AUT-07: both files are there and readable; keys differ every time."""
    pairs = [ensure_key_pair(tmp_path / str(n) / "keys") for n in range(5)]
    assert len({pair.public_key for pair in pairs}) == 5
    keys = tmp_path / "0" / "keys"
    assert len((keys / "node.key").read_bytes()) == 32
    assert (keys / "node.pub").read_bytes() == pairs[0].public_key
    assert stat.S_IMODE((keys / "node.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700


def test_the_pair_is_the_same_after_a_restart(tmp_path: Path) -> None:
    """AUT-08: save, then load, gives the same pair."""
    first = ensure_key_pair(tmp_path)
    for again in (ensure_key_pair(tmp_path), load_key_pair(tmp_path)):
        assert again.public_key == first.public_key
        assert again.sign(b"m") == first.sign(b"m")


def test_the_public_file_is_made_again_from_the_private_one(tmp_path: Path) -> None:
    first = ensure_key_pair(tmp_path)
    (tmp_path / "node.pub").unlink()
    assert ensure_key_pair(tmp_path).public_key == first.public_key
    assert (tmp_path / "node.pub").read_bytes() == first.public_key


def test_a_lost_private_key_is_no_reason_for_a_new_identity(tmp_path: Path) -> None:
    public = ensure_key_pair(tmp_path).public_key
    (tmp_path / "node.key").unlink()
    with pytest.raises(KeypairMismatch, match=r"node\.key is not"):
        ensure_key_pair(tmp_path)
    assert (tmp_path / "node.pub").read_bytes() == public
    assert not (tmp_path / "node.key").exists()


def test_files_of_two_pairs_are_refused(tmp_path: Path) -> None:
    ensure_key_pair(tmp_path)
    other = key_pair().public_key
    (tmp_path / "node.pub").write_bytes(other)
    for load in (ensure_key_pair, load_key_pair):
        with pytest.raises(
            KeypairMismatch, match=r"not what node\.pub holds"
        ) as caught:
            load(tmp_path)
        assert caught.value.code == "keypair_mismatch"
    assert (tmp_path / "node.pub").read_bytes() == other


@pytest.mark.parametrize("content", [b"", bytes(31), bytes(33), b"-----BEGIN KEY-----"])
def test_a_private_file_of_another_size_is_refused(
    tmp_path: Path, content: bytes
) -> None:
    ensure_key_pair(tmp_path)
    (tmp_path / "node.key").write_bytes(content)
    with pytest.raises(StorageError, match=r"node\.key") as caught:
        ensure_key_pair(tmp_path)
    assert content.hex() not in str(caught.value) or not content
    assert (tmp_path / "node.key").read_bytes() == content


def test_a_private_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    ensure_key_pair(tmp_path)
    (tmp_path / "node.key").chmod(0o640)
    with pytest.raises(StorageError, match="others have access"):
        ensure_key_pair(tmp_path)


def test_a_missing_pair_is_not_made_by_loading(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        load_key_pair(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_making_a_pair_logs_its_fingerprint_and_nothing_of_the_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        pair = ensure_key_pair(tmp_path)
    seed = (tmp_path / "node.key").read_bytes()
    assert fingerprint(pair.public_key).ssh in caplog.text
    assert seed.hex() not in caplog.text
    assert repr(seed) not in caplog.text


def test_a_signature_verifies_and_nothing_else_does() -> None:
    """AUT-09, AUT-10: 64 bytes over a 32-byte nonce verify; random ones do not."""
    pair, other, nonce = key_pair(), key_pair(), secrets.token_bytes(32)
    signature = pair.sign(nonce)
    assert len(signature) == 64
    assert verify(pair.public_key, signature, nonce)
    assert not verify(other.public_key, signature, nonce)
    assert not verify(pair.public_key, signature, nonce + b"\0")
    assert not verify(pair.public_key, secrets.token_bytes(64), nonce)
    for size in (0, 32, 63, 65):
        assert not verify(pair.public_key, bytes(size), nonce)
        assert not verify(bytes(size), signature, nonce)


def test_every_flipped_bit_of_a_signature_or_key_is_noticed() -> None:
    pair = key_pair()
    signature = pair.sign(b"m")
    for bit in range(512):
        spoilt = int.from_bytes(signature) ^ (1 << bit)
        assert not verify(pair.public_key, spoilt.to_bytes(64), b"m")
    for bit in range(256):
        key = (int.from_bytes(pair.public_key) ^ (1 << bit)).to_bytes(32)
        assert not verify(key, signature, b"m")


def test_another_implementation_makes_the_same_key_and_signature() -> None:
    seed = bytes(range(32))
    ours, theirs = KeyPair(seed), Ed25519PrivateKey.from_private_bytes(seed)
    assert ours.sign(b"m") == theirs.sign(b"m")
    raw = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    assert ours.public_key == theirs.public_key().public_bytes(*raw)


def test_a_key_pair_shows_no_secret_and_does_not_travel() -> None:
    seed = secrets.token_bytes(32)
    pair = KeyPair(seed)
    assert repr(pair) == f"KeyPair({fingerprint(pair.public_key).ssh})"
    with pytest.raises(TypeError, match="does not leave"):
        pickle.dumps(pair)


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(64), "x" * 32, None])
def test_a_seed_is_32_bytes(seed: object) -> None:
    with pytest.raises(InvalidValue, match="private key"):
        KeyPair(seed)  # type: ignore[arg-type]


def test_a_fingerprint_is_the_sha_256_that_ssh_shows() -> None:
    """KEY-01, KEY-02: 32 bytes, and different keys differ."""
    key, other = key_pair().public_key, key_pair().public_key
    shown = fingerprint(key)
    assert isinstance(shown, Fingerprint)
    assert (len(shown), shown) == (32, hashlib.sha256(key).digest())
    assert shown != fingerprint(other)
    assert fingerprint(bytes(32)).ssh == (
        "SHA256:Zmh6rfhivXdsj8GLjp+OIAiXFIVu4jOzkCpZHQ1fKSU"
    )
    assert str(shown) == shown.ssh


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33), "x" * 32])
def test_a_fingerprint_of_what_is_no_key_is_refused(key: object) -> None:
    """KEY-03: a key of the wrong size raises."""
    with pytest.raises(InvalidValue, match="public key"):
        fingerprint(key)  # type: ignore[arg-type]
