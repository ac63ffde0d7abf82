"""SESSION and BYE: the first and the last word on a control stream.

SESSION says what a node needs to know of its peer before it uses the channel. It is a
map, so that a later version can add fields: unknown ones are ignored, missing ones are
refused. BYE says why a channel ends, which a QUIC close code cannot.

Bounded by ``SESSION_BYTES_MAX``, ``BYE_REASON_CHARS_MAX`` and ``BYE_TEXT_BYTES_MAX``.

Source: docs/reference/wire.md, "SESSION" and "BYE".
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from typing import Final

from barrel_p2p.core.names import HOST_CHARS_MAX, PORT_MAX
from barrel_p2p.core.rendezvous import RING_SIZE_MAX
from barrel_p2p.errors import WireError
from barrel_p2p.wire import terms

__all__ = [
    "BYE_REASON_CHARS_MAX",
    "BYE_TEXT_BYTES_MAX",
    "DATA_STREAMS_MAX",
    "RING_SIZE_MAX",
    "SESSION_BYTES_MAX",
    "Bye",
    "Session",
    "decode_bye",
    "decode_session",
    "encode_bye",
    "encode_session",
]

SESSION_BYTES_MAX: Final = 4_096
"""Bytes of the body of SESSION."""

DATA_STREAMS_MAX: Final = 64
"""Data streams that one side may have open towards the other."""

CREATION_MAX: Final = (1 << 32) - 1
FEATURES_MAX: Final = (1 << 62) - 1
LEASE_MS_MAX: Final = 1 << 40
VERSION_CHARS_MAX: Final = 64
BYE_REASON_CHARS_MAX: Final = 32
BYE_TEXT_BYTES_MAX: Final = 512

_MEMORY_MAX: Final = 65_536
_DEPTH_MAX: Final = 8
_REASON: Final = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_INTEGERS: Final = {
    "creation": (1, CREATION_MAX),
    "ring_size": (1, RING_SIZE_MAX),
    "features": (0, FEATURES_MAX),
    "member_heartbeat_ms": (1, LEASE_MS_MAX),
    "member_ttl_ms": (1, LEASE_MS_MAX),
    "data_streams": (1, DATA_STREAMS_MAX),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What one node tells the other about itself, once both are admitted.

    Args:
        creation: This life of the node, 1 to 2^32 - 1; a later life has a higher one.
        address: Host and port where it can be dialled, or None if it cannot.
        ring_size: Partitions of the placement ring, 1 to ``RING_SIZE_MAX``.
        member_heartbeat_ms: How often it renews its lease.
        member_ttl_ms: How long its lease lasts.
        data_streams: Data streams it will open, 1 to ``DATA_STREAMS_MAX``.
        features: Bits of what else it can do; none are given yet.
        package: Version of this package.
        python: Version of Python.
    """

    creation: int
    address: tuple[str, int] | None
    ring_size: int
    member_heartbeat_ms: int
    member_ttl_ms: int
    data_streams: int
    features: int = 0
    package: str = ""
    python: str = platform.python_version()


@dataclass(frozen=True, slots=True)
class Bye:
    """Why the sender ends the channel.

    Args:
        reason: For programs: ``[a-z][a-z0-9_]*``, at most ``BYE_REASON_CHARS_MAX``.
        text: For people, at most ``BYE_TEXT_BYTES_MAX`` bytes of UTF-8.
    """

    reason: str
    text: str


def encode_session(session: Session) -> bytes:
    """The body of SESSION."""
    fields: dict[str, object] = {
        "package": session.package,
        "python": session.python,
        "creation": session.creation,
        "address": session.address,
        "ring_size": session.ring_size,
        "features": session.features,
        "member_heartbeat_ms": session.member_heartbeat_ms,
        "member_ttl_ms": session.member_ttl_ms,
        "data_streams": session.data_streams,
    }
    return terms.encode(fields)


