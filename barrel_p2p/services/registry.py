"""The cluster's services, as programs on a node register and find them.

Runs ``RegistryMachine`` over one replica: the map's merges and the members' deaths in,
writes and events out. A process of its own monitors whatever is registered here.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol

from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.core.clock import Clock
from barrel_p2p.core.effects import Publish, SetTimer
from barrel_p2p.core.events import Down
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.inputs import TimerFired
from barrel_p2p.core.members import MemberEvent, MemberUp
from barrel_p2p.core.ormap import Change, OrMap
from barrel_p2p.core.rng import Rng
from barrel_p2p.core.terms import Pid, Ref
from barrel_p2p.errors import Busy, InvalidValue, NoProc, NotStarted, ServiceNotFound
from barrel_p2p.replica.driver import ReplicaHandle, Replicas
from barrel_p2p.replica.store import ReplicatedStore, Source
from barrel_p2p.runtime.event_stream import EventStream
from barrel_p2p.runtime.processes import Processes
from barrel_p2p.runtime.subscriptions import Filter, Subscriptions
from barrel_p2p.services.registry_index import Slot, slot_of
from barrel_p2p.services.registry_inputs import (
    CatchUp,
    Changed,
    PidDown,
    Register,
    RegistryEffect,
    RegistryStats,
    Tell,
    Unregister,
    Unwatch,
    Watch,
)
from barrel_p2p.services.registry_machine import RegistryMachine
from barrel_p2p.services.service_events import (
    ServiceEntry,
    ServiceEvent,
    ServiceFilter,
    ServiceRegistered,
    service_filter,
)

if TYPE_CHECKING:
    from barrel_p2p.runtime.process import Process

__all__ = ["REPLICA_NAME", "Elsewhere", "Registry", "ServiceListener"]

REPLICA_NAME: Final = "registry"
"""The replica that carries it."""

TOMBSTONE_TTL_MS: Final = 300_000
"""How long a removed name is remembered, unless there are too many of them."""

RETRY_MS: Final = 100
RETRY_MS_MAX: Final = 2_000
"""A lookup's first wait for the service, doubled for each retry, and the longest."""

_MAILBOX: Final = 1 << 20
_log = logging.getLogger("barrel_p2p.services")

type ServiceListener = Callable[[ServiceEvent], None]


class Elsewhere(Protocol):
    """Asks other nodes for a service that is not known here, such as a router."""

    def __call__(self, name: object, *, timeout: float) -> Awaitable[Pid | None]:
        """Its process, or None if nobody knows it within ``timeout`` seconds."""
        ...


