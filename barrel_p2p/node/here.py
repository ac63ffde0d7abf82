"""What a node does, for code that runs on one and holds none: the current node does it.

Each function is the method of ``Node`` that has its name, on ``current_node()``: the
node of the running process, or else the only one that runs here. All of them raise
NotStarted where there is no such node; what else they raise is the method's.

Source: Barrel P2P documentation, "API overview".
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, Any

from barrel_p2p.core.names import Address, At, HasAddress, NodeReference
from barrel_p2p.core.terms import Pid
from barrel_p2p.node.run import current_node
from barrel_p2p.services.leader_events import Candidate, Role
from barrel_p2p.services.leadership import Term
from barrel_p2p.services.replicated_map import ReplicatedMap
from barrel_p2p.services.service_events import ServiceEntry, ServiceFilter

if TYPE_CHECKING:
    from barrel_p2p.runtime import addresses
    from barrel_p2p.services.reminder_events import ReminderEntry
    from barrel_p2p.services.reminder_value import Missed
    from barrel_p2p.services.shard import HandOffHook

__all__ = [
    "acknowledge_reminder",
    "active_view",
    "cancel_reminder",
    "candidates",
    "delete_map",
    "fence",
    "get_proxy",
    "global_register",
    "high_water",
    "is_leader",
    "is_owner",
    "join",
    "lead",
    "leader",
    "leadership",
    "leave",
    "list_reminders",
    "list_services",
    "lookup",
    "lookup_local",
    "map_get",
    "map_keys",
    "map_put",
    "map_remove",
    "map_to_list",
    "members",
    "new_map",
    "on_hand_off",
    "owned_partitions",
    "owners",
    "partition",
    "passive_view",
    "place",
    "register_name",
    "register_service",
    "remind",
    "remind_after",
    "resign",
    "send",
    "start_service_holder",
    "stop_service_holder",
    "subscribe",
    "subscribe_map",
    "subscribe_reminders",
    "subscribe_services",
    "subscribe_shard",
    "unregister_name",
    "unregister_service",
    "unsubscribe",
    "unsubscribe_map",
    "unsubscribe_reminders",
    "unsubscribe_services",
    "unsubscribe_shard",
    "whereis_name",
    "whereis_service",
]

# Membership.


async def join(
    contact_node: str | Address | NodeReference | HasAddress,
    *,
    timeout: float | None = 10.0,
) -> None:
    """Become part of the cluster of ``contact_node``: ``Node.join``."""
    await current_node().join(contact_node, timeout=timeout)


async def leave() -> None:
    """Leave the cluster: ``Node.leave``."""
    await current_node().leave()


def active_view() -> list[str]:
    """The peers: ``Node.active_view``."""
    return current_node().active_view()


def passive_view() -> list[str]:
    """Nodes that may become peers: ``Node.passive_view``."""
    return current_node().passive_view()


def members() -> list[str]:
    """All nodes of the cluster that are not dead: ``Node.members``."""
    return current_node().members()


async def subscribe(pid: Pid | None = None) -> None:
    """Send what happens to peers and members to a process: ``Node.subscribe``."""
    await current_node().subscribe(pid)


async def unsubscribe(pid: Pid | None = None) -> None:
    """Send it no more: ``Node.unsubscribe``."""
    await current_node().unsubscribe(pid)


# Services.


async def register_service(
    name: object,
    pid: Pid | None = None,
    meta: Mapping[str, Any] | None = None,
    *,
    unique: bool = False,
) -> None:
    """Let a process be found under a name: ``Node.register_service``."""
    await current_node().register_service(name, pid, meta, unique=unique)


async def unregister_service(name: object) -> None:
    """Take this node's instance of a service back: ``Node.unregister_service``."""
    await current_node().unregister_service(name)


def lookup_local(name: object) -> Pid:
    """This node's own instance of a service: ``Node.lookup_local``."""
    return current_node().lookup_local(name)


def lookup(name: object) -> list[ServiceEntry]:
    """Every known instance of a service: ``Node.lookup``."""
    return current_node().lookup(name)


def list_services() -> list[object]:
    """The names of all services: ``Node.list_services``."""
    return current_node().list_services()


