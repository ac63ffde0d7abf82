"""``eventually``: a claim about a cluster comes true in a while, or the test fails."""

from __future__ import annotations

import asyncio
import inspect
import linecache
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, overload

__all__ = ["TIMEOUT_S", "eventually"]

TIMEOUT_S: Final = 10.0
"""How long a claim has, unless it is told."""


@overload
async def eventually[T](
    condition: Callable[[], Awaitable[T]],
    *,
    timeout: float = ...,
    interval: float = ...,
) -> T: ...
@overload
async def eventually[T](
    condition: Callable[[], T], *, timeout: float = ..., interval: float = ...
) -> T: ...
async def eventually(
    condition: Callable[[], Any], *, timeout: float = TIMEOUT_S, interval: float = 0.01
) -> Any:
    """Ask ``condition`` again and again until it holds.

    Args:
        condition: Holds when what it returns, or what the awaitable that it returns
            comes to, is true. An AssertionError in it means that it does not hold yet;
            any other exception ends the wait.
        timeout: Seconds it has. It is asked once, at least.
        interval: Seconds between two questions.

    Returns:
        What ``condition`` returned.

    Raises:
        AssertionError: It did not hold in time. The text names the condition and what
            it said last.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    asked, last = 0, "it never answered"
    while True:
        try:
            value = await _answer(condition, deadline)
        except _TooLate:
            break
        except AssertionError as error:
            last = f"it raised AssertionError: {error}"
        else:
            if value:
                return value
            last = f"it returned {value!r}"
        asked += 1
        if loop.time() + interval > deadline:
            break
        await asyncio.sleep(interval)
    raise AssertionError(
        f"not within {timeout} s, asked {asked} times: {_described(condition)}; {last}"
    )


class _TooLate(Exception):
    """The condition itself took too long."""


async def _answer(condition: Callable[[], Any], deadline: float) -> Any:
    answer = condition()
    if not inspect.isawaitable(answer):
        return answer
    patience = asyncio.timeout_at(deadline)
    try:
        async with patience:
            return await answer
    except TimeoutError:
        if patience.expired():
            raise _TooLate from None
        raise  # The condition's own.


def _described(condition: Callable[[], object]) -> str:
    code = getattr(condition, "__code__", None)
    if code is None:
        return repr(condition)
    name, number = code.co_filename, code.co_firstlineno
    text = linecache.getline(name, number).strip() or condition.__name__
    return f"{text} ({Path(name).name}:{number})"
