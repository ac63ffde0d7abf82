"""Bodies of frames that are packed fields, read one after another.

A field ends where its layout says, or where the byte in front of it says. What ends
before a field does, and what is left behind the last one, is refused, so that a message
has one encoding.

Bounded by the frame: nothing is read twice, and nothing is allocated that is not there.

Source: docs/reference/wire.md, "Frames".
"""

from __future__ import annotations

import struct
from typing import Any, Final

from barrel_p2p.core.names import wire_name
from barrel_p2p.errors import WireError

__all__ = ["SHORT_BYTES_MAX", "Reader", "misfit", "short"]

SHORT_BYTES_MAX: Final = 255
"""Bytes of a field behind a byte that says how many there are."""


def short(text: str) -> bytes:
    """``text`` in UTF-8, behind a byte that says how long it is.

    Args:
        text: At most ``SHORT_BYTES_MAX`` bytes.
    """
    data = text.encode()
    assert len(data) <= SHORT_BYTES_MAX
    return bytes((len(data),)) + data


def misfit(name: str, body: bytes, *, peer: str | None = None) -> WireError:
    """The error for a body whose length is not what its fields add up to.

    Args:
        name: Of the message.
        body: All of it.
        peer: Its sender, if it is known here.
    """
    return WireError(f"{name} of {len(body)} bytes does not fit its layout", peer=peer)


class Reader:
    """A body, and how much of it has been read.

    Args:
        body: From a peer.
        name: Of the message, for errors.
    """

    __slots__ = ("_at", "_body", "name")

    def __init__(self, body: bytes, name: str) -> None:
        self.name = name
        self._body = body
        self._at = 0

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes.

        Raises:
            WireError: There are fewer. So do all that read.
        """
        start, self._at = self._at, self._at + size
        if self._at > len(self._body):
            raise self.misfit()
        return self._body[start : self._at]

    def byte(self, *, at_most: int = 255) -> int:
        """The next byte, refused above ``at_most``."""
        value = self.take(1)[0]
        if value > at_most:
            raise WireError(
                f"{self.name} holds {value} where {at_most} is the greatest value"
            )
        return value

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """The fields of ``layout``."""
        start, self._at = self._at, self._at + layout.size
        if self._at > len(self._body):
            raise self.misfit()
        return layout.unpack_from(self._body, start)

    def short(self) -> bytes:
        """What ``short`` has written, not decoded."""
        body, at = self._body, self._at
        # Spelt out, because a LEASES frame holds a thousand of them.
        if at < len(body):
            self._at = end = at + 1 + body[at]
            if end <= len(body):
                return body[at + 1 : end]
        raise self.misfit()

    def node(self) -> str:
        """The name of a node, written by ``short`` and checked by ``wire_name``."""
        return wire_name(self.short())

    def rest(self) -> bytes:
        """All that has not been read yet."""
        start, self._at = self._at, len(self._body)
        return self._body[start:]

    def end(self) -> None:
        """Refuse a body of which something is left."""
        if self._at != len(self._body):
            raise self.misfit()

    def misfit(self) -> WireError:
        """The error for this body."""
        return misfit(self.name, self._body)