async def whereis_service(
    name: object, *, retries: int = 0, timeout: float | None = None
) -> Pid:
    """A process of a service, the nearest first: ``Node.whereis_service``."""
    return await current_node().whereis_service(name, retries=retries, timeout=timeout)


async def subscribe_services(
    pid: Pid | None = None,
    *,
    name: object = None,
    pattern: str | re.Pattern[str] | None = None,
    matches: ServiceFilter | None = None,
) -> None:
    """Send what happens to services to a process: ``Node.subscribe_services``."""
    await current_node().subscribe_services(
        pid, name=name, pattern=pattern, matches=matches
    )


async def unsubscribe_services(pid: Pid | None = None) -> None:
    """Send it no more: ``Node.unsubscribe_services``."""
    await current_node().unsubscribe_services(pid)


# Leaders.


async def lead(name: object, *, priority: int = 0, pid: Pid | None = None) -> Role:
    """Make a process a candidate: ``Node.lead``."""
    return await current_node().lead(name, priority=priority, pid=pid)


async def resign(name: object) -> None:
    """Stand for a name no more: ``Node.resign``."""
    await current_node().resign(name)


def leader(name: object) -> tuple[str, Pid]:
    """Who leads a name, and where: ``Node.leader``."""
    return current_node().leader(name)


def is_leader(name: object) -> bool:
    """Whether the node's candidate leads a name: ``Node.is_leader``."""
    return current_node().is_leader(name)


def fence(name: object) -> int:
    """The fence of the node's term: ``Node.fence``."""
    return current_node().fence(name)


def candidates(name: object) -> list[Candidate]:
    """Who stands for a name: ``Node.candidates``."""
    return current_node().candidates(name)


def high_water(name: object) -> int | None:
    """The greatest fence of a name that the node knows: ``Node.high_water``."""
    return current_node().high_water(name)


def leadership(
    name: object, *, priority: int = 0, pid: Pid | None = None
) -> AsyncGenerator[Term]:
    """Stand for a name, term after term: ``Node.leadership``."""
    return current_node().leadership(name, priority=priority, pid=pid)


# Names.


async def register_name(name: object, pid: Pid) -> bool:
    """Name a process in the whole cluster: ``Node.register_name``."""
    return await current_node().register_name(name, pid)


async def unregister_name(name: object) -> None:
    """Take a name back that was given on this node: ``Node.unregister_name``."""
    await current_node().unregister_name(name)


def whereis_name(name: object) -> Pid | None:
    """The process of a name, or None: ``Node.whereis_name``."""
    return current_node().whereis_name(name)


async def send(to: addresses.Destination, message: object) -> Pid | At:
    """Send ``message`` to a pid or a name: ``Node.send``."""
    return await current_node().send(to, message)


async def global_register(name: object) -> Pid:
    """Give a service its name on this node: ``Node.global_register``."""
    return await current_node().global_register(name)


def get_proxy(name: object) -> Pid | None:
    """The stand-in for a service on this node, or None: ``Node.get_proxy``."""
    return current_node().get_proxy(name)


# Placement.


def place(key: object) -> str | None:
    """The node that should have a key: ``Node.place``."""
    return current_node().place(key)


def owners(key: object, n: int) -> list[str]:
    """The nodes that should have a key, the owner first: ``Node.owners``."""
    return current_node().owners(key, n)


def is_owner(key: object) -> bool:
    """Whether a key is this node's: ``Node.is_owner``."""
    return current_node().is_owner(key)


def partition(key: object) -> int:
    """The partition of a key: ``Node.partition``."""
    return current_node().partition(key)


def owned_partitions() -> list[int]:
    """The partitions that are this node's: ``Node.owned_partitions``."""
    return current_node().owned_partitions()


async def subscribe_shard(pid: Pid | None = None) -> None:
    """Send what changes hands to a process: ``Node.subscribe_shard``."""
    await current_node().subscribe_shard(pid)


async def unsubscribe_shard(pid: Pid | None = None) -> None:
    """Send it no more: ``Node.unsubscribe_shard``."""
    await current_node().unsubscribe_shard(pid)


