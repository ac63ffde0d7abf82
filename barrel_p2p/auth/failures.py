"""From the code of a refusal to the exception that a caller catches.

Source: docs/reference/wire.md, "Handshake"; docs/reference/errors.md.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from barrel_p2p.errors import (
    AuthError,
    AuthModeMismatch,
    AuthTimeout,
    BarrelError,
    Conflict,
    CookieMismatch,
    KeyMismatch,
    NameMismatch,
    PeerTsSkew,
    PeerUnreachable,
    RevokedKey,
    SignatureInvalid,
    UntrustedKey,
    VersionMismatch,
    WireError,
)

__all__ = ["CODES", "failure"]

_HINTS: Final = {
    "untrusted_key": "Give each node the other's key, or use trust mode tofu.",
    "key_mismatch": "Compare fingerprints with the peer's operator. If the key was"
    " changed on purpose, replace the pin; if not, treat this as an attack.",
    "signature_invalid": "Somebody may be in between. Compare the versions first.",
    "revoked_key": "Undo the revocation if it was a mistake.",
    "peer_ts_skew": "Synchronise the clocks of both nodes.",
    "auth_stream_timeout": "Look at the network; raise auth_handshake_timeout if slow.",
    "version": "Upgrade the older of the two nodes.",
    "cookie": "Give both nodes the same dist_cookie.",
    "name_mismatch": "Mend the address, or the node_name of the node that answers.",
    "mode": "List the names in cookie_only_nodes on both nodes, or on neither.",
    "pin_failed": "Look at the disk and the key directory of the node that refused.",
    "self_connect": "Remove this node's own address from the list of contacts.",
    "busy": "Dial again later.",
}

CODES: Final = MappingProxyType(
    {
        "untrusted_key": UntrustedKey,
        "key_mismatch": KeyMismatch,
        "signature_invalid": SignatureInvalid,
        "revoked_key": RevokedKey,
        "peer_ts_skew": PeerTsSkew,
        "auth_stream_timeout": AuthTimeout,
        "version": VersionMismatch,
        "cookie": CookieMismatch,
        "name_mismatch": NameMismatch,
        "mode": AuthModeMismatch,
        "pin_failed": AuthError,
        "malformed": WireError,
        "duplicate": PeerUnreachable,
        "draining": PeerUnreachable,
        "busy": PeerUnreachable,
        "self_connect": Conflict,
        "nodedown": PeerUnreachable,
    }
)
"""Every code that this version refuses with, and its exception."""


def failure(
    code: str, text: str, peer: str | None, *, by_peer: bool = False
) -> BarrelError:
    """The exception for a refused handshake.

    Args:
        code: From Refused. One that is not in ``CODES`` comes from a newer peer and
            gives a plain AuthError that quotes it.
        text: From Refused.
        peer: The node or address this is about.
        by_peer: From Refused.
    """
    made: type[BarrelError] = CODES.get(code, AuthError)
    who = "the peer" if peer is None else peer
    known = code in CODES and code != "pin_failed"
    prefix = f"{who} refused us: " if by_peer else f"{who}: "
    suffix = "" if known else f" ({code})"
    return made(f"{prefix}{text}{suffix}", hint=_HINTS.get(code), peer=peer)
