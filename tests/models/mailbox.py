"""A mailbox, plainly: a list, a flag, and at most one receiver that waits."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["NOTHING", "MailboxModel"]

NOTHING = object()


class MailboxModel:
    """Messages, oldest first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.messages: list[object] = []
        self.full = False

    def put(self, message: object) -> None:
        self.messages.append(message)
        if len(self.messages) >= self._limit:
            self.full = True

    def put_first(self, message: object) -> None:
        self.put(message)
        self.messages.insert(0, self.messages.pop())

    def take(self, match: Callable[[object], bool] = lambda message: True) -> object:
        for i, message in enumerate(self.messages):
            if match(message):
                del self.messages[i]
                self._fell()
                return message
        return NOTHING

    def drain(self) -> list[object]:
        found, self.messages = self.messages, []
        self._fell()
        return found

    def _fell(self) -> None:
        if 2 * len(self.messages) <= self._limit:
            self.full = False
