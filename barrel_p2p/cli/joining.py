"""``start --join``: again and again, where a later try may succeed.

A node that is not there yet is no reason not to start: of two that are started together
one is first. Where a node refuses, trying again would not help: somebody has to act.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from barrel_p2p.cli.refusals import Refused
from barrel_p2p.errors import AuthTimeout, BarrelError, UnavailableError
from barrel_p2p.node.failures import describe
from barrel_p2p.node.node import Node

__all__ = ["JOIN_WAITS_S", "Joins"]

JOIN_WAITS_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Seconds from one try to the next; the last for good."""

_log = logging.getLogger("barrel_p2p.cli")


class Joins:
    """The joins of one node. ``async with`` ends those that go on.

    Attributes:
        waiting: Whom it could not join yet.
    """

    def __init__(self, node: Node) -> None:
        self.waiting: list[str] = []
        self._node = node
        self._tasks: list[asyncio.Task[None]] = []

    async def join(self, reference: str) -> None:
        """Join the node now, or later in the background.

        Raises:
            Refused: The node refused, or ``reference`` is none.
        """
        try:
            await self._node.join(reference)
        except (UnavailableError, AuthTimeout) as error:
            _tell(self._node, reference, error, JOIN_WAITS_S[0])
            self.waiting.append(reference)
            self._tasks.append(asyncio.create_task(self._go_on(reference)))
        except BarrelError as error:
            raise Refused(describe(error), verb="join") from error

    async def _go_on(self, reference: str) -> None:
        tries = 0
        while True:
            await asyncio.sleep(JOIN_WAITS_S[min(tries, len(JOIN_WAITS_S) - 1)])
            tries += 1
            wait_s = JOIN_WAITS_S[min(tries, len(JOIN_WAITS_S) - 1)]
            try:
                await self._node.join(reference)
            except (UnavailableError, AuthTimeout) as error:
                _tell(self._node, reference, error, wait_s)
            except BarrelError as error:
                text = "%s refused, and is not asked again: %s"
                _log.error(text, reference, error, extra=_event(self._node, "refused"))
                break
            else:
                text = "joined %s at try %d"
                _log.info(
                    text, reference, tries + 1, extra=_event(self._node, "joined")
                )
                break
        self.waiting.remove(reference)

    async def __aenter__(self) -> Joins:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


def _tell(node: Node, reference: str, error: BarrelError, wait_s: float) -> None:
    text = "could not join %s: %s; the next try is in %g s"
    message = str(error).partition("\n")[0]
    _log.warning(text, reference, message, wait_s, extra=_event(node, "join_failed"))


def _event(node: Node, event: str) -> dict[str, str]:
    return {"event": event, "node": node.name}
