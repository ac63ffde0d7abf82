"""Who this node is: an Ed25519 key pair, made once and kept in two files.

``node.key`` holds the 32-byte seed and ``node.pub`` the 32 bytes that peers pin. The
public file can be made again from the private one, never the other way round, so a
missing ``node.key`` beside a ``node.pub`` is an error, not a reason to become another.

Source: RFC 8032; Barrel P2P documentation, "Authentication".
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
from pathlib import Path

from barrel_p2p.auth.signing import (
    KEY_BYTES,
    SEED_BYTES,
    KeyPair,
    fingerprint,
    verify,
)
from barrel_p2p.errors import KeypairMismatch, StorageError
from barrel_p2p.storage.files import (
    PUBLIC_MODE,
    ensure_private_directory,
    read_file,
    remove_leftovers,
    write_atomic,
)

__all__ = [
    "PRIVATE_FILE",
    "PUBLIC_FILE",
    "KeyPair",
    "ensure_key_pair",
    "load_key_pair",
    "verify",
]

PRIVATE_FILE = "node.key"
PUBLIC_FILE = "node.pub"

_log = logging.getLogger("barrel_p2p.auth")


def ensure_key_pair(directory: Path) -> KeyPair:
    """Return the key pair in ``directory``, made now if there is none.

    Args:
        directory: Created with mode 0700 if missing. No other process may call this
            for the same directory at the same time.

    Raises:
        KeypairMismatch: The two files do not belong together, or only the public one
            is left. No file was changed.
        StorageError: A file cannot be read or written, has another size than 32 bytes,
            or is open to others.

    Guarantee:
        An existing private key is never replaced. A crash at any point leaves a state
        that the next call completes.
    """
    ensure_private_directory(directory)
    remove_leftovers(directory)
    private, public = directory / PRIVATE_FILE, directory / PUBLIC_FILE
    if os.path.lexists(private):
        if not os.path.lexists(public):
            write_atomic(public, _read_seed(private).public_key, mode=PUBLIC_MODE)
        return load_key_pair(directory)
    if os.path.lexists(public):
        raise KeypairMismatch(
            f"{public} is there, but {private} is not",
            hint=f"Restore {PRIVATE_FILE}, or remove {PUBLIC_FILE} for a new identity.",
        )
    seed = secrets.token_bytes(SEED_BYTES)
    write_atomic(private, seed)
    write_atomic(public, KeyPair(seed).public_key, mode=PUBLIC_MODE)
    pair = load_key_pair(directory)
    _log.info("made the key pair in %s: %s", directory, fingerprint(pair.public_key))
    return pair


def load_key_pair(directory: Path) -> KeyPair:
    """Return the key pair in ``directory``, which has to be there.

    Raises:
        KeypairMismatch: The two files do not belong together.
        StorageError: A file is missing, cannot be read, has another size than 32
            bytes, or is open to others.
    """
    pair = _read_seed(directory / PRIVATE_FILE)
    public = read_file(directory / PUBLIC_FILE, bytes_max=KEY_BYTES)
    if not hmac.compare_digest(public, pair.public_key):
        raise KeypairMismatch(
            f"{directory / PRIVATE_FILE} makes the key {fingerprint(pair.public_key)},"
            f" which is not what {PUBLIC_FILE} holds",
            hint="Restore the pair from a backup, or remove the file that is wrong.",
        )
    return pair


def _read_seed(path: Path) -> KeyPair:
    seed = read_file(path, bytes_max=SEED_BYTES, private=True)
    if len(seed) != SEED_BYTES:
        raise StorageError(
            f"{path} holds {len(seed)} bytes; a private key has {SEED_BYTES}",
            hint="Restore it from a backup, or remove both files for a new identity.",
        )
    return KeyPair(seed)
