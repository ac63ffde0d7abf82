"""What two-way streams are: two queues of bytes each, and an end on either."""

from __future__ import annotations

__all__ = ["StreamModel"]


class StreamModel:
    """One direction of a stream: what was written, what was read, whether it ended."""

    def __init__(self) -> None:
        self.written = b""
        self.read = b""
        self.ended = False

    def write(self, data: bytes) -> bool:
        """Take ``data``; False once the direction has ended."""
        if self.ended:
            return False
        self.written += data
        return True

    def end(self) -> None:
        """Nothing can be written any more."""
        self.ended = True

    def take(self, data: bytes) -> None:
        """``data`` was read: it must be what comes next."""
        expected = self.written[len(self.read) : len(self.read) + len(data)]
        assert data == expected
        self.read += data

    @property
    def readable(self) -> bool:
        """Whether a read would return: bytes are under way, or the end is."""
        return self.ended or len(self.read) < len(self.written)

    @property
    def at_end(self) -> bool:
        """Whether everything was read and no more can come."""
        return self.ended and self.read == self.written