def decode_session(body: bytes, *, peer: str | None = None) -> Session:
    """The session in a frame's body.

    Args:
        body: From an admitted peer, which may still be wrong about everything.
        peer: Its sender, for the error.

    Raises:
        WireError: It is no such map, or a field is missing, of another type or out of
            range.
    """
    if len(body) > SESSION_BYTES_MAX:
        raise _bad(
            f"of {len(body)} bytes exceeds SESSION_BYTES_MAX={SESSION_BYTES_MAX}", peer
        )
    fields = terms.decode(body, memory_max=_MEMORY_MAX, depth_max=_DEPTH_MAX)
    if not isinstance(fields, dict):
        raise _bad("is no map", peer)
    numbers = {name: _integer(fields, name, peer) for name in _INTEGERS}
    return Session(
        address=_address(fields, peer),
        package=_version(fields, "package", peer),
        python=_version(fields, "python", peer),
        creation=numbers["creation"],
        ring_size=numbers["ring_size"],
        features=numbers["features"],
        member_heartbeat_ms=numbers["member_heartbeat_ms"],
        member_ttl_ms=numbers["member_ttl_ms"],
        data_streams=numbers["data_streams"],
    )


def encode_bye(bye: Bye) -> bytes:
    """The body of BYE. What exceeds the limits is cut; a bad reason is our own bug."""
    assert _REASON.fullmatch(bye.reason)
    reason = bye.reason[:BYE_REASON_CHARS_MAX].encode("ascii")
    plain = bye.text[:BYE_TEXT_BYTES_MAX].encode(errors="replace")[:BYE_TEXT_BYTES_MAX]
    text = plain.decode(errors="ignore").encode()
    return bytes([len(reason)]) + reason + len(text).to_bytes(2) + text


def decode_bye(body: bytes, *, peer: str | None = None) -> Bye:
    """The BYE in a frame's body.

    Raises:
        WireError: It does not fit its layout.
    """
    size = body[0] if body else 0
    text_at = 1 + size + 2
    if not 1 <= size <= BYE_REASON_CHARS_MAX or len(body) < text_at:
        raise WireError(f"BYE of {len(body)} bytes does not fit its layout", peer=peer)
    announced = int.from_bytes(body[1 + size : text_at])
    if announced > BYE_TEXT_BYTES_MAX or len(body) != text_at + announced:
        raise WireError(f"BYE of {len(body)} bytes does not fit its layout", peer=peer)
    try:
        reason, text = body[1 : 1 + size].decode("ascii"), body[text_at:].decode()
    except UnicodeDecodeError as error:
        raise WireError("BYE whose reason or text is no text", peer=peer) from error
    if not _REASON.fullmatch(reason):
        raise WireError(f"BYE with reason {reason!r}", peer=peer)
    return Bye(reason, text)


def _integer(fields: dict[object, object], name: str, peer: str | None) -> int:
    lowest, highest = _INTEGERS[name]
    value = fields.get(name)
    if type(value) is not int:
        raise _bad(f"has no whole number for {name}", peer)
    if not lowest <= value <= highest:
        raise _bad(f"has {name}={value}, outside {lowest} to {highest}", peer)
    return value


def _version(fields: dict[object, object], name: str, peer: str | None) -> str:
    value = fields.get(name)
    if not isinstance(value, str) or len(value) > VERSION_CHARS_MAX:
        raise _bad(f"has no {name} of at most {VERSION_CHARS_MAX} characters", peer)
    if not value.isascii() or not (value.isprintable()):
        raise _bad(f"has a {name} that is not plain ASCII", peer)
    return value


def _address(fields: dict[object, object], peer: str | None) -> tuple[str, int] | None:
    value = fields.get("address", "")
    if value is None:
        return None
    if type(value) is tuple and len(value) == 2:
        host, port = value
        # A bool is an int, and true would pass for port 1.
        if isinstance(host, str) and type(port) is int:
            plain = 1 <= len(host) <= HOST_CHARS_MAX and host.isascii()
            if plain and host.isprintable() and 1 <= port <= PORT_MAX:
                return host, port
    raise _bad("has no address, neither undefined nor host and port", peer)


def _bad(what: str, peer: str | None) -> WireError:
    sender = "" if peer is None else f" from {peer}"
    return WireError(f"SESSION{sender} {what}", peer=peer)
