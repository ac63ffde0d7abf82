"""Names for processes, cluster-wide: what ``{via, barrel_p2p, Name}`` is in Erlang.

A name is a service of which there should be one process. Whoever finds it elsewhere may
use that process's pid, which reaches it from anywhere, or a local stand-in for it.

Source: Barrel P2P documentation, "Via callbacks", "Global integration".
"""

from __future__ import annotations

from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import AlreadyRegistered, Conflict, ServiceNotFound
from barrel_p2p.runtime import addresses
from barrel_p2p.runtime.processes import Processes
from barrel_p2p.services.proxy import Proxies
from barrel_p2p.services.registry import Registry
from barrel_p2p.services.router import Router
from barrel_p2p.services.service_events import ServiceEntry

__all__ = ["Names"]


class Names:
    """The names of one node's cluster.

    Args:
        registry: Holds them.
        router: Remembers those that it has found elsewhere.
        processes: The node's.
        proxies: Stand in for processes of other nodes.
    """

    def __init__(
        self,
        registry: Registry,
        *,
        router: Router,
        processes: Processes,
        proxies: Proxies,
    ) -> None:
        self._registry = registry
        self._router = router
        self._processes = processes
        self._proxies = proxies

    async def register_name(self, name: object, pid: Pid) -> bool:
        """Name ``pid``, unless a process that this node knows of has the name.

        Args:
            name: A key term.
            pid: A process.

        Returns:
            Whether it has the name now; the documentation's ``yes`` and ``no``. False
            too if ``pid`` itself had it already.

        Raises:
            NoProc, NotEncodable, Busy, NotStarted: As ``register_service``.

        Guarantee:
            Looks here only, and never waits for a name to turn up. Two nodes that name
            processes at the same time can both succeed.
        """
        if self._entry(name) is not None:
            return False
        try:
            await self._registry.register_service(name, pid)
        except AlreadyRegistered:
            return False
        return True

    async def unregister_name(self, name: object) -> None:
        """Take the name back that was given on this node. Idempotent."""
        await self._registry.unregister_service(name)

    def whereis_name(self, name: object) -> Pid | None:
        """The process of ``name``, here or elsewhere; None if this node knows of none.

        Its own pid, never a proxy's. Looks into the registry here and the route cache,
        and asks nobody.
        """
        entry = self._entry(name)
        return None if entry is None else entry.pid

    async def send(self, name: object, message: object) -> Pid:
        """Send ``message`` to the process of ``name``.

        Returns:
            Its pid.

        Raises:
            ServiceNotFound: This node knows of none.
            NotEncodable: ``message`` has no form on the wire.
            PeerUnreachable: There is no way to its node.
        """
        pid = self.whereis_name(name)
        if pid is None:
            raise ServiceNotFound(f"nobody has the name {name!r:.200}")
        me = self._processes.switch.origin_here()
        await addresses.send(me, pid, message)
        return pid

    async def global_register(self, name: object) -> Pid:
        """Give the service ``name`` that name on this node, as a process here has it.

        Code that knows nothing of services reaches it then by its local name: this
        node's own instance itself, another node's through a proxy, for as long as there
        is one.

        Returns:
            The process that has the name here now.

        Raises:
            ServiceNotFound: There is no such service.
            AlreadyRegistered: Another process has that name on this node.
            CallTimeout, Overloaded, Busy: As ``Proxies.ensure_proxy``.
        """
        here = self._processes.switch.name
        entry = self._entry(name)
        if entry is not None and entry.pid.node == here:
            pid = entry.pid
        else:
            pid = await self._proxies.ensure_proxy(name)
        try:
            self._processes.register(name, pid)
        except Conflict as error:
            raise AlreadyRegistered(
                f"{self._processes.whereis(name)!r} has the name {name!r:.200} on"
                f" {here}",
                hint="unregister that name first",
            ) from error
        return pid

    def _entry(self, name: object) -> ServiceEntry | None:
        return self._registry.find(name) or self._router.cached_route(name)

    def get_proxy(self, name: object) -> Pid | None:
        """The proxy for ``name`` on this node; None if there is none."""
        return self._proxies.get_proxy(name)
