"""Finds services and nodes through the overlay, for what is not known here.

``node/overlay.py`` connects it: frames, channels, the active view, members and service
events in, requests and replies out on control streams.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Final, Literal, Protocol, final

from barrel_p2p.core.clock import Clock
from barrel_p2p.core.inputs import Received
from barrel_p2p.core.members import MemberDead, MemberEvent, MemberGone
from barrel_p2p.core.peers import Joined, Left, NodeDown, NodeUp, PeerDown, PeerUp
from barrel_p2p.core.rng import Rng
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import (
    BarrelError,
    CallTimeout,
    InvalidValue,
    Overloaded,
    ServiceNotFound,
    UnavailableError,
)
from barrel_p2p.runtime.runner import Network, Peer, Runner
from barrel_p2p.services.router_inputs import (
    Answer,
    CacheRoute,
    Find,
    GiveUp,
    Invalidate,
    InvalidateAll,
    RouterStats,
)
from barrel_p2p.services.router_machine import RouterMachine
from barrel_p2p.services.router_messages import (
    ROUTE_MS_MAX,
    FoundNode,
    FoundService,
    NodeTarget,
    RouteReply,
    RouteRequest,
    ServiceTarget,
    Target,
    decode,
    encode,
)
from barrel_p2p.services.service_events import ServiceEntry, ServiceEvent
from barrel_p2p.wire.frames import Frame
from barrel_p2p.wire.terms import key_bytes

__all__ = ["LOCATE_TIMEOUT_S", "FrameSource", "Router"]

LOCATE_TIMEOUT_S: Final = 2.0
"""Seconds to look for a node's address before it is dialled."""


class FrameSource(Protocol):
    """Whose channel a frame came over."""

    @property
    def name(self) -> str:
        """The peer's node name, which it has proved."""
        ...


@final
class _Wait:
    """A search that goes on, and how many wait for it."""

    __slots__ = ("done", "ref", "waiters")

    def __init__(self, ref: int) -> None:
        self.ref = ref
        self.waiters = 0
        self.done: asyncio.Future[FoundService | FoundNode | str] = (
            asyncio.get_running_loop().create_future()
        )


