"""What a node does with services: register a process, find one, hear of changes."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from barrel_p2p.core.terms import Pid
from barrel_p2p.node.run import self_pid
from barrel_p2p.runtime.event_stream import EventStream
from barrel_p2p.runtime.process import Process
from barrel_p2p.services.service_events import (
    ServiceEntry,
    ServiceEvent,
    ServiceFilter,
)

if TYPE_CHECKING:
    from barrel_p2p.node.parts import Parts

__all__ = ["ServiceNode"]


class ServiceNode(ABC):
    """The part of ``Node`` that is about services."""

    @abstractmethod
    def _overlay(self) -> Parts:
        """What the node is made of; NotStarted if it runs not, Conflict if hidden."""

    async def register_service(
        self,
        name: object,
        pid: Pid | None = None,
        meta: Mapping[str, Any] | None = None,
        *,
        unique: bool = False,
    ) -> None:
        """Let a process be found under ``name`` on every node, until it ends.

        One process a node may have the name; several nodes may have it.

        Args:
            name: A key term: text, bytes, an integer, or a tuple of those.
            pid: A process; None is the one that asks. The same process again changes
                its metadata.
            meta: Terms, for whoever looks it up.
            unique: Only one node's process is to be found, the one that an election
                chooses; this one is whenever it leads, and stands by otherwise. It has
                to run on this node.

        Raises:
            AlreadyRegistered: Another process has the name on this node.
            NoProc: ``pid`` has ended.
            InvalidValue, NotEncodable: ``name`` or ``meta`` cannot travel.
            Busy: This node has too many services.

        Guarantee:
            When it returns, this node finds it, and all others are being told; a unique
            one once it leads.
        """
        parts = self._overlay()
        if unique:
            await parts.unique.register(name, pid or self_pid(), meta)
        else:
            await parts.registry.register_service(name, pid or self_pid(), meta)

    async def unregister_service(self, name: object) -> None:
        """Take this node's instance of ``name`` back. Unknown names are ignored."""
        parts = self._overlay()
        parts.unique.unregister(name)
        await parts.registry.unregister_service(name)

    def lookup(self, name: object) -> list[ServiceEntry]:
        """Every instance of ``name`` that this node knows of, its own first."""
        return self._overlay().registry.lookup(name)

    def lookup_local(self, name: object) -> Pid:
        """This node's own instance of ``name``.

        Raises:
            ServiceNotFound: It has none.
        """
        return self._overlay().registry.lookup_local(name)

    def list_services(self) -> list[object]:
        """The names of all services in the cluster, in a fixed order."""
        return self._overlay().registry.list_services()

    async def whereis_service(
        self, name: object, *, retries: int = 0, timeout: float | None = None
    ) -> Pid:
        """A process of ``name``: this node's own, else any instance, each as likely.

        Args:
            name: A key term.
            retries: How often to wait for it, 100 ms at first and 2 s at last.
            timeout: Seconds for all of it; without ``retries`` it waits that long.

        Raises:
            ServiceNotFound: Nobody has registered it in time.
        """
        registry = self._overlay().registry
        return await registry.whereis_service(name, retries=retries, timeout=timeout)

    async def find_service(self, name: object, *, timeout: float = 5.0) -> ServiceEntry:
        """An instance of ``name``, known here or to others in the overlay.

        ``whereis_service`` does this too. Unlike that it does not wait for a service
        that nobody has registered yet, and it says why nothing was found.

        Args:
            name: A key term.
            timeout: Seconds, above 0, at most 10.

        Raises:
            ServiceNotFound: Nobody who could be asked knows it.
            CallTimeout: Not all of them have answered in time.
            Overloaded: They, or this node, have as many searches as they take.
        """
        return await self._overlay().router.find_service(name, timeout=timeout)

    # ---- names

    async def register_name(self, name: object, pid: Pid) -> bool:
        """Name ``pid`` in the whole cluster, unless a process has the name.

        Returns:
            Whether it has it now: the documentation's ``yes`` and ``no``. Two nodes
            that name processes at the same time can both succeed.

        Raises:
            NoProc, NotEncodable, Busy: As ``register_service``.
        """
        return await self._overlay().names.register_name(name, pid)

    async def unregister_name(self, name: object) -> None:
        """Take a name back that was given on this node. Idempotent."""
        await self._overlay().names.unregister_name(name)

    def whereis_name(self, name: object) -> Pid | None:
        """The process of ``name`` anywhere; None if this node knows of none."""
        return self._overlay().names.whereis_name(name)

    async def global_register(self, name: object) -> Pid:
        """Give the service ``name`` that name among the processes of this node.

        Returns:
            The process that has it: this node's own instance, or a proxy.

        Raises:
            ServiceNotFound: There is no such service.
            AlreadyRegistered: Another process has the name on this node.
        """
        return await self._overlay().names.global_register(name)

    async def ensure_proxy(self, name: object, node: str | None = None) -> Pid:
        """A process of this node that passes on what it is sent to a service.

        It changes over to another instance when need be, and ends with the last one.

        Args:
            name: A key term.
            node: Whose instance is wanted at first; None takes any.

        Raises:
            ServiceNotFound: There is no such service, or not on ``node``.
        """
        return await self._overlay().proxies.ensure_proxy(name, node)

    def get_proxy(self, name: object) -> Pid | None:
        """The proxy for ``name`` on this node; None if there is none."""
        return self._overlay().proxies.get_proxy(name)

    # ---- events

    async def subscribe_services(
        self,
        pid: Pid | None = None,
        *,
        name: object = None,
        pattern: str | re.Pattern[str] | None = None,
        matches: ServiceFilter | None = None,
    ) -> None:
        """Send ``ServiceRegistered``, ``ServiceUnregistered`` and ``ServiceDown`` to a
        process. Again replaces the filter.

        Args:
            pid: A process of this node; None is the one that asks.
            name: Only events of this name.
            pattern: Only of textual names that it matches.
            matches: Only of names for which it is true.

        Raises:
            InvalidValue: ``pid`` is of another node, or there are two filters.
        """
        self._overlay().registry.subscribe(
            pid or self_pid(), name=name, pattern=pattern, matches=matches
        )

    async def unsubscribe_services(self, pid: Pid | None = None) -> None:
        """Send them no more. Idempotent."""
        self._overlay().registry.unsubscribe(pid or self_pid())

    def service_events(
        self,
        *,
        name: object = None,
        pattern: str | re.Pattern[str] | None = None,
        matches: ServiceFilter | None = None,
        maxsize: int = 1_024,
    ) -> EventStream[ServiceEvent]:
        """What happens to services, from now on; filters as ``subscribe_services``.

        Args:
            name: Only events of this name.
            pattern: Only of textual names that it matches.
            matches: Only of names for which it is true.
            maxsize: Events that may wait before the oldest go.
        """
        return self._overlay().registry.events(
            name=name, pattern=pattern, matches=matches, maxsize=maxsize
        )

    async def start_service_holder(self, name: object) -> Pid:
        """Start a process that does nothing but hold ``name``; for tests.

        Raises:
            AlreadyRegistered: Another process has the name on this node.
        """
        processes = self._overlay().processes
        pid = processes.spawn(_hold).pid
        await self.register_service(name, pid)
        return pid

    async def stop_service_holder(self, pid: Pid) -> None:
        """End a process of ``start_service_holder``."""
        await pid.exit("shutdown")


async def _hold(process: Process) -> None:
    while await process.receive() is not None:
        pass
