"""Run a program's coroutine on the fastest loop there is, and find out where one is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, cast

from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import NotStarted
from barrel_p2p.runtime.switch import origin

if TYPE_CHECKING:
    from barrel_p2p.node.node import Node

__all__ = ["current_node", "run", "self_pid"]


def run[T](main: Coroutine[Any, Any, T], *, debug: bool | None = None) -> T:
    """Run ``main`` to its end on a new event loop: uvloop where it can be imported.

    A node never replaces a loop that runs; this is only the short way to start one.

    Args:
        main: The program.
        debug: Asyncio's debug mode; None leaves it to the interpreter.

    Returns:
        What ``main`` returned.

    Raises:
        RuntimeError: A loop runs in this thread already.
    """
    with asyncio.Runner(debug=debug, loop_factory=_fastest_loop()) as runner:
        return runner.run(main)


def _fastest_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def current_node() -> Node:
    """The node of the running process, or the only one that runs here.

    Raises:
        NotStarted: No node runs here, or several do and this code belongs to none.
    """
    return cast("Node", origin().switch.node)


def self_pid() -> Pid:
    """The pid of the running process.

    Raises:
        NotStarted: The running code is no process.
    """
    here = origin()
    if here.id == 0:
        raise NotStarted(
            "this code is no process and has no pid",
            hint="`async with node.mailbox() as me` gives it one",
        )
    return here.switch.pid(here.id)
