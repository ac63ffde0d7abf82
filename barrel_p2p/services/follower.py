"""A service by its name, one instance at a time: the other end of a typed proxy.

Requests go to one instance for as long as it is there, so that what belongs together
stays together. When it has ended, or cannot be reached, the next request finds another
one. What was asked of the one that was lost is never asked again: it may have been
done.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol

from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import (
    AuthError,
    CallTimeout,
    NoProc,
    PeerUnreachable,
    ServiceNotFound,
)
from barrel_p2p.runtime import addresses, calls
from barrel_p2p.runtime.proxy import Target
from barrel_p2p.wire.terms import key_bytes

if TYPE_CHECKING:
    from barrel_p2p.runtime.processes import Processes
    from barrel_p2p.runtime.switch import Origin
    from barrel_p2p.services.registry import Registry

__all__ = ["Follower", "Routes"]

_LEFT_MIN_S: Final = 0.001
_LOST: Final = (NoProc, PeerUnreachable, AuthError, CallTimeout)


class Routes(Protocol):
    """What remembers where services were found elsewhere, such as a router."""

    def invalidate_route(self, name: object) -> None:
        """What was found of ``name`` is no more."""
        ...

    def find_route(self, node: str) -> str:
        """``direct`` if there is a channel to ``node``."""
        ...


class Follower(Target):
    """The process of one node that has a name, or else an instance of the service.

    Args:
        name: A key term.
        registry: The node's.
        routes: Told when a route has led to nobody.
        processes: The node's. A local name goes before a service.
    """

    def __init__(
        self, name: object, *, registry: Registry, routes: Routes, processes: Processes
    ) -> None:
        self._name = name
        self._key = key_bytes(name)
        self._registry = registry
        self._routes = routes
        self._switch = processes.switch
        self._pid: Pid | None = None  # the instance; None while there is none
        self._listed = False  # the registry has shown it
        self._changes = -1  # of the registry, when it was looked for there
        self._is_service = False  # an instance was found once
        self._lost: Pid | None = None  # the one before
        self._ended = False  # it was not there any more

    def __repr__(self) -> str:
        return repr(self._name)

    async def begin(self, timeout: float | None) -> None:
        """Find somebody who has the name, or wait for it.

        Args:
            timeout: Seconds; None looks once.

        Raises:
            ServiceNotFound: Nobody has it on this node, or registers it in time.
        """
        if self._known() is None:
            self._is_service = True
            await self._find(timeout)

    async def call(self, me: Origin, request: object, timeout: float | None) -> Any:
        """Ask whoever has the name now.

        Raises:
            ServiceNotFound: The one before is lost, and no other turns up in time.
            NoProc: It was a local name only, which nobody has now; or whom it was asked
                of has ended.
            CallTimeout, RemoteError, PeerUnreachable: As ``Pid.call``.
        """
        pid = self._known()
        if pid is None:
            pid, timeout = await self._found(timeout)
        try:
            return await calls.call(me, pid, request, timeout)
        except _LOST as error:
            self._lose(pid, error)
            raise

    async def cast(self, me: Origin, request: object, timeout: float | None) -> None:
        """Tell whoever has the name now. Raises as ``call``, but for its answer."""
        pid = self._known()
        if pid is None:
            pid, _ = await self._found(timeout)
        try:
            await addresses.cast(me, pid, request)
        except _LOST as error:
            self._lose(pid, error)
            raise

    def _known(self) -> Pid | None:
        """Whom the name stands for, as far as can be told at once."""
        box = self._switch.names.get(self._key)
        if box is not None:
            return self._switch.pid(box.id)
        if self._pid is not None and self._changes != self._registry.changes:
            self._look_again(self._pid)
        return self._pid

    def _look_again(self, pid: Pid) -> None:
        """The registry has changed. What was found elsewhere need not be in it."""
        self._changes = self._registry.changes
        if any(entry.pid == pid for entry in self._registry.lookup(self._name)):
            self._listed = True
        elif self._listed:
            self._pid = None

    async def _found(self, timeout: float | None) -> tuple[Pid, float | None]:
        """Another instance, and the seconds that are left for the request."""
        now = asyncio.get_running_loop().time
        began = now()
        pid = await self._find(timeout)
        if timeout is None:
            return pid, None
        return pid, max(timeout - (now() - began), _LEFT_MIN_S)

    async def _find(self, timeout: float | None) -> Pid:
        registry, name = self._registry, self._name
        entry = registry.find(name, but=self._lost)
        if entry is None and not self._is_service:
            resolved = addresses.resolve(self._switch, name)  # Raises NoProc.
            assert type(resolved) is Pid
            return resolved
        ended = self._lost if self._ended else None
        if entry is not None:
            pid = entry.pid
        else:
            # Whoever could not be reached may be there again, and who ended may not.
            try:
                pid = await registry.whereis_service(name, timeout=timeout, but=ended)
            except ServiceNotFound:
                self._lost = None
                raise
        self._pid = pid
        self._is_service = True
        self._listed = False
        self._look_again(pid)
        return pid

    def _lose(self, pid: Pid, error: Exception) -> None:
        is_timeout = isinstance(error, CallTimeout)
        if is_timeout and self._routes.find_route(pid.node) == "direct":
            return  # It is slow. Without a channel, the time went by for want of one.
        if pid == self._pid:
            self._pid, self._lost = None, pid
            self._ended = isinstance(error, NoProc)
            self._routes.invalidate_route(self._name)