def on_hand_off(
    *, acquired: HandOffHook | None = None, released: HandOffHook | None = None
) -> Callable[[], None]:
    """Have work done before a partition changes hands: ``Node.on_hand_off``."""
    return current_node().on_hand_off(acquired=acquired, released=released)


# Maps.


async def new_map(
    name: str,
    *,
    validator: Callable[[Any], bool] | None = None,
    persist: bool = False,
    prune_on_peer_down: bool = False,
    tombstone_ttl_ms: int | None = None,
    scan_ms: int | None = None,
) -> ReplicatedMap[Any, Any]:
    """Open a replicated map on this node: ``Node.new_map``."""
    return await current_node().new_map(
        name,
        validator=validator,
        persist=persist,
        prune_on_peer_down=prune_on_peer_down,
        tombstone_ttl_ms=tombstone_ttl_ms,
        scan_ms=scan_ms,
    )


async def delete_map(name: str) -> None:
    """Stop a map on this node and remove its file: ``Node.delete_map``."""
    await current_node().delete_map(name)


async def map_put(name: str, key: Any, value: Any) -> None:
    """Write to a map: ``Node.map_put``."""
    await current_node().map_put(name, key, value)


async def map_remove(name: str, key: Any) -> None:
    """Remove a key of a map everywhere: ``Node.map_remove``."""
    await current_node().map_remove(name, key)


def map_get(name: str, key: Any, default: Any = None) -> Any:
    """The value under a key of a map, or a default: ``Node.map_get``."""
    return current_node().map_get(name, key, default)


def map_keys(name: str) -> list[Any]:
    """The keys of a map: ``Node.map_keys``."""
    return current_node().map_keys(name)


def map_to_list(name: str) -> list[tuple[Any, Any]]:
    """The keys of a map with their values: ``Node.map_to_list``."""
    return current_node().map_to_list(name)


async def subscribe_map(name: str, pid: Pid | None = None) -> None:
    """Send what changes in a map to a process: ``Node.subscribe_map``."""
    await current_node().subscribe_map(name, pid)


async def unsubscribe_map(name: str, pid: Pid | None = None) -> None:
    """Send it no more: ``Node.unsubscribe_map``."""
    await current_node().unsubscribe_map(name, pid)


# Reminders.


async def remind(
    key: object,
    at: int | dt.datetime,
    payload: Any = None,
    *,
    every: int | dt.timedelta | None = None,
    missed: Missed = "coalesce",
) -> None:
    """Have a handler told at a time of day: ``Node.remind``."""
    node = current_node()
    await node.remind(key, at, payload, every=every, missed=missed)


async def remind_after(
    key: object,
    delay: int | dt.timedelta,
    payload: Any = None,
    *,
    every: int | dt.timedelta | None = None,
    missed: Missed = "coalesce",
) -> None:
    """Have a handler told after a delay: ``Node.remind_after``."""
    node = current_node()
    await node.remind_after(key, delay, payload, every=every, missed=missed)


async def cancel_reminder(key: object) -> None:
    """Take a reminder back: ``Node.cancel_reminder``."""
    await current_node().cancel_reminder(key)


async def acknowledge_reminder(key: object, fence: int) -> bool:
    """Say that a firing is done with: ``Node.acknowledge_reminder``."""
    return await current_node().acknowledge_reminder(key, fence)


def list_reminders() -> list[ReminderEntry]:
    """All reminders of the cluster: ``Node.list_reminders``."""
    return current_node().list_reminders()


async def subscribe_reminders(
    pid: Pid | None = None, *, acknowledge: bool = False
) -> None:
    """Send what is due here to a process: ``Node.subscribe_reminders``."""
    await current_node().subscribe_reminders(pid, acknowledge=acknowledge)


async def unsubscribe_reminders(pid: Pid | None = None) -> None:
    """Send it no more: ``Node.unsubscribe_reminders``."""
    await current_node().unsubscribe_reminders(pid)


# For tests.


async def start_service_holder(name: object) -> Pid:
    """Start a process that only holds a name: ``Node.start_service_holder``."""
    return await current_node().start_service_holder(name)


async def stop_service_holder(pid: Pid) -> None:
    """End such a process: ``Node.stop_service_holder``."""
    await current_node().stop_service_holder(pid)
