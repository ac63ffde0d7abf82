"""The secret behind stateless resets, kept over restarts.

A node that restarts cannot decrypt what its peers still send to its earlier life. With
the same seed it can prove that it is that node, and they notice at their next packet
instead of after the idle timeout.

Source: RFC 9000, 10.3.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from barrel_p2p.errors import StorageError
from barrel_p2p.quic.engine import SEED_BYTES
from barrel_p2p.storage.files import read_file, write_atomic

__all__ = ["ensure_reset_seed"]


def ensure_reset_seed(path: Path) -> bytes:
    """The seed in ``path``, made there (mode 0600) on first use.

    Returns:
        ``SEED_BYTES`` bytes, for ``Endpoint.open(reset_seed=...)``.

    Raises:
        StorageError: The file cannot be read or written, is not private, or does not
            hold ``SEED_BYTES`` bytes.
    """
    if not path.exists():
        seed = secrets.token_bytes(SEED_BYTES)
        write_atomic(path, seed)
        return seed
    seed = read_file(path, bytes_max=SEED_BYTES, private=True)
    if len(seed) != SEED_BYTES:
        raise StorageError(
            f"{path} holds {len(seed)} bytes, a reset seed has {SEED_BYTES}",
            hint=f"remove {path}: the next start makes a new seed",
        )
    return seed
