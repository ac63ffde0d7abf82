"""Why a channel ended, as every node that watched it is told.

A reason is a short word that programs compare. These are the ones we give; a peer may
give others in its BYE.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

from barrel_p2p.carrier.connection import CODE_BUSY, ClosedBy

if TYPE_CHECKING:
    from barrel_p2p.carrier.connection import Closed

__all__ = ["CODE_PROTOCOL", "CODE_REFUSED_STREAM", "Reason", "reason_of"]

CODE_PROTOCOL: Final = 0x101
"""Close code: the peer broke a rule of the wire."""

CODE_REFUSED_STREAM: Final = 0x100
"""Code on a user stream that nobody takes."""


class Reason(StrEnum):
    """Reasons we give."""

    BUSY = "busy"
    DISCONNECT = "disconnect"
    IDLE_TIMEOUT = "idle_timeout"
    PROTOCOL_ERROR = "protocol_error"
    REVOKED = "revoked"
    RING_SIZE_MISMATCH = "ring_size_mismatch"
    SHUTDOWN = "shutdown"
    STALE_CREATION = "stale_creation"
    STATELESS_RESET = "stateless_reset"
    SUPERSEDED = "superseded"
    TRANSPORT_ERROR = "transport_error"
    UNREACHABLE = "unreachable"


_BY: Final = {
    ClosedBy.LOCAL: Reason.DISCONNECT,
    ClosedBy.TRANSPORT: Reason.TRANSPORT_ERROR,
    ClosedBy.RESET: Reason.STATELESS_RESET,
    ClosedBy.IDLE: Reason.IDLE_TIMEOUT,
    ClosedBy.UNREACHABLE: Reason.UNREACHABLE,
    ClosedBy.HANDSHAKE: Reason.UNREACHABLE,
}
_CODES: Final = {
    0: Reason.DISCONNECT,
    CODE_PROTOCOL: Reason.PROTOCOL_ERROR,
    CODE_BUSY: Reason.BUSY,
}


def reason_of(closed: Closed) -> Reason:
    """The reason for a channel whose connection ended before anyone said BYE."""
    if closed.by is ClosedBy.APPLICATION:
        return _CODES.get(closed.code, Reason.DISCONNECT)
    if closed.by is ClosedBy.LOCAL and closed.code not in (0, CODE_BUSY):
        return Reason.TRANSPORT_ERROR
    if closed.by is ClosedBy.LOCAL and closed.code == CODE_BUSY:
        return Reason.BUSY
    return _BY[closed.by]
