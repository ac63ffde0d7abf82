"""``@call`` and ``@cast``: which methods of a server its proxies reach.

A request of a proxy travels as ``(REQUEST_TAG, method, args, kwargs)``. The method is
looked up in the table of the server's class, which holds marked methods alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, Final, Literal, NamedTuple, overload

from barrel_p2p.core.terms import Atom
from barrel_p2p.errors import InvalidValue
from barrel_p2p.runtime.checks import Arguments

__all__ = ["REQUEST_TAG", "Handler", "Verb", "call", "cast", "handlers_of"]

REQUEST_TAG: Final = Atom("$request")

type Verb = Literal["call", "cast"]

_MARK: Final = "__barrel_verb__"


class Handler(NamedTuple):
    """A marked method: what it is called by, whether beside others, its arguments."""

    verb: Verb
    function: Callable[..., Coroutine[Any, Any, Any]]
    arguments: Arguments
    concurrent: bool


@overload
def call[S, **P, R](
    function: Callable[Concatenate[S, P], Coroutine[Any, Any, R]], /
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]: ...
@overload
def call[S, **P, R](
    *, concurrent: bool = False
) -> Callable[
    [Callable[Concatenate[S, P], Coroutine[Any, Any, R]]],
    Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
]: ...
def call(function: Any = None, /, *, concurrent: bool = False) -> Any:
    """Let proxies of the server call this method and wait for what it returns.

    Args:
        function: An ``async`` method of a ``GenServer``. Its annotations are checked
            against what arrives, before its body runs.
        concurrent: Run it in a task of its own, beside the server's other work; at most
            ``CONCURRENT_CALLS_MAX`` at once. Without it, the server does one thing at
            a time.

    Raises:
        InvalidValue: It is no ``async`` function.
    """
    if function is None:
        return lambda late: _marked(late, "call", concurrent=concurrent)
    return _marked(function, "call", concurrent=concurrent)


def cast[S, **P](
    function: Callable[Concatenate[S, P], Coroutine[Any, Any, None]], /
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, None]]:
    """Let proxies of the server ask for this method without waiting for it.

    Through a proxy it returns once the request is queued; what the method returns or
    raises never reaches the caller. Arguments that do not fit are dropped and counted.

    Args:
        function: An ``async`` method of a ``GenServer``.

    Raises:
        InvalidValue: It is no ``async`` function.
    """
    marked: Callable[Concatenate[S, P], Coroutine[Any, Any, None]] = _marked(
        function, "cast", concurrent=False
    )
    return marked


def _marked(function: Any, verb: Verb, *, concurrent: bool) -> Any:
    if not inspect.iscoroutinefunction(function):
        raise InvalidValue(
            f"@{verb} is for async methods, which {function!r} is not",
            hint="write `async def`",
        )
    setattr(function, _MARK, (verb, concurrent))
    return function


def handlers_of(server: type) -> dict[str, Handler]:
    """The marked methods of a class, by name.

    Raises:
        InvalidValue: A method without a mark overrides one that has it: whether peers
            reach it must be said again.
    """
    found: dict[str, Handler] = {}
    for owner in reversed(server.__mro__):
        for name, member in vars(owner).items():
            mark = getattr(member, _MARK, None) if callable(member) else None
            if mark is not None:
                title = f"{server.__name__}.{name}"
                arguments = Arguments(member, skip=1, title=title)
                found[name] = Handler(mark[0], member, arguments, mark[1])
            elif name in found:
                raise InvalidValue(
                    f"{owner.__name__}.{name} overrides a @{found[name].verb} method "
                    f"of {server.__name__} without being one",
                    hint=f"mark it @{found[name].verb} too, or give it another name",
                )
    return found
