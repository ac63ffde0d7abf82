"""Functions that other nodes may call: those the application exposed, and no others.

A call is an ordinary one, to the process that has the local name ``RPC_NAME``, with
``(function, args, kwargs)``. The function is looked up in a dictionary by its whole
name; its arguments are checked against its annotations first. Nothing is imported, and
no attribute is ever looked up by a name from a peer.

Bounded by ``RPC_CALLS_MAX`` and ``RPC_CALLS_PER_PEER_MAX``.
"""

from __future__ import annotations

import asyncio
import fnmatch
import inspect
import logging
import traceback
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple, overload

from barrel_p2p.core.names import Address, At, HasAddress, NodeReference
from barrel_p2p.core.terms import Atom, Pid
from barrel_p2p.errors import (
    BarrelError,
    Conflict,
    InvalidValue,
    NoSuchFunction,
)
from barrel_p2p.runtime import addresses
from barrel_p2p.runtime.checks import Arguments
from barrel_p2p.runtime.process import Process
from barrel_p2p.runtime.processes import Processes
from barrel_p2p.runtime.server_loop import FAULT_CHARS_MAX, TRACEBACK_CHARS_MAX
from barrel_p2p.runtime.switch import Call, Origin

__all__ = [
    "FUNCTION_NAME_CHARS_MAX",
    "RPC_CALLS_MAX",
    "RPC_CALLS_PER_PEER_MAX",
    "RPC_NAME",
    "expose",
    "exposed",
    "multi_rpc",
    "rpc",
    "serve",
]

RPC_NAME: Final = Atom("$rpc")
"""The local name of the process that runs exposed functions."""

RPC_CALLS_MAX: Final = 1_024
"""Exposed functions that run at once; one more is answered ``overloaded``."""

RPC_CALLS_PER_PEER_MAX: Final = 256
"""The same for the calls of one node."""

FUNCTION_NAME_CHARS_MAX: Final = 64
"""Characters of an exposed function's name."""

type NodeRef = str | Address | NodeReference | HasAddress

_log = logging.getLogger("barrel_p2p.runtime")


class _Exposed(NamedTuple):
    function: Callable[..., Any]
    arguments: Arguments
    peers: tuple[str, ...] | None


_functions: dict[str, _Exposed] = {}
_names: dict[Callable[..., Any], str] = {}


@overload
def expose[**P, R](function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def expose[**P, R](
    *, name: str | None = None, peers: Iterable[str] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def expose(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    peers: Iterable[str] | None = None,
) -> Any:
    """Let other nodes call this function with ``node.rpc``.

    It is exposed by every node of this program. Its annotations are checked against the
    arguments that arrive before it runs. A plain function holds the event loop while it
    runs; an ``async`` one does not, and is cancelled when its caller gives up.

    Args:
        function: A function; no method.
        name: What it is called by: letters, digits and ``_``, not beginning with ``_``,
            at most ``FUNCTION_NAME_CHARS_MAX`` characters; else its own name.
        peers: Patterns such as ``"worker-*@*"`` for the nodes that may call it; None
            for all. Others are told that there is no such function.

    Raises:
        Conflict: Another function has the name.
        InvalidValue: It is no such name, or no function.
    """
    if function is None:
        return lambda late: _exposed(late, name, peers)
    return _exposed(function, name, peers)


def _exposed(function: Any, name: str | None, peers: Iterable[str] | None) -> Any:
    if not inspect.isfunction(function):
        raise InvalidValue(f"{function!r} is no function", hint="expose functions only")
    name = function.__name__ if name is None else name
    if (
        not name.isidentifier()
        or not name.isascii()
        or name.startswith("_")
        or len(name) > FUNCTION_NAME_CHARS_MAX
    ):
        raise InvalidValue(
            f"{name!r:.100} is no name for an exposed function: letters, digits and _, "
            f"not beginning with _, at most {FUNCTION_NAME_CHARS_MAX}"
        )
    holder = _functions.get(name)
    if holder is not None and (
        holder.function.__module__,
        holder.function.__qualname__,
    ) != (function.__module__, function.__qualname__):
        raise Conflict(
            f"{name!r} is exposed already, by {holder.function.__module__}",
            hint='give one of them another: @expose(name="...")',
        )
    arguments = Arguments(function, skip=0, title=name)
    patterns = None if peers is None else tuple(peers)
    _functions[name] = _Exposed(function, arguments, patterns)
    _names[function] = name
    return function


def exposed() -> list[str]:
    """The names of the functions that this program exposes, sorted."""
    return sorted(_functions)


async def rpc(
    me: Origin,
    node: NodeRef,
    function: str | Callable[..., Any],
    *args: Any,
    timeout: float | None = 5.0,
    **kwargs: Any,
) -> Any:
    """Run an exposed function on ``node`` and return what it returns.

    Args:
        me: Who asks.
        node: Where; a node may call itself.
        function: The name it is exposed by there; or a function that is exposed here.
        args: For it.
        timeout: Seconds; None waits for ever. It is cancelled there when they are over.
        kwargs: For it.

    Raises:
        NoSuchFunction: Nothing of that name is exposed there, or not to this node.
        InvalidValue: The arguments do not fit it.
        RemoteError: It raised.
        Overloaded: The node runs as many as it takes.
        CallTimeout: No answer in time.
        PeerUnreachable: There is no way to the node.
    """
    name = function if isinstance(function, str) else _name_of(function)
    where = NodeReference.parse(node).name
    request = (name, args, kwargs)
    return await addresses.call(me, At(RPC_NAME, where), request, timeout=timeout)


async def multi_rpc(
    me: Origin,
    nodes: Iterable[NodeRef],
    function: str | Callable[..., Any],
    *args: Any,
    timeout: float | None = 5.0,
    **kwargs: Any,
) -> dict[str, Any]:
    """``rpc`` to several nodes at once: node to value, or to the error it failed with.

    Raises:
        InvalidValue: One of ``nodes`` is no node, or ``function`` is not exposed here.
    """
    names = list(dict.fromkeys(NodeReference.parse(node).name for node in nodes))
    name = function if isinstance(function, str) else _name_of(function)

    async def one(node: str) -> Any:
        try:
            return await rpc(me, node, name, *args, timeout=timeout, **kwargs)
        except BarrelError as error:
            return error

    return dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))


