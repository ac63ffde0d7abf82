"""The frames of links, monitors and exits, kinds 8 to 13, as values.

Every body starts with two processes: whose signal it is, and for whom. A process is
``u64 id, u32 creation``; its node is an end of the channel. What a peer sends is
checked here, and nothing behind this file checks its form again.

Bounded by ``REASON_BYTES_MAX`` for each reason.

Source: docs/reference/wire.md, "Links and monitors".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, assert_never, final

from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import BarrelError, WireError
from barrel_p2p.wire import terms
from barrel_p2p.wire.frames import Frame
from barrel_p2p.wire.kinds import Kind
from barrel_p2p.wire.limits import KEY_TERM_BYTES_MAX

__all__ = [
    "FLAG_NAMED",
    "REASON_BYTES_MAX",
    "TIE_KINDS",
    "DemonitorFrame",
    "DownFrame",
    "ExitFrame",
    "LinkFrame",
    "MonitorFrame",
    "MonitorNameFrame",
    "TieFrame",
    "UnlinkFrame",
    "decode",
    "encode",
    "reason_term",
]

FLAG_NAMED: Final = 0x08
"""On MONITOR, as on CALL: the receiver of the frame is given by its local name."""

REASON_BYTES_MAX: Final = 65_536
"""Bytes of the term that says why a process ended."""

TIE_KINDS: Final = range(Kind.EXIT, Kind.DOWN + 1)

_REASON_CHARS_MAX: Final = 1_024
_HEAD = struct.Struct(">QIQI")
_FROM = struct.Struct(">QI")
_U64 = struct.Struct(">Q")
_TWO_U64 = struct.Struct(">QQ")
_U16 = struct.Struct(">H")
_EXIT_SENT: Final = 0
_EXIT_OF_LINK: Final = 1


@final
@dataclass(frozen=True, slots=True)
class ExitFrame:
    """``sender`` ended, linked to ``to``; or it wants ``to`` to end."""

    sender: Pid
    to: Pid
    linked: bool
    reason: object


@final
@dataclass(frozen=True, slots=True)
class LinkFrame:
    """``sender`` links itself to ``to``. ``tag`` is its own number for this link."""

    sender: Pid
    to: Pid
    tag: int


@final
@dataclass(frozen=True, slots=True)
class UnlinkFrame:
    """``sender`` undoes the links it knew: its own ``tag`` and the peer's, or 0."""

    sender: Pid
    to: Pid
    tag: int
    peer_tag: int


@final
@dataclass(frozen=True, slots=True)
class MonitorFrame:
    """``sender`` wants one DOWN with ``ref`` when ``to`` ends."""

    sender: Pid
    to: Pid
    ref: int


@final
@dataclass(frozen=True, slots=True)
class MonitorNameFrame:
    """The same for the process that has a local name, given by its ``key_bytes``."""

    sender: Pid
    name: bytes
    ref: int


@final
@dataclass(frozen=True, slots=True)
class DemonitorFrame:
    """``sender`` wants no DOWN with ``ref`` any more."""

    sender: Pid
    to: Pid
    ref: int


@final
@dataclass(frozen=True, slots=True)
class DownFrame:
    """``sender``, which ``to`` monitored under ``ref``, ended or was not there."""

    sender: Pid
    to: Pid
    ref: int
    reason: object


type TieFrame = (
    ExitFrame
    | LinkFrame
    | UnlinkFrame
    | MonitorFrame
    | MonitorNameFrame
    | DemonitorFrame
    | DownFrame
)


def encode(message: TieFrame) -> tuple[Kind, int, bytes]:
    """The kind, flags and body of a frame.

    Args:
        message: Its reason, if it has one, went through ``reason_term``.
    """
    match message:
        case ExitFrame(linked=linked, reason=reason):
            how = _EXIT_OF_LINK if linked else _EXIT_SENT
            return Kind.EXIT, 0, _head(message) + bytes([how]) + terms.encode(reason)
        case LinkFrame(tag=tag):
            return Kind.LINK, 0, _head(message) + _U64.pack(tag)
        case UnlinkFrame(tag=tag, peer_tag=peer_tag):
            return Kind.UNLINK, 0, _head(message) + _TWO_U64.pack(tag, peer_tag)
        case MonitorFrame(ref=ref):
            return Kind.MONITOR, 0, _head(message) + _U64.pack(ref)
        case MonitorNameFrame(sender, name, ref):
            start = _FROM.pack(sender.id, sender.creation) + _U16.pack(len(name))
            return Kind.MONITOR, FLAG_NAMED, start + name + _U64.pack(ref)
        case DemonitorFrame(ref=ref):
            return Kind.DEMONITOR, 0, _head(message) + _U64.pack(ref)
        case DownFrame(ref=ref, reason=reason):
            return (
                Kind.DOWN,
                0,
                _head(message) + _U64.pack(ref) + terms.encode(reason),
            )
        case _:
            assert_never(message)