class Registry:
    """Names of processes, the same on every node.

    Args:
        node: This node's name.
        creation: This life of it.
        replicas: Carry the map.
        processes: Whose ends are watched.
        clock: Both kinds of time.
        hlc: Stamps what is written here.
        rng: Picks among instances.
        elsewhere: Asked by ``whereis_service`` for what is not known here.

    Attributes:
        node: The same.
        changes: Events so far. While it stays, so does what can be found here.
    """

    def __init__(
        self,
        node: str,
        creation: int,
        *,
        replicas: Replicas,
        processes: Processes,
        clock: Clock,
        hlc: HLC,
        rng: Rng,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self.node = node
        self._replicas = replicas
        self._processes = processes
        self._clock = clock
        self._elsewhere = elsewhere
        self._machine = RegistryMachine(OrMap(node, hlc), creation, rng=rng)
        self._store = ReplicatedStore(
            self._machine.entries,
            leaf=self._machine.takes,
            may_write=self._machine.may_write,
            on_change=self._on_change,
            clock=clock,
        )
        self._handle: ReplicaHandle | None = None
        self._watcher: Process | None = None
        self._refs: dict[Pid, Ref] = {}
        self._watchers: dict[Pid, int] = {}  # how many reasons to monitor it
        self._effects: deque[RegistryEffect] = deque()
        self._performing = False
        self._timers: dict[Hashable, asyncio.TimerHandle] = {}
        self._listeners: list[ServiceListener] = []
        self._subscriptions = Subscriptions(processes.switch)
        self._waiting: dict[Slot, list[asyncio.Future[None]]] = {}
        self._complaints = Complaints(_log)
        self.changes = 0

    # Its life.

    def start(self, members: Mapping[str, int]) -> None:
        """Begin to replicate.

        Args:
            members: The creations of those who are members now. Further changes are to
                be told to ``member_changed``.
        """
        self._watcher = self._processes.spawn(self._watched, mailbox_limit=_MAILBOX)
        for node, creation in members.items():
            self.member_changed(MemberUp(node, creation))
        self._handle = self._replicas.start(
            REPLICA_NAME, self._store, tombstone_ttl_ms=TOMBSTONE_TTL_MS
        )

    def close(self) -> None:
        """Stop, and take nothing back: the node's death does that. Idempotent."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.stop()
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            self._processes.end(watcher, "shutdown")
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._subscriptions.close()
        for waiting in self._waiting.values():
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def member_changed(self, event: MemberEvent) -> None:
        """A member came, or died. To be told before replicas are."""
        self._feed(event)

    # Registering.

    async def register_service(
        self, name: object, pid: Pid, meta: Mapping[Any, Any] | None = None
    ) -> None:
        """Let ``pid`` be found under ``name`` on every node, until it ends.

        The same process again gives it other metadata. A process of another node can be
        registered here too; it is found as this node's, and when the channel to its
        node is lost it is down.

        Args:
            name: A key term.
            pid: A process.
            meta: Terms; at most ``META_BYTES_MAX`` encoded. Copied.

        Raises:
            AlreadyRegistered: Another process has the name on this node.
            NoProc: ``pid`` was a process of this node, and has ended.
            InvalidValue, NotEncodable: ``name`` or ``meta`` cannot travel.
            Busy: This node has ``SERVICES_PER_NODE_MAX`` services.
            NotStarted: The node is not running.

        Guarantee:
            When it returns, this node finds it and gossip has it. The others find it as
            soon as they have heard.
        """
        self.put(name, pid, {} if meta is None else meta)
        await self._replicas.room(REPLICA_NAME)

    def put(self, name: object, pid: Pid, meta: Mapping[Any, Any]) -> None:
        """As ``register_service``, without waiting for room."""
        self._running()
        self._check_process(pid)
        self._hear_ends()
        self._feed(Register(name, pid, meta))

    def drop(self, name: object, pid: Pid) -> None:
        """Take ``name`` back if it is ``pid`` that has it here, without waiting."""
        own = self._machine.own(name)
        if self._handle is not None and own is not None and own.pid == pid:
            self._feed(Unregister(name))

    async def unregister_service(self, name: object) -> None:
        """Take this node's instance of ``name`` back. Unknown names are ignored.

        Raises:
            NotEncodable: ``name`` is no key term.
            NotStarted: The node is not running.
        """
        self._running()
        self._feed(Unregister(name))
        await self._replicas.room(REPLICA_NAME)

    # Finding.

    def lookup(self, name: object) -> list[ServiceEntry]:
        """All instances of ``name`` that this node knows of, its own first."""
        return self._machine.lookup(name)

    def lookup_local(self, name: object) -> Pid:
        """This node's own instance of ``name``.

        Raises:
            ServiceNotFound: It has none.
        """
        entry = self._machine.own(name)
        if entry is None:
            raise ServiceNotFound(f"{self.node} has no service {name!r}")
        return entry.pid

    def list_services(self) -> list[object]:
        """The names of all services, in the order of their canonical bytes."""
        return self._machine.index.names()

    def find(self, name: object, *, but: Pid | None = None) -> ServiceEntry | None:
        """This node's instance of ``name``, else any; None if it knows of none.

        Args:
            name: A key term.
            but: A process that is not wanted.
        """
        return self._machine.whereis(name, but=but)

    async def whereis_service(
        self,
        name: object,
        *,
        retries: int = 0,
        timeout: float | None = None,
        but: Pid | None = None,
    ) -> Pid:
        """A process of ``name``: this node's, else any instance, each as likely.

        What is not known here is asked of others, where the node can. After that it
        waits for the service to be registered, not in steps but until it is seen.

        Args:
            name: A key term.
            retries: Waits of 100, 200, 400 ms and so on, at most 2 s each, one for
                each retry; others are asked again after each.
            timeout: Seconds for all of it; without ``retries`` the service is waited
                for so long.
            but: A process that is not wanted, which the caller knows to have ended.

        Raises:
            ServiceNotFound: Nobody has registered it in time.
            InvalidValue: ``retries`` or ``timeout`` is negative.
            NotEncodable: ``name`` is no key term.
        """
        if retries < 0 or (timeout is not None and timeout < 0):
            raise InvalidValue(f"retries={retries}, timeout={timeout}: not negative")
        entry = self._machine.whereis(name, but=but)
        if entry is not None:
            return entry.pid
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        for wait in _waits(retries, timeout):
            pid = await self._ask(name, end)
            if pid == but:
                pid = None  # Whoever told us has not heard yet.
            if pid is None and wait > 0:
                left = wait if end is None else min(wait, end - loop.time())
                pid = await self._await_service(name, left, but)
            if pid is not None:
                return pid
        raise ServiceNotFound(
            f"no service {name!r} is known to {self.node}",
            hint="give it time with timeout=, or start it",
        )

    # Hearing of it.

    def listen(self, listener: ServiceListener) -> Callable[[], None]:
        """Call ``listener`` with every event until the result is called."""
        self._listeners.append(listener)

        def forget() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return forget

    def subscribe(
        self,
        pid: Pid,
        *,
        name: object = None,
        pattern: str | re.Pattern[str] | None = None,
        matches: ServiceFilter | None = None,
    ) -> None:
        """Send ``pid`` every event, or those of one name or of matching names.

        Subscribing again replaces the filter. See ``service_filter``.

        Raises:
            InvalidValue: ``pid`` is no process of this node, or the filter is none.
            NoProc: ``pid`` has ended.
            Busy: There are ``SUBSCRIBERS_MAX``.
        """
        wants = service_filter(name, pattern, matches=matches)
        self._subscriptions.add(pid, _about(wants))

    def unsubscribe(self, pid: Pid) -> None:
        """Send ``pid`` none any more. Idempotent."""
        self._subscriptions.remove(pid)

    def events(
        self,
        *,
        name: object = None,
        pattern: str | re.Pattern[str] | None = None,
        matches: ServiceFilter | None = None,
        maxsize: int = 1_024,
    ) -> EventStream[ServiceEvent]:
        """Events from now on, for plain code. Arguments as for ``subscribe``."""
        wants = service_filter(name, pattern, matches=matches)
        return self._subscriptions.stream(maxsize, _about(wants))

    def stats(self) -> RegistryStats:
        """Totals since the start."""
        return self._machine.stats

    # Inside: the machine.

    def _feed(self, event: object) -> None:
        now_ms = self._clock.now_ms()
        self._effects.extend(self._machine.handle(event, now_ms=now_ms))
        if self._performing:
            return  # A listener's own doing: its effects follow those of now.
        self._performing = True
        try:
            while self._effects:
                self._perform(self._effects.popleft())
        finally:
            self._performing = False

    def _perform(self, effect: RegistryEffect) -> None:
        match effect:
            case Tell(delta):
                self._replicate(delta)
            case Publish(event):
                self._publish(event)  # type: ignore[arg-type]
            case Watch(pid):
                self._watch(pid)
            case Unwatch(pid):
                self._unwatch(pid)
            case SetTimer(key, delay_ms):
                loop = asyncio.get_running_loop()
                self._timers[key] = loop.call_later(delay_ms / 1_000, self._fire, key)
            case CatchUp():
                if self._handle is not None:
                    self._handle.catch_up()
            case _:
                raise AssertionError(effect)

    def _replicate(self, delta: Any) -> None:
        if self._handle is None:
            return
        try:
            self._handle.publish(delta)
        except (Busy, NotStarted) as error:
            # It stands in the map, so that comparing with others brings it to them.
            self._complaints.add("registry", error)

    def _publish(self, event: ServiceEvent) -> None:
        self.changes += 1
        if type(event) is ServiceRegistered and self._waiting:
            for future in self._waiting.pop(slot_of(event.name), []):
                if not future.done():
                    future.set_result(None)
        self._subscriptions.tell(event)
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception as error:  # noqa: BLE001 -- the others must hear it too
                text = f"a listener failed: {error!r}"
                self._complaints.add("registry", text, error=error)

    def _fire(self, key: Hashable) -> None:
        del self._timers[key]
        self._feed(TimerFired(key))

    def _on_change(self, changes: list[Change], source: Source) -> None:
        self._feed(Changed(changes))

    # Inside: the ends of processes.

    def _running(self) -> None:
        if self._handle is None:
            raise NotStarted(f"the registry of {self.node} is not running")

    def _check_process(self, pid: object) -> None:
        if type(pid) is not Pid:
            raise InvalidValue(f"a service is a process, not a {type(pid).__name__}")
        switch = self._processes.switch
        if pid.node != switch.name:
            return
        if pid.creation != switch.creation or switch.box_of(pid.id) is None:
            raise NoProc(f"{pid!r} is no process of {switch.name} any more")

    def _watch(self, pid: Pid) -> None:
        count = self._watchers.get(pid, 0)
        self._watchers[pid] = count + 1
        if not count and self._watcher is not None:
            self._refs[pid] = self._watcher.monitor(pid)

    def _unwatch(self, pid: Pid) -> None:
        count = self._watchers.get(pid, 0)
        if count > 1:
            self._watchers[pid] = count - 1
            return
        self._watchers.pop(pid, None)
        ref = self._refs.pop(pid, None)
        if ref is not None and self._watcher is not None:
            # A Down that waits already is told apart by its reference.
            self._watcher.demonitor(ref, flush=False)

    async def _watched(self, me: Process) -> None:
        while True:
            self._ended(await me.receive_many())

    def _hear_ends(self) -> None:
        # Whoever ended before this moment must not stand in the way of its successor.
        if self._watcher is not None:
            self._ended(self._watcher.drain())

    def _ended(self, messages: list[object]) -> None:
        for message in messages:
            if not isinstance(message, Down) or not isinstance(message.pid, Pid):
                continue
            pid = message.pid
            if self._refs.get(pid) == message.ref:
                del self._refs[pid]
                self._watchers.pop(pid, None)
                self._feed(PidDown(pid, message.reason))

    # Inside: waiting.

    async def _ask(self, name: object, end: float | None) -> Pid | None:
        if self._elsewhere is None:
            return None
        left = 5.0
        if end is not None:
            left = min(left, end - asyncio.get_running_loop().time())
        if left <= 0 and end is not None:
            return None
        return await self._elsewhere(name, timeout=left)

    async def _await_service(
        self, name: object, seconds: float, but: Pid | None
    ) -> Pid | None:
        slot = slot_of(name)
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            entry = self._machine.whereis(name, but=but)
            if entry is not None:
                return entry.pid
            left = end - loop.time()
            if left <= 0 or self._handle is None:
                return None
            future: asyncio.Future[None] = loop.create_future()
            self._waiting.setdefault(slot, []).append(future)
            try:
                await asyncio.wait((future,), timeout=left)
            finally:
                waiting = self._waiting.get(slot, [])
                if future in waiting:
                    waiting.remove(future)
                    if not waiting:
                        del self._waiting[slot]


def _waits(retries: int, timeout: float | None) -> list[float]:
    """Seconds to wait after each time that others were asked."""
    if retries == 0:
        return [0.0 if timeout is None else timeout]
    doubled = [min(RETRY_MS << min(i, 8), RETRY_MS_MAX) / 1_000 for i in range(retries)]
    return [*doubled, 0.0]


def _about(wants: ServiceFilter) -> Filter:
    return lambda event: wants(event.name) is True
