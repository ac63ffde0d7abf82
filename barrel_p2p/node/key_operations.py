"""What an operator does with the pins of a node, whether it runs or not.

Source: Barrel P2P documentation, "Manage node keys".
"""

from __future__ import annotations

import base64
import binascii
from typing import assert_never

from barrel_p2p.auth.trust import TrustStore, fingerprint
from barrel_p2p.core.names import NodeReference
from barrel_p2p.errors import InvalidValue
from barrel_p2p.node.requests import (
    KeyAction,
    ListKeys,
    RevokeKey,
    SetTrustMode,
    TrustKey,
    UntrustKey,
)

__all__ = ["KEY_HINT", "perform_on_keys", "read_key"]

KEY_HINT = "a key is 32 bytes in base64, as `barrel-p2p keys export` prints it"
_KEY_BYTES = 32
_KEY_CHARS = 44


def perform_on_keys(store: TrustStore, request: KeyAction) -> dict[str, object]:
    """Do what ``request`` says, and tell what is now.

    Raises:
        InvalidValue: A name or a key is none, or nothing is pinned to take back.
        KeyMismatch: Another key is pinned, and it was not said to replace it.
        RevokedKey: The name or the key is revoked.
        StorageError: The disk would not have it.
    """
    match request:
        case ListKeys():
            return _listed(store)
        case TrustKey():
            return _trusted(store, request)
        case UntrustKey(node):
            if store.lookup_key(node) is None:
                raise InvalidValue(f"nothing is pinned for {node}", peer=node)
            store.delete_key(node)
            return {"node": node, "pinned": None}
        case RevokeKey(node, undo):
            (store.unrevoke if undo else store.revoke)(node)
            return {"node": node, "revoked": not undo}
        case SetTrustMode(mode):
            if mode is not None:
                store.set_trust_mode(mode)
            return {"mode": store.get_trust_mode()}
        case _:
            assert_never(request)


def read_key(text: str) -> bytes:
    """The public key that ``text`` spells.

    Args:
        text: Base64, with its padding.

    Raises:
        InvalidValue: It is no base64 of 32 bytes.
    """
    try:
        key = base64.b64decode(text[: _KEY_CHARS + 1], validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != _KEY_BYTES:
        raise InvalidValue(f"{text[:80]!r} is no public key", hint=KEY_HINT)
    return key


def _trusted(store: TrustStore, request: TrustKey) -> dict[str, object]:
    if request.key is None:
        raise InvalidValue(
            "no key was given, and a fingerprint alone says only which one to expect",
            hint=KEY_HINT,
        )
    key = read_key(request.key)
    node = NodeReference.parse(request.node).name
    before = store.lookup_key(node)
    if request.replace:
        store.store_key(node, key)
    else:
        store.store_key_if_new(node, key)
        store.store_key(node, key)  # A pin of first contact becomes one for good.
    return {
        "node": node,
        "pinned": fingerprint(key).ssh,
        "replaced": fingerprint(before).ssh if before not in (None, key) else None,
    }


def _listed(store: TrustStore) -> dict[str, object]:
    return {
        "mode": store.get_trust_mode(),
        "pins": [
            {
                "node": pin.node,
                "fingerprint": fingerprint(pin.key).ssh,
                "level": pin.level,
                "added_at_ms": pin.added_at,
                "last_seen_ms": pin.last_seen or None,
            }
            for pin in store.list_trusted()
        ],
        "revoked": store.list_revoked(),
    }
