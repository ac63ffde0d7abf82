"""What the store of pins says of a name and a key.

Apart from the store, so that the handshake can ask without knowing of files.
"""

from __future__ import annotations

from enum import Enum

__all__ = ["Verdict"]


class Verdict(Enum):
    """Known, unknown, or known to be wrong."""

    TRUSTED = "trusted"
    """This key is pinned for the name; or no key is asked for and none is revoked."""

    FIRST_CONTACT = "first_contact"
    """Nothing is pinned for the name, and the mode ``tofu`` would pin this key."""

    UNKNOWN = "unknown"
    """Nothing is pinned for the name, and the mode is ``strict``."""

    MISMATCH = "mismatch"
    """Another key is pinned for the name."""

    REVOKED = "revoked"
    """The name, or this key under whatever name, was revoked."""

    UNREADABLE = "unreadable"
    """Something is pinned for the name, but cannot be read. Never taken for nothing."""
