"""The cluster's secret: stretched once, proved in the handshake, never sent.

A cookie is a password, so what is proved with it could be guessed at offline by whoever
sees a proof. Argon2id makes each guess cost what ours did, and only a node that was
dialled ever sees the first proof.

Bounded by ``COOKIE_BYTES_MAX``. The proof itself is in ``transcript``.

Source: RFC 9106 (Argon2id).
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Final

from nacl.pwhash import argon2id

from barrel_p2p.errors import ConfigError
from barrel_p2p.storage.files import read_file

__all__ = ["COOKIE_BYTES_MAX", "COOKIE_KEY_BYTES", "cookie_key", "read_cookie_file"]

COOKIE_BYTES_MAX: Final = 1_024
"""Bytes of a cookie in UTF-8."""

COOKIE_KEY_BYTES: Final = 32

# Nodes that know nothing but the cookie have to arrive at the same key, so the salt is
# the same everywhere: it keeps tables made for other products from being of use here.
_SALT: Final = b"barrel_p2p/ckey1"
_PASSES: Final = 3
_MEMORY_BYTES: Final = 32 << 20
_FILE_BYTES_MAX: Final = COOKIE_BYTES_MAX + 2  # a line end of either kind


@functools.lru_cache(maxsize=8)
def cookie_key(cookie: str) -> bytes:
    """The key that proves knowledge of ``cookie``.

    Takes some 50 ms and 32 MiB the first time, nothing afterwards.

    Args:
        cookie: 1 to ``COOKIE_BYTES_MAX`` bytes in UTF-8.

    Returns:
        ``COOKIE_KEY_BYTES`` bytes, the same on every node.

    Raises:
        ConfigError: It is empty, too long or no valid text. It is not quoted.
    """
    try:
        secret = cookie.encode()
    except UnicodeEncodeError:
        # The error would carry the cookie into a log, so it is not chained.
        raise ConfigError("dist_cookie is not valid text") from None
    if not 1 <= len(secret) <= COOKIE_BYTES_MAX:
        raise ConfigError(
            f"dist_cookie has {len(secret)} bytes, not 1 to {COOKIE_BYTES_MAX}"
        )
    return argon2id.kdf(
        COOKIE_KEY_BYTES, secret, _SALT, opslimit=_PASSES, memlimit=_MEMORY_BYTES
    )


def read_cookie_file(path: Path) -> str:
    """The cookie in ``path``: its text without the line end.

    Raises:
        StorageError: It cannot be read, is too large, or is open to others.
        ConfigError: It holds more than one line, nothing, or no UTF-8.
    """
    data = read_file(path, bytes_max=_FILE_BYTES_MAX, private=True)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path} holds no UTF-8") from None
    cookie = text.removesuffix("\n").removesuffix("\r")
    if not cookie or "\n" in cookie or "\r" in cookie:
        raise ConfigError(f"{path} has to hold one line, the cookie")
    return cookie
