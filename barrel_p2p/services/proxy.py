"""Processes of this node that stand for services of others.

A proxy passes on what it is sent to the process that is registered, by its pid: calls
beside one another, the rest in order. It changes over when that process is gone and
another instance is there, and ends, with reason ``normal``, when none is left.

Nothing waits inside a proxy for long: what cannot be sent at once, because there is no
channel yet or no room, waits in a queue of ``cast_max_in_flight``, and what finds that
full is dropped and counted.

Bounded by ``PROXIES_MAX``, ``PROXY_CALLS_MAX`` and ``cast_max_in_flight``.

Source: Barrel P2P documentation, "Service overlay routing and proxies".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from barrel_p2p.core.events import Down
from barrel_p2p.core.terms import Pid, Ref
from barrel_p2p.errors import (
    BarrelError,
    Busy,
    NoProc,
    Overloaded,
    PeerUnreachable,
    RemoteError,
    ServiceNotFound,
    UnavailableError,
)
from barrel_p2p.runtime import calls
from barrel_p2p.runtime.processes import Processes
from barrel_p2p.runtime.switch import Call, Cast, Origin
from barrel_p2p.services.registry_index import Slot, slot_of
from barrel_p2p.services.service_events import ServiceEntry, ServiceEvent

if TYPE_CHECKING:
    from barrel_p2p.runtime.process import Process

__all__ = [
    "PROXIES_MAX",
    "PROXY_CALLS_MAX",
    "Finder",
    "Proxies",
    "ProxyStats",
]

PROXIES_MAX: Final = 4_096
"""Proxies of one node."""

PROXY_CALLS_MAX: Final = 4_096
"""Calls through one proxy that wait for their answers at once; more are answered
``overloaded``."""


class Finder(Protocol):
    """Whoever finds services that the registry here does not know, such as a router."""

    def find_service(self, name: object) -> Awaitable[ServiceEntry]:
        """An instance; ``UnavailableError`` if there is none."""
        ...

    def invalidate_route(self, name: object) -> None:
        """What was found of ``name`` is no more."""
        ...


@final
@dataclass(slots=True)
class ProxyStats:
    """Totals since the start.

    Attributes:
        started: Proxies.
        calls: Passed on.
        casts: Casts and messages passed on.
        cast_dropped: Of these, dropped because too many waited.
        cast_failed: Of these, dropped because there was no way to the service.
        retargeted: Changes to another instance.
    """

    started: int = 0
    calls: int = 0
    casts: int = 0
    cast_dropped: int = 0
    cast_failed: int = 0
    retargeted: int = 0


class Proxies:
    """The proxies of one node, one a name.

    Args:
        processes: The node's.
        lookup: All instances of a name that the registry here knows, its own first.
        finder: Asked for what the registry does not know; None asks nobody.
        cast_max_in_flight: ``proxy_cast_max_in_flight``.
    """

    def __init__(
        self,
        processes: Processes,
        *,
        lookup: Callable[[object], list[ServiceEntry]],
        finder: Finder | None = None,
        cast_max_in_flight: int = 32,
    ) -> None:
        self.processes = processes
        self.lookup = lookup
        self.finder = finder
        self.cast_max = cast_max_in_flight
        self.counts = ProxyStats()
        self._proxies: dict[Slot, _Proxy] = {}

    def __len__(self) -> int:
        return len(self._proxies)

    async def ensure_proxy(self, name: object, node: str | None = None) -> Pid:
        """The proxy for ``name``, started if there is none.

        Args:
            name: A key term.
            node: Whose instance is wanted at first; None takes any.

        Raises:
            ServiceNotFound: There is no such service, or not on ``node``.
            CallTimeout, Overloaded: As the router's ``find_service``.
            Busy: There are ``PROXIES_MAX`` proxies.
            NotStarted: The node is stopping.
            NotEncodable: ``name`` is no key term.
        """
        slot = slot_of(name)
        if slot not in self._proxies:
            entry = self._known(name, node)
            if entry is None:
                entry = await self._find(name, node)
            if slot not in self._proxies:
                return self._start(slot, name, entry)
        return self._proxies[slot].pid

    def get_proxy(self, name: object) -> Pid | None:
        """The proxy for ``name``; None if there is none."""
        found = self._proxies.get(slot_of(name))
        return None if found is None else found.pid

    def list_proxies(self) -> list[tuple[object, Pid]]:
        """Names and proxies, the oldest first."""
        return [(proxy.name, proxy.pid) for proxy in self._proxies.values()]

    def stop_proxy(self, name: object) -> bool:
        """End the proxy for ``name``; whether there was one. Its calls fail."""
        found = self._proxies.get(slot_of(name))
        if found is not None:
            found.stop()
        return found is not None

    def target_of(self, name: object) -> ServiceEntry | None:
        """The instance that the proxy for ``name`` passes things on to."""
        found = self._proxies.get(slot_of(name))
        return None if found is None else found.target

    def casts_in_flight(self, name: object) -> int:
        """What waits in the proxy for ``name``, at most ``cast_max_in_flight``."""
        found = self._proxies.get(slot_of(name))
        return 0 if found is None else found.waiting

    def stats(self) -> ProxyStats:
        """Totals since the start."""
        return self.counts

    def service_changed(self, event: ServiceEvent) -> None:
        """The registry has changed."""
        found = self._proxies.get(slot_of(event.name)) if self._proxies else None
        if found is not None:
            found.look_again()

    def close(self) -> None:
        """End all proxies. Idempotent."""
        for proxy in list(self._proxies.values()):
            proxy.stop()

    def forget(self, slot: Slot, proxy: object) -> None:
        """Proxy callback: it has ended."""
        if self._proxies.get(slot) is proxy:
            del self._proxies[slot]

    def _known(self, name: object, node: str | None) -> ServiceEntry | None:
        for entry in self.lookup(name):
            if node is None or entry.node == node:
                return entry
        return None

    async def _find(self, name: object, node: str | None) -> ServiceEntry:
        entry = None
        if self.finder is not None and node is None:
            entry = await self.finder.find_service(name)
        if entry is None:
            where = "" if node is None else f" on {node}"
            raise ServiceNotFound(
                f"no service {name!r:.200}{where} is known to"
                f" {self.processes.switch.name}"
            )
        return entry

    def _start(self, slot: Slot, name: object, entry: ServiceEntry) -> Pid:
        if len(self._proxies) >= PROXIES_MAX:
            raise Busy(
                f"there are PROXIES_MAX={PROXIES_MAX} proxies",
                hint="stop those that are not needed",
            )
        proxy = _Proxy(self, slot, name, entry)
        self._proxies[slot] = proxy
        self.counts.started += 1
        return proxy.pid


class _Proxy:
    """One proxy."""

    def __init__(
        self, owner: Proxies, slot: Slot, name: object, target: ServiceEntry
    ) -> None:
        self.name = name
        self.target = target
        self._owner = owner
        self._slot = slot
        self._counts = owner.counts
        self._switch = owner.processes.switch
        self._calls = 0
        self._queue: deque[tuple[object, bool]] = deque()
        self._sender: asyncio.Task[None] | None = None
        self._search: asyncio.Task[None] | None = None
        self._ref: Ref | None = None
        self._process = owner.processes.spawn(self._run)
        self.pid = self._process.pid
        self._me = Origin(self._switch, self.pid.id, self._process)
        self._watch()

    @property
    def waiting(self) -> int:
        """Casts and messages that wait for a way, or for room."""
        return len(self._queue)

    def stop(self) -> None:
        """End it, with reason ``normal``."""
        self._owner.forget(self._slot, self)
        self._owner.processes.end(self._process, "normal")

    def look_again(self) -> None:
        """The registry says something new of the name."""
        found = self._owner.lookup(self.name)
        for entry in found:
            if entry.pid == self.target.pid and entry.node == self.target.node:
                self._change(entry)
                return
        if found:
            self._change(found[0])
        elif self._ref is None:
            self.stop()

    async def _run(self, process: Process) -> None:
        try:
            while True:
                for message in await process.receive_many():
                    self._take(message)
        finally:
            self._owner.forget(self._slot, self)

    def _take(self, message: object) -> None:
        if type(message) is Call:
            self._call(message)
        elif type(message) is Cast:
            self._tell(message.request, cast=True)
        elif type(message) is Down and message.ref == self._ref:
            self._lost()
        else:
            self._tell(message, cast=False)

    # Which instance.

    def _change(self, entry: ServiceEntry) -> None:
        """The registry knows this one, and will say when it is gone."""
        old, self.target = self.target, entry
        if self._ref is not None:
            self._process.demonitor(self._ref)
            self._ref = None
        if old.pid == entry.pid:
            return
        self._counts.retargeted += 1
        if self._sender is not None:
            # It may wait for a way that nobody needs any more. Nothing was sent of
            # what it waits with.
            self._sender.cancel()
            self._sender = self._process.create_task(self._send_queue())

    def _avoid(self, pid: Pid) -> None:
        """Nobody is at ``pid``, or there is no way; the registry may not know yet."""
        if pid == self.target.pid:
            others = [e for e in self._owner.lookup(self.name) if e.pid != pid]
            if others:
                self._change(others[0])

    def _watch(self) -> None:
        """Hear of its end, where the registry here cannot tell."""
        known = self._owner.lookup(self.name)
        if not any(entry.pid == self.target.pid for entry in known):
            self._ref = self._process.monitor(self.target.pid)

    def _lost(self) -> None:
        self._ref = None
        finder = self._owner.finder
        if finder is None:
            self.stop()
            return
        finder.invalidate_route(self.name)
        if self._search is None:
            self._search = self._process.create_task(self._find_another(finder))

    async def _find_another(self, finder: Finder) -> None:
        lost = self.target.pid
        try:
            entry = await finder.find_service(self.name)
        except UnavailableError:
            entry = None
        self._search = None
        if self.target.pid != lost:
            return  # The registry was faster.
        if entry is None or entry.pid == lost:
            # Whoever told us of it again has not heard yet.
            finder.invalidate_route(self.name)
            self.stop()
            return
        self._change(entry)
        self._watch()

    # Passing on.

    def _call(self, call: Call) -> None:
        if call.over:
            return
        if self._calls >= PROXY_CALLS_MAX:
            call.fail(
                Overloaded.code,
                f"PROXY_CALLS_MAX={PROXY_CALLS_MAX} calls of {self.name!r:.200} wait",
            )
            return
        self._calls += 1
        self._counts.calls += 1
        task = self._process.create_task(self._answer(call, self.target.pid))
        call.begin(task.cancel)
        # A task that is cancelled before its first step never runs a line.
        task.add_done_callback(lambda done: self._answered(call))

    def _answered(self, call: Call) -> None:
        self._calls -= 1
        call.fail(NoProc.code, f"the proxy for {self.name!r:.200} has ended")

    async def _answer(self, call: Call, pid: Pid) -> None:
        try:
            value = await calls.call(self._me, pid, call.request, None)
            while call.blocked:
                await call.wait_room()
            call.reply(value)
        except RemoteError as error:
            code, kind = "error", error.remote_type
            call.fail(code, str(error), kind, error.remote_traceback)
        except PeerUnreachable as error:
            call.fail(PeerUnreachable.code, str(error))
            self._avoid(pid)
        except BarrelError as error:
            call.fail(error.code, str(error))
            if isinstance(error, NoProc):
                self._avoid(pid)

    def _tell(self, message: object, *, cast: bool) -> None:
        self._counts.casts += 1
        if not self._queue and self._sent(message, cast):
            return
        if len(self._queue) >= self._owner.cast_max:
            self._counts.cast_dropped += 1
            return
        self._queue.append((message, cast))
        if self._sender is None:
            self._sender = self._process.create_task(self._send_queue())

    def _sent(self, message: object, cast: bool) -> bool:
        """Whether it is done with ``message``: it was sent, or never can be."""
        try:
            return self._switch.tell(self._me.id, self.target.pid, message, cast)
        except BarrelError:
            self._counts.cast_failed += 1
            return True

    async def _send_queue(self) -> None:
        queue: deque[Any] = self._queue
        while queue:
            message, cast = queue[0]
            if not self._sent(message, cast):
                try:
                    await self._switch.way(self._me.id, self.target.pid)
                except BarrelError:
                    self._counts.cast_failed += 1
                else:
                    continue
            queue.popleft()
        self._sender = None
