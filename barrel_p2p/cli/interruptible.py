"""Work that a signal may end early, in good order, and what is said then."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Awaitable
from typing import Final

from barrel_p2p.cli.exit_codes import ExitCode

__all__ = ["interruptible", "say_interrupted"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


async def interruptible(work: Awaitable[None]) -> bool:
    """Do ``work`` unless a signal comes first; whether one did.

    The signal cancels it, so that it can clean up. The handlers stay: this is for the
    last thing that a program does.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    for number in _SIGNALS:
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        return True
    return False


def say_interrupted(name: str) -> ExitCode:
    """Say that ``name`` was interrupted; the exit code for that."""
    print(f"\n{name}: interrupted", file=sys.stderr)
    return ExitCode.INTERRUPTED
