"""The stage of the boot order that makes a node part of a cluster.

What the rooms of the overlay tell each other stands in ``_connect``, and nowhere else:
docs/design/0005-overlay.md, "What joins the rooms".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from barrel_p2p.broadcast.driver import Broadcast
from barrel_p2p.broadcast.machine import Plumtree
from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.core.names import NodeReference
from barrel_p2p.core.peers import NodeDown, NodeUp, PeerDown, PeerUp
from barrel_p2p.membership.driver import Membership
from barrel_p2p.membership.settings import Settings
from barrel_p2p.node.parts import Parts
from barrel_p2p.replica.driver import Replicas
from barrel_p2p.services.member_inputs import LeaseSettings
from barrel_p2p.services.member_messages import MEMBER_KINDS
from barrel_p2p.services.members import LifeOf, Members
from barrel_p2p.services.names import Names
from barrel_p2p.services.proxy import Proxies
from barrel_p2p.services.registry import Registry
from barrel_p2p.services.router import Router
from barrel_p2p.services.router_messages import ROUTER_KINDS

__all__ = ["overlay"]


@asynccontextmanager
async def overlay(parts: Parts) -> AsyncIterator[None]:
    """Take part: views, gossip, members, replicas, registry. Leave at the end."""
    if parts.hidden:
        yield
        return
    _make(parts)
    forget = _connect(parts)
    for name in parts.trust.list_revoked():
        parts.members.refuse(name)
    parts.members.start()
    parts.registry.start({parts.name: parts.switch.creation})
    parts.membership.start()
    try:
        yield
    finally:
        parts.members.leave(alone=False)
        await parts.membership.leave(forget=False)
        for one in forget:
            one()
        parts.proxies.close()
        await parts.router.close()
        parts.registry.close()
        await parts.membership.close()
        await parts.members.close()
        await parts.replicas.close()
        await parts.broadcast.close()


def _make(parts: Parts) -> None:
    config, network = parts.config, parts.channels
    dispatcher = network.dispatcher
    parts.broadcast = Broadcast(
        Plumtree(parts.name, parts.rng("broadcast")),
        network=network,
        dispatcher=dispatcher,
        clock=parts.clock,
    )
    parts.replicas = Replicas(
        node=parts.name,
        creation=parts.switch.creation,
        network=network,
        dispatcher=dispatcher,
        broadcast=parts.broadcast,
        clock=parts.clock,
        hlc=parts.hlc,
        rng=parts.rng("replica"),
        anti_entropy_ms=config.replica_anti_entropy_ms,
    )
    parts.members = Members(
        parts.name,
        parts.switch.creation,
        network=network,
        life_of=_life_of(parts),
        clock=parts.clock,
        rng=parts.rng("members"),
        settings=LeaseSettings(
            heartbeat_ms=config.member_heartbeat_ms,
            ttl_ms=config.member_ttl_ms,
            suspect_ms=config.suspect_ms,
            skew_ms=config.member_skew_ms,
        ),
    )
    dispatcher.register(
        MEMBER_KINDS, parts.members.handle_frame, role=StreamRole.GOSSIP
    )
    parts.membership = Membership(
        Settings.of(config),
        address=parts.address,
        carrier=network,
        frames=dispatcher,
        clock=parts.clock,
        rng=parts.rng("membership"),
        contacts=[NodeReference.parse(text) for text in config.contact_nodes],
        store=parts.directory.peers,
    )
    _make_services(parts)


def _make_services(parts: Parts) -> None:
    config, network = parts.config, parts.channels
    parts.registry = Registry(
        parts.name,
        parts.switch.creation,
        replicas=parts.replicas,
        processes=parts.processes,
        clock=parts.clock,
        hlc=parts.hlc,
        rng=parts.rng("registry"),
        elsewhere=lambda name, timeout: parts.router.pid_of(name, timeout=timeout),
    )
    parts.router = Router(
        parts.name,
        network=network,
        lookup=parts.registry.find,
        is_dead=parts.members.is_dead,
        address_of=parts.whereabouts.of,
        clock=parts.clock,
        rng=parts.rng("router"),
        max_in_flight=config.router_max_in_flight,
        sweep_ms=config.route_cache_sweep_period_ms,
    )
    network.dispatcher.register(
        ROUTER_KINDS, parts.router.handle_frame, role=StreamRole.CONTROL
    )
    parts.proxies = Proxies(
        parts.processes,
        lookup=parts.registry.lookup,
        finder=parts.router,
        cast_max_in_flight=config.proxy_cast_max_in_flight,
    )
    parts.names = Names(
        parts.registry,
        router=parts.router,
        processes=parts.processes,
        proxies=parts.proxies,
    )


def _connect(parts: Parts) -> list[Callable[[], None]]:
    channels, membership, members = parts.channels, parts.membership, parts.members
    return [
        channels.listen(_allowed(members)),
        channels.listen(members.node_changed),
        channels.listen(parts.replicas.peer_changed),
        channels.listen(parts.router.node_changed),
        members.listen(parts.registry.member_changed),
        members.listen(parts.replicas.member_changed),
        members.listen(parts.router.member_changed),
        members.listen(parts.whereabouts.member_changed),
        members.listen(parts.events.tell),
        membership.listen(members.peer_changed),
        membership.listen(parts.broadcast.peer_changed),
        membership.listen(_peers(parts.replicas.peer_changed)),
        membership.listen(parts.router.peer_changed),
        membership.listen(parts.events.tell),
        parts.registry.listen(parts.router.service_changed),
        parts.registry.listen(parts.proxies.service_changed),
    ]


def _life_of(parts: Parts) -> LifeOf:
    def life_of(name: str) -> tuple[int, tuple[str, int] | None]:
        channel = parts.channels.get(name)
        if channel is None:  # It has ended while others were told that it is up.
            return 0, None
        return channel.creation, channel.session.address

    return life_of


def _peers(listener: Callable[[PeerUp | PeerDown], None]) -> Callable[[object], None]:
    def told(event: object) -> None:
        if isinstance(event, PeerUp | PeerDown):
            listener(event)

    return told


def _allowed(members: Members) -> Callable[[NodeUp | NodeDown], None]:
    def told(event: NodeUp | NodeDown) -> None:
        if isinstance(event, NodeUp):
            members.allow(event.node)  # Who is admitted is revoked no more.

    return told
