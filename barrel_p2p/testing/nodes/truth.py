"""What is so in a simulated cluster, against which what nodes say is held."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

__all__ = ["Truth"]


@final
@dataclass(slots=True)
class Truth:
    """Which lives there are, and how they ended.

    Attributes:
        lives: The latest life of each node that was ever begun.
        running: The same, of those whose process runs and has not said that it leaves.
        left: Lives that said so, perhaps to come back: names and lives.
        is_calm: No fault is under way, and everything held when the last one was over.
    """

    lives: dict[str, int] = field(default_factory=dict)
    running: dict[str, int] = field(default_factory=dict)
    left: dict[tuple[str, int], None] = field(default_factory=dict)
    is_calm: bool = False

    def begins(self, name: str, life: int) -> None:
        """A life of a node has begun."""
        self.lives[name] = self.running[name] = life

    def leaves(self, name: str) -> None:
        """A node is about to say that it leaves."""
        self.left[name, self.lives[name]] = None
        self.running.pop(name, None)

    def comes_back(self, name: str) -> None:
        """A node that had left joins again, in the same life."""
        self.running[name] = self.lives[name]

    def ends(self, name: str) -> None:
        """The process of a node is gone."""
        self.running.pop(name, None)

    def is_wrong_verdict(self, name: str, life: int) -> bool:
        """Whether nothing excuses that this life is held for dead now."""
        return self.is_calm and self.running.get(name) == life
