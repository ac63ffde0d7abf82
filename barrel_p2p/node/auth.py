"""What a running node says of its own identity: ``node.auth``.

Source: Barrel P2P documentation, "API overview".
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import final

from barrel_p2p.auth.identity import load_key_pair
from barrel_p2p.auth.messages import Mode
from barrel_p2p.auth.signing import KeyPair
from barrel_p2p.core.names import node_name
from barrel_p2p.errors import KeypairMismatch

__all__ = ["Auth"]


@final
class Auth:
    """The key pair of one node, and from whom it asks for one.

    Args:
        key_pair: The one in use.
        directory: Where its files are.
        mode_of: What a peer has to prove.

    Attributes:
        mode_of: As given.
    """

    def __init__(
        self, key_pair: KeyPair, directory: Path, mode_of: Callable[[str], Mode]
    ) -> None:
        self._key_pair = key_pair
        self._directory = directory
        self.mode_of = mode_of

    def ensure_keypair(self) -> None:
        """Make sure that the files hold the key pair that is in use.

        The pair is made when a node starts without one, so there is nothing to make.

        Raises:
            KeypairMismatch: The files hold another pair, or two halves of two.
            StorageError: A file is missing, cannot be read, or is open to others.
        """
        if load_key_pair(self._directory).public_key != self._key_pair.public_key:
            raise KeypairMismatch(
                f"{self._directory} holds another key pair than the one in use",
                hint="restore the pair, or start the node again to use what is there",
            )

    def get_public_key(self) -> bytes:
        """This node's public key, 32 bytes: what peers pin."""
        return self._key_pair.public_key

    def is_cookie_only_allowed(self, node: str) -> bool:
        """Whether the cookie alone lets ``node`` in.

        So it is with ``auth_enabled=false``, and for names in ``cookie_only_nodes``
        for which no key is pinned.

        Raises:
            InvalidValue: ``node`` is no node name.
        """
        return self.mode_of(node_name(node)) is Mode.COOKIE
