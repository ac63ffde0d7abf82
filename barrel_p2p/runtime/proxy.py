"""Proxies: objects that look like a server and call it where it runs."""

from __future__ import annotations

import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine
from typing import Any, cast

from barrel_p2p.core.terms import Pid
from barrel_p2p.runtime import addresses, calls
from barrel_p2p.runtime.addresses import Destination
from barrel_p2p.runtime.server import GenServer
from barrel_p2p.runtime.switch import Origin, Switch
from barrel_p2p.runtime.verbs import REQUEST_TAG, handlers_of

__all__ = ["Target", "proxy"]

_made: weakref.WeakKeyDictionary[type, type[_Proxy]] = weakref.WeakKeyDictionary()


class Target(ABC):
    """Whom a proxy is for, where that is found anew from request to request."""

    @abstractmethod
    def call(
        self, me: Origin, request: object, timeout: float | None
    ) -> Coroutine[Any, Any, Any]:
        """Ask whoever it is now. Raises as ``Pid.call``, or that nobody is there."""

    @abstractmethod
    def cast(
        self, me: Origin, request: object, timeout: float | None
    ) -> Coroutine[Any, Any, None]:
        """Tell whoever it is now; ``timeout`` is for finding them."""


class _Proxy:
    """The base of what ``proxy`` makes."""

    __slots__ = ("_server", "_switch", "_timeout", "_to")

    def __init__(
        self, switch: Switch, server: type, to: Destination, timeout: float | None
    ) -> None:
        self._switch = switch
        self._server = server
        self._to = to
        self._timeout = timeout

    def __repr__(self) -> str:
        return f"<proxy of {self._server.__name__} for {self._to!r}>"

    def __getattr__(self, name: str) -> Any:
        kind = "a method without @call or @cast"
        if not hasattr(self._server, name):
            kind = f"no method of {self._server.__name__}"
        raise AttributeError(
            f"a proxy of {self._server.__name__} has no {name!r}: it is {kind}, "
            "and only marked methods can be called from elsewhere",
            name=name,
            obj=self,
        )


def proxy[S: GenServer](
    me: Origin, server: type[S], to: Destination, *, timeout: float | None = 5.0
) -> S:
    """An object with the marked methods of ``server``, for the process ``to``.

    Its ``@call`` methods return or raise what the method did there; its ``@cast``
    methods return once the request is queued. A name is looked up at each call, so that
    the proxy serves whoever has it then.

    Args:
        me: Whose node sends. A process of it that uses the proxy sends in its own name.
        server: The class that runs there.
        to: A pid, ``At(name, node)``, a name on this node, or a ``Target``.
        timeout: Seconds a call waits; None for ever.

    Raises:
        NoProc: ``to`` is a name on this node, and nobody has it.
    """
    if not isinstance(to, Target):
        addresses.resolve(me.switch, to)
    made = _made.get(server)
    if made is None:
        made = _made[server] = _class_for(server)
    return cast(S, made(me.switch, server, to, timeout))


def _class_for(server: type) -> type[_Proxy]:
    members: dict[str, Any] = {"__slots__": (), "__doc__": server.__doc__}
    for name, handler in handlers_of(server).items():
        make = _call_method if handler.verb == "call" else _cast_method
        method = make(name)
        method.__name__ = name
        method.__qualname__ = f"{server.__name__}.{name}"
        method.__doc__ = handler.function.__doc__
        members[name] = method
    return type(f"{server.__name__}Proxy", (_Proxy,), members)


def _call_method(name: str) -> Callable[..., Any]:
    def method(self: _Proxy, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        me = self._switch.origin_here()
        request = (REQUEST_TAG, name, args, kwargs)
        to = self._to
        if type(to) is Pid:
            return calls.call(me, to, request, self._timeout)
        if isinstance(to, Target):
            return to.call(me, request, self._timeout)
        return addresses.call(me, to, request, timeout=self._timeout)

    return method


def _cast_method(name: str) -> Callable[..., Any]:
    def method(self: _Proxy, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, None]:
        me = self._switch.origin_here()
        request, to = (REQUEST_TAG, name, args, kwargs), self._to
        if isinstance(to, Target):
            return to.cast(me, request, self._timeout)
        return addresses.cast(me, to, request)

    return method
