"""Frames, plainly: the whole stream in one bytes object, parsed from its start."""

from __future__ import annotations

__all__ = ["FramesModel", "Refused", "encode_model"]

Triple = tuple[int, int, bytes]


class Refused(Exception):
    """The stream holds a length that may not be."""

    def __init__(self, length: int) -> None:
        super().__init__(length)
        self.length = length


def encode_model(frames: list[Triple]) -> bytes:
    return b"".join(
        (2 + len(body)).to_bytes(4, "big") + bytes([kind, flags]) + body
        for kind, flags, body in frames
    )


class FramesModel:
    """Everything received so far, and how many frames of it were handed out."""

    def __init__(self, frame_bytes_max: int) -> None:
        self._frame_bytes_max = frame_bytes_max
        self._received = b""
        self._handed_out = 0

    def feed(self, chunk: bytes) -> list[Triple]:
        """Return the frames that ``chunk`` completes, or raise ``Refused``."""
        self._received += chunk
        frames = self._parse()
        fresh = frames[self._handed_out :]
        self._handed_out = len(frames)
        return fresh

    def _parse(self) -> list[Triple]:
        frames = []
        rest = self._received
        while len(rest) >= 4:
            length = int.from_bytes(rest[:4], "big")
            if not 2 <= length <= self._frame_bytes_max:
                raise Refused(length)
            if len(rest) < 4 + length:
                break
            frames.append((rest[4], rest[5], rest[6 : 4 + length]))
            rest = rest[4 + length :]
        return frames
