"""What an application of nodes and processes imports, in one place for the facade."""

from __future__ import annotations

from barrel_p2p.auth.trust import Fingerprint, PinnedKey, TrustMode
from barrel_p2p.carrier.dialer import ConnectOptions
from barrel_p2p.core.members import (
    MemberDead,
    MemberGone,
    MemberSuspected,
    MemberUp,
)
from barrel_p2p.core.peers import Joined, Left, NodeDown, NodeUp, PeerDown, PeerUp
from barrel_p2p.node.here import (
    active_view,
    delete_map,
    get_proxy,
    global_register,
    is_owner,
    join,
    leave,
    list_services,
    lookup,
    lookup_local,
    map_get,
    map_keys,
    map_put,
    map_remove,
    map_to_list,
    members,
    new_map,
    on_hand_off,
    owned_partitions,
    owners,
    partition,
    passive_view,
    place,
    register_name,
    register_service,
    send,
    start_service_holder,
    stop_service_holder,
    subscribe,
    subscribe_map,
    subscribe_services,
    subscribe_shard,
    unregister_name,
    unregister_service,
    unsubscribe,
    unsubscribe_map,
    unsubscribe_services,
    unsubscribe_shard,
    whereis_name,
    whereis_service,
)
from barrel_p2p.node.node import Node, NodeRef, NodeStats
from barrel_p2p.node.run import current_node, run, self_pid
from barrel_p2p.node.topics import Broadcasted
from barrel_p2p.replica.callbacks import Replica
from barrel_p2p.replica.driver import ReplicaHandle
from barrel_p2p.replica.store import ReplicatedStore
from barrel_p2p.runtime.event_stream import EventStream, Lagged
from barrel_p2p.runtime.process import Process, ProcessExit
from barrel_p2p.runtime.rpc import expose
from barrel_p2p.runtime.server import NO_REPLY, GenServer
from barrel_p2p.runtime.supervisor import (
    Child,
    ChildSpec,
    DynamicSupervisor,
    Supervisor,
)
from barrel_p2p.runtime.switch import Call, Cast
from barrel_p2p.runtime.typed import UnknownMessage, message
from barrel_p2p.runtime.verbs import call, cast
from barrel_p2p.services.fence_guard import FenceGuard
from barrel_p2p.services.leader_events import Candidate, Elected, Revoked, Role
from barrel_p2p.services.leadership import Term
from barrel_p2p.services.map_events import MapPut, MapRemove
from barrel_p2p.services.replicated_map import ReplicatedMap
from barrel_p2p.services.service_events import (
    ServiceDown,
    ServiceEntry,
    ServiceRegistered,
    ServiceUnregistered,
)
from barrel_p2p.services.shard_events import Acquired, Released

__all__ = [
    "NO_REPLY",
    "Acquired",
    "Broadcasted",
    "Call",
    "Candidate",
    "Cast",
    "Child",
    "ChildSpec",
    "ConnectOptions",
    "DynamicSupervisor",
    "Elected",
    "EventStream",
    "FenceGuard",
    "Fingerprint",
    "GenServer",
    "Joined",
    "Lagged",
    "Left",
    "MapPut",
    "MapRemove",
    "MemberDead",
    "MemberGone",
    "MemberSuspected",
    "MemberUp",
    "Node",
    "NodeDown",
    "NodeRef",
    "NodeStats",
    "NodeUp",
    "PeerDown",
    "PeerUp",
    "PinnedKey",
    "Process",
    "ProcessExit",
    "Released",
    "Replica",
    "ReplicaHandle",
    "ReplicatedMap",
    "ReplicatedStore",
    "Revoked",
    "Role",
    "ServiceDown",
    "ServiceEntry",
    "ServiceRegistered",
    "ServiceUnregistered",
    "Supervisor",
    "Term",
    "TrustMode",
    "UnknownMessage",
    "active_view",
    "call",
    "cast",
    "current_node",
    "delete_map",
    "expose",
    "get_proxy",
    "global_register",
    "is_owner",
    "join",
    "leave",
    "list_services",
    "lookup",
    "lookup_local",
    "map_get",
    "map_keys",
    "map_put",
    "map_remove",
    "map_to_list",
    "members",
    "message",
    "new_map",
    "on_hand_off",
    "owned_partitions",
    "owners",
    "partition",
    "passive_view",
    "place",
    "register_name",
    "register_service",
    "run",
    "self_pid",
    "send",
    "start_service_holder",
    "stop_service_holder",
    "subscribe",
    "subscribe_map",
    "subscribe_services",
    "subscribe_shard",
    "unregister_name",
    "unregister_service",
    "unsubscribe",
    "unsubscribe_map",
    "unsubscribe_services",
    "unsubscribe_shard",
    "whereis_name",
    "whereis_service",
]