def _name_of(function: Callable[..., Any]) -> str:
    name = _names.get(function)
    if name is None:
        raise InvalidValue(
            f"{function!r} is not exposed in this program",
            hint="mark it @expose, or give the name it has on the other node",
        )
    return name


def serve(processes: Processes) -> Pid:
    """Start the process of a node that runs exposed functions for others.

    Raises:
        Conflict: It runs already.
    """
    return processes.spawn(_Service().run, name=RPC_NAME).pid


class _Service:
    """Takes calls, and runs each in a task of its own."""

    def __init__(self) -> None:
        self._running: dict[str, int] = {}
        self._total = 0

    async def run(self, process: Process) -> None:
        async for message in process:
            if type(message) is not Call or message.over:
                continue
            try:
                self._take(process, message)
            except Exception as error:  # noqa: BLE001 - one request, not the service
                _fail(message, "error", str(error), type(error).__name__)

    def _take(self, process: Process, call: Call) -> None:
        caller = call.caller.node
        try:
            entry, args, kwargs = _looked_up(call.request, caller)
        except (NoSuchFunction, InvalidValue) as error:
            _fail(call, error.code, str(error))
            return
        running = self._running.get(caller, 0)
        if self._total >= RPC_CALLS_MAX or running >= RPC_CALLS_PER_PEER_MAX:
            text = f"{self._total} functions run, {running} of them for {caller}"
            _fail(call, "overloaded", text)
            return
        self._total += 1
        self._running[caller] = running + 1
        work = _answer(call, entry.function, args, kwargs)
        task = process.create_task(work)
        call.on_cancel = task.cancel
        task.add_done_callback(lambda _: self._done(call, caller))

    def _done(self, call: Call, caller: str) -> None:
        call.on_cancel = None
        self._total -= 1
        self._running[caller] -= 1
        if self._running[caller] == 0:
            del self._running[caller]


def _looked_up(
    request: Any, caller: str
) -> tuple[_Exposed, tuple[Any, ...], dict[str, Any]]:
    if type(request) is not tuple or len(request) != 3 or type(request[0]) is not str:
        raise InvalidValue("a request is (function, args, kwargs)")
    name, args, kwargs = request
    entry = _functions.get(name)
    if entry is None or not _allowed(entry, caller):
        raise NoSuchFunction(f"nothing is exposed as {name!r:.100}")
    return entry, *entry.arguments.check(args, kwargs)


def _allowed(entry: _Exposed, caller: str) -> bool:
    if entry.peers is None:
        return True
    return any(fnmatch.fnmatchcase(caller, pattern) for pattern in entry.peers)


async def _answer(
    call: Call,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> None:
    try:
        value = function(*args, **kwargs)
        if inspect.isawaitable(value):
            value = await value
        while call.blocked:
            await call.wait_room()
        call.reply(value)
    except asyncio.CancelledError:
        _fail(call, "error", "the function was cancelled", "CancelledError")
        raise
    except Exception as error:  # noqa: BLE001 - it is the caller's to see
        trace = "".join(traceback.format_exception(error))[-TRACEBACK_CHARS_MAX:]
        _fail(call, "error", str(error), type(error).__name__, trace)


def _fail(call: Call, code: str, text: str, kind: str = "", trace: str = "") -> None:
    call.fail(code, text[:FAULT_CHARS_MAX], kind, trace)
