"""The other half of a fence: what a resource does with it."""

from __future__ import annotations

import threading
from typing import Final, final

from barrel_p2p.errors import FencedOut, InvalidValue

__all__ = ["FENCE_MAX", "FenceGuard"]

FENCE_MAX: Final = (1 << 63) - 1
"""Greatest fence: they fit a signed integer of 64 bits, as databases have them."""


@final
class FenceGuard:
    """Remembers the greatest fence that it has let pass, and refuses what is not above.

    It stands at the resource, not at the leader: who was leader cannot know in time
    that it is none any more, and the resource can tell by the fence. May be used from
    several threads.

    Args:
        highest: The greatest fence so far, as the resource has kept it; 0 for none.

    Attributes:
        highest: The same, now. Keep it with what it guards.
        refused: How many did not pass.

    Source: Kleppmann, "How to do distributed locking", 2016.
    """

    def __init__(self, highest: int = 0) -> None:
        self.highest = _checked(highest)
        self.refused = 0
        self._lock = threading.Lock()

    def check(self, fence: int, *, again: bool = False) -> None:
        """Let ``fence`` pass, and remember it.

        Args:
            fence: Of the leader's term, 1 to ``FENCE_MAX``.
            again: The fence that passed last may pass again: for the second and later
                writes of one term. It is safe unless two nodes that were apart mint
                equal fences, for which they have to do so within one millisecond and
                have tags in common.

        Raises:
            FencedOut: It is not greater than ``highest``. Nothing was changed.
            InvalidValue: It is no fence.
        """
        _checked(fence)
        with self._lock:
            if fence > self.highest:
                self.highest = fence
            elif not (again and fence == self.highest and fence):
                self.refused += 1
                raise FencedOut(
                    f"fence {fence} is not above {self.highest}, which has passed",
                    hint="another node leads by now: stop writing",
                )


def _checked(fence: object) -> int:
    if type(fence) is not int or not 0 <= fence <= FENCE_MAX:
        raise InvalidValue(f"{fence!r:.40} is no integer from 0 to 2^63 - 1")
    return fence
