"""Whether a QUIC endpoint answers at an address, asked without becoming a peer of it.

A packet of a version that nobody has is answered with the versions that there are, by
which no connection begins, and nothing is logged over there.

Source: RFC 8999, section 6; RFC 9000, sections 6 and 14.1.
"""

from __future__ import annotations

import secrets
import socket
import time
from typing import Final

__all__ = ["answers"]

_UNKNOWN_VERSION: Final = 0x1A2A3A4A  # Reserved for this, RFC 9000, section 15.
_DATAGRAM_BYTES: Final = 1_200  # Shorter ones need not be answered.
_ID_BYTES: Final = 8
_TRIES: Final = 3


def answers(host: str, port: int, *, timeout: float = 1.5) -> float | None:
    """Ask for the versions of QUIC that are spoken at ``host``.

    Args:
        host: A name or an address.
        port: The UDP port.
        timeout: Seconds for all tries.

    Returns:
        How long the answer took, in ms; None if there was none.
    """
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[
            0
        ]
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.connect(place)
            asking.settimeout(timeout / _TRIES)
            for _ in range(_TRIES):
                started = time.perf_counter()
                if _asked(asking):
                    return (time.perf_counter() - started) * 1_000
    except OSError:
        pass
    return None


def _asked(asking: socket.socket) -> bool:
    ours, theirs = secrets.token_bytes(_ID_BYTES), secrets.token_bytes(_ID_BYTES)
    head = b"\xc0" + _UNKNOWN_VERSION.to_bytes(4)
    head += bytes([_ID_BYTES]) + theirs + bytes([_ID_BYTES]) + ours
    asking.send(head.ljust(_DATAGRAM_BYTES, b"\0"))
    wanted = bytes(4) + bytes([_ID_BYTES]) + ours + bytes([_ID_BYTES]) + theirs
    try:
        got = asking.recv(2_048)
    except (TimeoutError, ConnectionRefusedError):
        return False
    return len(got) > len(wanted) and got[0] >= 0x80 and got[1:].startswith(wanted)
