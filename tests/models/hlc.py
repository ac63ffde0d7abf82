"""The hybrid logical clock, plainly: a stamp is a tuple, and tuples order themselves.

This is the specification that the property tests hold the compiled class to.

Source: Kulkarni et al., "Logical Physical Clocks", OPODIS 2014.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Stamp = tuple[int, int]

ISSUED_COUNTER_MAX = 2**13 - 1
FENCE_EPOCH_MS = 1_704_067_200_000


class Refused(Exception):
    """The peer's stamp would lead further ahead of the wall than allowed."""


class HlcModel:
    """One node's clock, as the paper states it, with a bound on drift."""

    def __init__(
        self,
        wall_ms: Callable[[], int] | None = None,
        *,
        max_drift_ms: int = 60_000,
        floor: Stamp = (0, 0),
    ) -> None:
        self._wall_ms = wall_ms or system_wall_ms
        self._max_drift_ms = max_drift_ms
        self._last = floor

    def now(self) -> Stamp:
        self._last = max((self._wall_ms(), 0), successor(self._last))
        return self._last

    def update(self, peer: Stamp) -> Stamp:
        wall_ms = self._wall_ms()
        if successor(peer)[0] > wall_ms + self._max_drift_ms:
            raise Refused(peer)
        self._last = max((wall_ms, 0), successor(max(self._last, peer)))
        return self._last


def system_wall_ms() -> int:
    return time.time_ns() // 1_000_000


def successor(stamp: Stamp) -> Stamp:
    wall_ms, counter = stamp
    return (wall_ms, counter + 1) if counter < ISSUED_COUNTER_MAX else (wall_ms + 1, 0)


def to_binary(stamp: Stamp) -> bytes:
    return stamp[0].to_bytes(8, "big") + stamp[1].to_bytes(4, "big")


def pack(stamp: Stamp, tag: int) -> int:
    return ((stamp[0] - FENCE_EPOCH_MS) * 2**13 + stamp[1]) * 2**8 + tag