class Router:
    """The router of one node.

    Args:
        node: This node's name.
        network: Its channels.
        lookup: What the registry here knows of a name.
        is_dead: Whether a node is known to be dead.
        address_of: Where a node can be dialled, this one included, as far as is known.
        clock: Both kinds of time.
        rng: Draws ids.
        max_in_flight: ``router_max_in_flight``.
        sweep_ms: ``route_cache_sweep_period_ms``.
    """

    def __init__(
        self,
        node: str,
        *,
        network: Network,
        lookup: Callable[[object], ServiceEntry | None],
        is_dead: Callable[[str], bool],
        address_of: Callable[[str], tuple[str, int] | None],
        clock: Clock,
        rng: Rng,
        max_in_flight: int = 256,
        sweep_ms: int = 60_000,
    ) -> None:
        self.node = node
        self._network = network
        self._address_of = address_of
        self._clock = clock
        self._refs = itertools.count(1)
        self._waits: dict[Target, _Wait] = {}
        self._targets: dict[int, Target] = {}
        self._closed = False
        self._machine = RouterMachine(
            node,
            lookup=lookup,
            is_dead=is_dead,
            address_of=address_of,
            rng=rng,
            max_in_flight=max_in_flight,
            sweep_ms=sweep_ms,
        )
        self._runner = Runner(
            self._machine,
            network=network,
            transmit=self._transmit,
            publish=self._answered,
            clock=clock,
        )

    # Finding.

    async def find_service(self, name: object, *, timeout: float = 5.0) -> ServiceEntry:
        """An instance of ``name``: from the registry here, the route cache, or others.

        All who look for a name share one search.

        Args:
            name: A key term.
            timeout: Seconds for all of it, above 0, at most 10.

        Raises:
            ServiceNotFound: Nobody who could be asked knows it.
            CallTimeout: Not all of them have answered in time.
            Overloaded: All of them, or this node, have as many searches as they take.
            InvalidValue: ``timeout`` is out of range.
            NotEncodable: ``name`` is no key term.

        Guarantee:
            Somebody held it to be registered when it was asked. What is found is
            remembered for a minute, until the registry says otherwise.
        """
        target = ServiceTarget(key_bytes(name), name)
        outcome = await self._search(target, timeout)
        if type(outcome) is FoundService:
            return ServiceEntry(name, outcome.pid, outcome.node, outcome.meta)
        raise _error_of(f"service {name!r:.200}", outcome, timeout)

    async def pid_of(self, name: object, *, timeout: float) -> Pid | None:
        """As ``find_service``, but None where that finds nothing, for whatever reason.

        Raises:
            NotEncodable: ``name`` is no key term.
        """
        if timeout <= 0:
            return None
        try:
            found = await self.find_service(name, timeout=min(timeout, _TIMEOUT_S_MAX))
        except UnavailableError:
            return None
        return found.pid

    async def locate(
        self, node: str, *, timeout: float = LOCATE_TIMEOUT_S
    ) -> tuple[str, int] | None:
        """Where ``node`` can be dialled, as others believe; None if nobody knows.

        Whoever answers there still has to prove that it is ``node``.

        Args:
            node: A node's name.
            timeout: Seconds, above 0, at most 10.

        Raises:
            InvalidValue: ``timeout`` is out of range.
        """
        outcome = await self._search(NodeTarget(node), timeout)
        return (outcome.host, outcome.port) if type(outcome) is FoundNode else None

    def find_route(self, node: str) -> Literal["direct", "dial", "no_route"]:
        """How messages get to ``node``.

        Returns:
            ``direct``: it is this node, or there is a channel to it; ``dial``: there is
            none, and it is known where to open one; ``no_route``: only discovery, or
            others, may know. Nothing is ever relayed.
        """
        if node == self.node or self._network.get(node) is not None:
            return "direct"
        return "no_route" if self._address_of(node) is None else "dial"

    # The route cache.

    def cache_route(self, entry: ServiceEntry) -> None:
        """Remember ``entry`` under its name, as if a search had found it."""
        self._runner.feed(CacheRoute(entry))

    def cached_route(self, name: object) -> ServiceEntry | None:
        """What is remembered of ``name``."""
        return self._machine.routes.get(name, self._clock.now_ms())

    def invalidate_route(self, name: object) -> None:
        """Forget the route of ``name``: who went there found nobody. Idempotent."""
        self._runner.feed(Invalidate(name))

    def invalidate_all(self) -> None:
        """Forget all routes."""
        self._runner.feed(InvalidateAll())

    @property
    def routes(self) -> int:
        """How many are remembered."""
        return len(self._machine.routes)

    @property
    def in_flight(self) -> int:
        """Requests of others that wait here for answers, at most ``max_in_flight``."""
        return self._machine.in_flight

    @property
    def searches(self) -> int:
        """Searches of this node that go on."""
        return self._machine.searches

    def stats(self) -> RouterStats:
        """Totals since the start."""
        return self._machine.stats

    # What it is told.

    def handle_frame(self, channel: FrameSource, frame: Frame) -> None:
        """Take a frame of ``ROUTER_KINDS`` from a control stream.

        Raises:
            WireError: It does not follow the layout, and the channel cannot go on.
        """
        self._runner.feed(Received(channel.name, decode(frame.kind, frame.body)))

    def node_changed(self, event: NodeUp | NodeDown) -> None:
        """A channel came up, or ended."""
        if isinstance(event, NodeDown):
            self._runner.feed(event)

    def peer_changed(self, event: PeerUp | PeerDown | Joined | Left) -> None:
        """The active view has changed."""
        if isinstance(event, PeerUp | PeerDown):
            self._runner.feed(event)

    def member_changed(self, event: MemberEvent) -> None:
        """A member came, or died."""
        if isinstance(event, MemberDead | MemberGone):
            self._runner.feed(event)

    def service_changed(self, event: ServiceEvent) -> None:
        """The registry has changed."""
        # Many services may come and go while nobody looks for any.
        if self._machine.searches or self._machine.routes:
            self._runner.feed(event)

    async def close(self) -> None:
        """Stop; whoever waits is told that nothing was found. Idempotent."""
        self._closed = True
        await self._runner.close()
        for wait in self._waits.values():
            if not wait.done.done():
                wait.done.set_result("not_found")
        self._waits.clear()
        self._targets.clear()

    # Inside.

    async def _search(
        self, target: Target, timeout: float
    ) -> FoundService | FoundNode | str:
        if not 0 < timeout <= _TIMEOUT_S_MAX:
            raise InvalidValue(
                f"timeout={timeout} is not above 0 and at most {_TIMEOUT_S_MAX:g} s"
            )
        now = asyncio.get_running_loop().time
        until = now() + timeout
        while True:
            outcome = await self._share(target, until - now())
            # A search that others had begun ends when they said that it should.
            if outcome != "timeout" or until - now() < _GRACE_S:
                return outcome

    async def _share(
        self, target: Target, seconds: float
    ) -> FoundService | FoundNode | str:
        wait = self._waits.get(target) or self._begin(target, seconds)
        wait.waiters += 1
        try:
            await asyncio.wait((wait.done,), timeout=seconds)
            return wait.done.result() if wait.done.done() else "timeout"
        finally:
            wait.waiters -= 1
            if wait.waiters == 0 and not wait.done.done():
                self._waits.pop(target, None)
                self._runner.feed(GiveUp(wait.ref))

    def _begin(self, target: Target, timeout: float) -> _Wait:
        wait = self._waits[target] = _Wait(next(self._refs))
        if self._closed:
            wait.done.set_result("not_found")
            del self._waits[target]
            return wait
        self._targets[wait.ref] = target
        self._runner.feed(Find(wait.ref, target, max(int(timeout * 1_000), 1)))
        return wait

    def _answered(self, event: object) -> None:
        assert isinstance(event, Answer)
        target = self._targets.pop(event.ref, None)
        wait = None if target is None else self._waits.get(target)
        if target is None or wait is None or wait.ref != event.ref:
            return
        del self._waits[target]
        if not wait.done.done():
            wait.done.set_result(event.outcome)

    def _transmit(self, peer: Peer, message: object) -> None:
        assert isinstance(message, RouteRequest | RouteReply)
        peer.send_control(*encode(message))


_TIMEOUT_S_MAX: Final = ROUTE_MS_MAX / 1_000
_GRACE_S: Final = 0.01


def _error_of(what: str, outcome: object, timeout: float) -> BarrelError:
    if outcome == "overloaded":
        return Overloaded(
            f"{what} cannot be looked for: as many searches go on as are allowed",
            hint="try again later, or raise router_max_in_flight",
        )
    if outcome == "timeout":
        return CallTimeout(f"{what} was not found within {timeout:g} s")
    return ServiceNotFound(
        f"nobody in the overlay knows {what}",
        hint="give it time to be registered, or start it",
    )
