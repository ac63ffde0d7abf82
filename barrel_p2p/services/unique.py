"""Services of which there is one instance: registered by whoever leads their name.

The others stand by. Between two views of the cluster there can be two instances for a
moment, or none; where that does harm, the service's resource has to check the fence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Final, final

from barrel_p2p.carrier.complaints import Complaints
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import AlreadyRegistered, BarrelError, Busy, ClockDrift
from barrel_p2p.services.leader import Leaders
from barrel_p2p.services.leader_events import Elected, LeaderEvent
from barrel_p2p.services.registry import Registry
from barrel_p2p.services.registry_index import Slot, slot_of

__all__ = ["UNIQUE", "UniqueServices", "election_of"]

UNIQUE: Final = "barrel_p2p:unique"
"""The first part of the names of their elections."""

RETRY_MS: Final = 500
"""How long a process that leads and cannot be registered now waits to try again."""

_log = logging.getLogger("barrel_p2p.services")


def election_of(service: object) -> tuple[str, object]:
    """The name that is led by whoever provides a unique service."""
    return UNIQUE, service


@final
class UniqueServices:
    """The unique services that processes of this node provide, or would.

    Args:
        registry: Where one is found while its process leads.
        leaders: Decides who that is.
    """

    def __init__(self, registry: Registry, leaders: Leaders) -> None:
        self._registry = registry
        self._leaders = leaders
        self._posts: dict[Slot, _Post] = {}
        self._complaints = Complaints(_log)

    async def register(
        self, name: object, pid: Pid, meta: Mapping[Any, Any] | None = None
    ) -> None:
        """Let ``pid`` be found under ``name`` whenever it is this cluster's choice.

        Returns at once; if another node's process is found under the name now, this one
        stands by. The same process again gives it other metadata.

        Args:
            name: A key term.
            pid: A process of this node.
            meta: As for ``Registry.register_service``.

        Raises:
            AlreadyRegistered: Another process of this node provides it, or stands by.
            NoProc, InvalidValue, NotEncodable, Busy, NotStarted: As for
                ``Registry.register_service`` and ``Leaders.lead``.
        """
        slot = slot_of(name)
        given: Mapping[Any, Any] = {} if meta is None else meta
        post = self._posts.get(slot)
        if post is None:
            self._check_free(name)
            post = _Post(self, name, pid, given)
            role = self._leaders.stand(election_of(name), pid, 0, seat=post)
            self._posts[slot] = post
            if role.leader:
                post.is_held = True
        elif post.pid != pid:
            raise AlreadyRegistered(
                f"the service {name!r:.200} of this node is {post.pid!r}",
                hint="unregister it first, or choose another name",
            )
        post.meta = given
        if post.is_held:
            try:
                await self._registry.register_service(name, pid, given)
            except BarrelError:
                self.unregister(name)
                raise

    def unregister(self, name: object) -> bool:
        """Stand for ``name`` no more; whether a process of this node did.

        The registry is told by whoever asked.
        """
        post = self._posts.pop(slot_of(name), None)
        if post is None:
            return False
        post.forget_retry()
        self._leaders.withdraw(election_of(name), seat=post)
        return True

    # For posts.

    def elected(self, post: _Post) -> None:
        """Its process is to be found from now on."""
        try:
            self._registry.put(post.name, post.pid, post.meta)
        except (Busy, ClockDrift) as error:
            self._complaints.add(f"the unique service {post.name!r:.200}", error)
            post.retry()
        except BarrelError as error:
            # Another process of this node took the name, or it cannot be registered at
            # all: let another node provide it.
            self._complaints.add(f"the unique service {post.name!r:.200}", error)
            self.unregister(post.name)

    def again(self, post: _Post) -> None:
        """Try again, if it leads still."""
        self._leaders.look()
        if post.is_held:
            self.elected(post)

    def revoked(self, post: _Post) -> None:
        """It is to be found no more."""
        self._registry.drop(post.name, post.pid)

    def ended(self, post: _Post) -> None:
        """It stands no more."""
        slot = slot_of(post.name)
        if self._posts.get(slot) is post:
            del self._posts[slot]
        self._registry.drop(post.name, post.pid)

    def _check_free(self, name: object) -> None:
        for entry in self._registry.lookup(name)[:1]:
            if entry.node == self._registry.node:
                raise AlreadyRegistered(
                    f"the service {name!r:.200} of {entry.node} is {entry.pid!r}",
                    hint="unregister it first, or choose another name",
                )


@final
class _Post:
    """One process that provides a service, or stands by."""

    def __init__(
        self, of: UniqueServices, name: object, pid: Pid, meta: Mapping[Any, Any]
    ) -> None:
        self._of = of
        self.name = name
        self.pid = pid
        self.meta = meta
        self.abandoned = False
        self.is_held = False
        self._retry: asyncio.TimerHandle | None = None

    def retry(self) -> None:
        """Be registered a little later."""
        self.forget_retry()
        loop = asyncio.get_running_loop()
        self._retry = loop.call_later(RETRY_MS / 1_000, self._of.again, self)

    def forget_retry(self) -> None:
        """Be registered only when somebody says so. Idempotent."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def hear(self, event: LeaderEvent) -> None:
        self.forget_retry()
        self.is_held = isinstance(event, Elected)
        if self.is_held:
            self._of.elected(self)
        else:
            self._of.revoked(self)

    def end(self) -> None:
        self.is_held = False
        self.forget_retry()
        self._of.ended(self)
