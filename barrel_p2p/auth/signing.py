"""Ed25519, with one strict answer to what a valid key and a valid signature are.

A key has to be a canonical point of the prime-order group, and so has the point in a
signature: keys of small or mixed order, second spellings of a point and of a scalar are
refused. So every verifier agrees, and nobody can turn one valid signature into another.

Source: RFC 8032, 5.1; Chalkias, Garillot, Nikolaenko, "Taming the Many EdDSAs",
SSR 2020, 3 (why the checks are these).
"""

from __future__ import annotations

import base64
import hashlib
from typing import Final, Never, final

from nacl.bindings import crypto_core_ed25519_is_valid_point
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from barrel_p2p.errors import InvalidValue

__all__ = [
    "KEY_BYTES",
    "SEED_BYTES",
    "SIGNATURE_BYTES",
    "Fingerprint",
    "KeyPair",
    "fingerprint",
    "is_public_key",
    "verify",
]

KEY_BYTES: Final = 32
SEED_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
_POINT_BYTES: Final = 32


class Fingerprint(bytes):
    """SHA-256 of a public key, 32 bytes."""

    __slots__ = ()

    @property
    def ssh(self) -> str:
        """``SHA256:`` and 43 characters of base64, as ``ssh-keygen -l`` writes it."""
        return f"SHA256:{base64.b64encode(self).decode('ascii').rstrip('=')}"

    def __str__(self) -> str:
        return self.ssh


def fingerprint(public_key: bytes) -> Fingerprint:
    """The fingerprint of ``public_key``.

    Raises:
        InvalidValue: It does not have ``KEY_BYTES`` bytes.
    """
    _check_size("public key", public_key, KEY_BYTES)
    return Fingerprint(hashlib.sha256(public_key).digest())


def is_public_key(data: bytes) -> bool:
    """Whether ``data`` is a key that ``verify`` could ever accept a signature of."""
    return len(data) == KEY_BYTES and crypto_core_ed25519_is_valid_point(data)


def verify(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether the holder of ``public_key`` signed ``message``.

    Args:
        public_key: Anything a peer sent. Small order, mixed order and non-canonical
            points make the answer False.
        signature: Anything a peer sent. The same of its point; its scalar has to be
            below the order of the group.
        message: What should be signed.

    Guarantee:
        Never raises for bytes. For one key and message that an honest signer signed,
        exactly one signature is accepted.
    """
    if len(signature) != SIGNATURE_BYTES or not is_public_key(public_key):
        return False
    if not crypto_core_ed25519_is_valid_point(signature[:_POINT_BYTES]):
        return False
    try:
        VerifyKey(public_key).verify(message, signature)
    except BadSignatureError:
        return False
    return True


@final
class KeyPair:
    """A node's identity. Shows its public half, and signs.

    Args:
        seed: The private key, ``SEED_BYTES`` bytes from a source fit for keys.

    Raises:
        InvalidValue: ``seed`` has another length. Its bytes are not in the text.
    """

    __slots__ = ("_key", "public_key")

    public_key: bytes

    def __init__(self, seed: bytes) -> None:
        _check_size("private key", seed, SEED_BYTES)
        self._key = SigningKey(seed)
        self.public_key = bytes(self._key.verify_key)

    def sign(self, message: bytes) -> bytes:
        """The signature of ``message``, ``SIGNATURE_BYTES`` bytes."""
        return self._key.sign(message).signature

    def __repr__(self) -> str:
        return f"KeyPair({fingerprint(self.public_key).ssh})"

    def __reduce__(self) -> Never:
        raise TypeError("a KeyPair holds a private key and does not leave the process")


def _check_size(what: str, value: object, size: int) -> None:
    # The value itself is never in the text: it may be private.
    if not isinstance(value, bytes):
        raise InvalidValue(f"a {what} is bytes, not a {type(value).__name__}")
    if len(value) != size:
        raise InvalidValue(f"a {what} has {size} bytes, not {len(value)}")
