"""Whether this process is a fork of the one that started a node, for next to nothing.

Asking the system for the process's id on every call costs more than most calls do.
"""

from __future__ import annotations

import functools
import os
from typing import Final, final

__all__ = ["FORKS", "Forks"]


@final
class Forks:
    """The forks that led to this process.

    Attributes:
        count: How many, since ``watch`` was called first.
    """

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def watch(self) -> int:
        """Count from now on, and return the count so far."""
        _register()
        return self.count


FORKS: Final = Forks()
"""Those of this process."""


@functools.cache
def _register() -> None:
    os.register_at_fork(after_in_child=_forked)


def _forked() -> None:
    FORKS.count += 1