def decode(frame: Frame, *, peer: str, creation: int, here: str) -> TieFrame:
    """What an admitted peer said in a frame of ``TIE_KINDS``.

    Args:
        frame: From the wire.
        peer: Its sender.
        creation: The sender's, as it said in SESSION.
        here: The name of this node.

    Raises:
        WireError: The body has another length or form than its kind asks for, speaks
            for another life of the sender, or its reason is no term within
            ``REASON_BYTES_MAX``.
    """
    body = frame.body
    if frame.kind == Kind.MONITOR and frame.flags & FLAG_NAMED:
        return _decode_named(body, peer, creation)
    if len(body) < _HEAD.size:
        raise _short(frame, peer)
    from_id, from_creation, to_id, to_creation = _HEAD.unpack_from(body)
    sender = _sender(peer, from_id, from_creation, creation)
    to = Pid(here, to_id, to_creation)
    rest = body[_HEAD.size :]
    match frame.kind:
        case Kind.EXIT:
            if not rest or rest[0] not in (_EXIT_SENT, _EXIT_OF_LINK):
                raise _short(frame, peer)
            return ExitFrame(sender, to, rest[0] == _EXIT_OF_LINK, _reason(rest[1:]))
        case Kind.DOWN:
            if len(rest) < _U64.size:
                raise _short(frame, peer)
            reason = _reason(rest[_U64.size :])
            return DownFrame(sender, to, _U64.unpack_from(rest)[0], reason)
        case Kind.LINK:
            return LinkFrame(sender, to, _tag(frame, rest, peer))
        case Kind.UNLINK:
            if len(rest) != _TWO_U64.size:
                raise _short(frame, peer)
            return UnlinkFrame(sender, to, *_TWO_U64.unpack(rest))
        case Kind.MONITOR:
            return MonitorFrame(sender, to, _tag(frame, rest, peer))
        case Kind.DEMONITOR:
            return DemonitorFrame(sender, to, _tag(frame, rest, peer))
        case _:
            raise WireError(f"frame of kind {frame.kind} is no tie", peer=peer)


def reason_term(reason: object) -> object:
    """``reason`` if it is a term within ``REASON_BYTES_MAX``, else a text for it."""
    if type(reason) is str and len(reason) <= _REASON_CHARS_MAX and reason.isascii():
        return reason
    try:
        if len(terms.encode(reason)) <= REASON_BYTES_MAX:
            return reason
    except BarrelError:
        pass
    try:
        text = repr(reason)[:_REASON_CHARS_MAX]
    except Exception:  # noqa: BLE001 -- a repr of somebody else's that fails
        text = f"<{type(reason).__name__}>"
    return text.encode("utf-8", "replace").decode()


def _head(
    message: ExitFrame
    | LinkFrame
    | UnlinkFrame
    | MonitorFrame
    | DemonitorFrame
    | DownFrame,
) -> bytes:
    sender, to = message.sender, message.to
    return _HEAD.pack(sender.id, sender.creation, to.id, to.creation)


def _decode_named(body: bytes, peer: str, creation: int) -> MonitorNameFrame:
    start = _FROM.size + _U16.size
    size = _U16.unpack_from(body, _FROM.size)[0] if len(body) >= start else 0
    if not 0 < size <= KEY_TERM_BYTES_MAX or len(body) != start + size + _U64.size:
        raise WireError(
            f"{peer} monitors a name of {size} bytes in a body of {len(body)}",
            peer=peer,
        )
    from_id, from_creation = _FROM.unpack_from(body)
    ref = _U64.unpack_from(body, start + size)[0]
    if ref == 0:
        raise WireError(f"{peer} sent a MONITOR with ref 0", peer=peer)
    sender = _sender(peer, from_id, from_creation, creation)
    return MonitorNameFrame(sender, body[start : start + size], ref)


def _sender(peer: str, process: int, said: int, creation: int) -> Pid:
    if said != creation:
        raise WireError(
            f"{peer}, in its life {creation}, speaks for a process of life {said}",
            peer=peer,
        )
    return Pid(peer, process, creation)


def _tag(frame: Frame, rest: bytes, peer: str) -> int:
    if len(rest) != _U64.size:
        raise _short(frame, peer)
    tag: int = _U64.unpack(rest)[0]
    if tag == 0:
        raise WireError(f"{peer} sent a frame of kind {frame.kind}, ref 0", peer=peer)
    return tag


def _reason(data: bytes) -> object:
    return terms.decode(data, bytes_max=REASON_BYTES_MAX)


def _short(frame: Frame, peer: str) -> WireError:
    return WireError(
        f"{peer} sent a frame of kind {frame.kind} with a bad body of"
        f" {len(frame.body)} bytes",
        peer=peer,
    )
