"""Peer-to-peer clusters of Python nodes over QUIC: one UDP port, no broker.

The facade: public names are re-exported here and nothing is defined here. Errors come
at once. Whatever is compiled, or needs an event loop, is imported on first use, because
asyncio alone takes longer to import than everything that is wanted without it, and
because a checkout that is not built yet must still be able to say so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from barrel_p2p.errors import (
    AlreadyCandidate,
    AlreadyRegistered,
    AuthError,
    AuthModeMismatch,
    AuthTimeout,
    BarrelError,
    Busy,
    CallTimeout,
    ClockDrift,
    ConfigError,
    Conflict,
    CookieMismatch,
    FencedOut,
    InvalidValue,
    KeyMismatch,
    KeypairMismatch,
    LeadershipLost,
    MigrationDisabled,
    MigrationsExhausted,
    NameMismatch,
    NoLeader,
    NoProc,
    NoSuchFunction,
    NoSuchMap,
    NotConnected,
    NotEncodable,
    NotLeader,
    NotStarted,
    Overloaded,
    PeerError,
    PeerTsSkew,
    PeerUnreachable,
    RemoteError,
    RevokedKey,
    RingSizeMismatch,
    ServiceNotFound,
    SignatureInvalid,
    StorageError,
    StreamClosed,
    StreamReset,
    UnavailableError,
    UntrustedKey,
    UsageError,
    VersionMismatch,
    WireError,
)

if TYPE_CHECKING:
    from barrel_p2p.auth.certs import ensure_certificate
    from barrel_p2p.carrier.endpoint import Endpoint
    from barrel_p2p.config import Config
    from barrel_p2p.core.events import Down, Event, Exit
    from barrel_p2p.core.hlc import HLC, Timestamp
    from barrel_p2p.core.names import Address, At, NodeReference
    from barrel_p2p.core.terms import Atom, Pid, Ref
    from barrel_p2p.discovery.backend import Discovery
    from barrel_p2p.node.api import (
        NO_REPLY,
        Acquired,
        Broadcasted,
        Call,
        Cast,
        Child,
        ChildSpec,
        ConnectOptions,
        DynamicSupervisor,
        EventStream,
        Fingerprint,
        GenServer,
        Joined,
        Lagged,
        Left,
        MapPut,
        MapRemove,
        MemberDead,
        MemberGone,
        MemberSuspected,
        MemberUp,
        Node,
        NodeDown,
        NodeRef,
        NodeStats,
        NodeUp,
        PeerDown,
        PeerUp,
        PinnedKey,
        Process,
        ProcessExit,
        Released,
        Replica,
        ReplicaHandle,
        ReplicatedMap,
        ReplicatedStore,
        ServiceDown,
        ServiceEntry,
        ServiceRegistered,
        ServiceUnregistered,
        Supervisor,
        TrustMode,
        UnknownMessage,
        active_view,
        call,
        cast,
        current_node,
        expose,
        get_proxy,
        global_register,
        is_owner,
        join,
        leave,
        list_services,
        lookup,
        lookup_local,
        members,
        message,
        on_hand_off,
        owned_partitions,
        owners,
        partition,
        passive_view,
        place,
        register_name,
        register_service,
        run,
        self_pid,
        send,
        start_service_holder,
        stop_service_holder,
        subscribe,
        subscribe_services,
        subscribe_shard,
        unregister_name,
        unregister_service,
        unsubscribe,
        unsubscribe_services,
        unsubscribe_shard,
        whereis_name,
        whereis_service,
    )
    from barrel_p2p.quic.settings import EngineSettings
else:

    def __getattr__(name):
        """Import the name's module, and keep the name."""
        try:
            if name in ("HLC", "Timestamp"):
                from barrel_p2p.core import hlc as room
            elif name in ("Atom", "Pid", "Ref"):
                from barrel_p2p.core import terms as room
            elif name in ("Down", "Event", "Exit"):
                from barrel_p2p.core import events as room
            elif name in ("Address", "At", "NodeReference"):
                from barrel_p2p.core import names as room
            elif name == "Config":
                import barrel_p2p.config as room
            elif name == "Discovery":
                from barrel_p2p.discovery import backend as room
            elif name == "ensure_certificate":
                from barrel_p2p.auth import certs as room
            elif name == "EngineSettings":
                from barrel_p2p.quic import settings as room
            elif name == "Endpoint":
                from barrel_p2p.carrier import endpoint as room
            elif name in __all__:
                from barrel_p2p.node import api as room
            else:
                raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        except ModuleNotFoundError as error:
            error.add_note("build it first: `make setup`, or `pip install .`")
            raise
        value = globals()[name] = getattr(room, name)
        return value

    def __dir__():
        """The public names, imported or not."""
        return sorted({*globals(), *__all__})


__all__ = [
    "HLC",
    "NO_REPLY",
    "Acquired",
    "Address",
    "AlreadyCandidate",
    "AlreadyRegistered",
    "At",
    "Atom",
    "AuthError",
    "AuthModeMismatch",
    "AuthTimeout",
    "BarrelError",
    "Broadcasted",
    "Busy",
    "Call",
    "CallTimeout",
    "Cast",
    "Child",
    "ChildSpec",
    "ClockDrift",
    "Config",
    "ConfigError",
    "Conflict",
    "ConnectOptions",
    "CookieMismatch",
    "Discovery",
    "Down",
    "DynamicSupervisor",
    "Endpoint",
    "EngineSettings",
    "Event",
    "EventStream",
    "Exit",
    "FencedOut",
    "Fingerprint",
    "GenServer",
    "InvalidValue",
    "Joined",
    "KeyMismatch",
    "KeypairMismatch",
    "Lagged",
    "LeadershipLost",
    "Left",
    "MapPut",
    "MapRemove",
    "MemberDead",
    "MemberGone",
    "MemberSuspected",
    "MemberUp",
    "MigrationDisabled",
    "MigrationsExhausted",
    "NameMismatch",
    "NoLeader",
    "NoProc",
    "NoSuchFunction",
    "NoSuchMap",
    "Node",
    "NodeDown",
    "NodeRef",
    "NodeReference",
    "NodeStats",
    "NodeUp",
    "NotConnected",
    "NotEncodable",
    "NotLeader",
    "NotStarted",
    "Overloaded",
    "PeerDown",
    "PeerError",
    "PeerTsSkew",
    "PeerUnreachable",
    "PeerUp",
    "Pid",
    "PinnedKey",
    "Process",
    "ProcessExit",
    "Ref",
    "Released",
    "RemoteError",
    "Replica",
    "ReplicaHandle",
    "ReplicatedMap",
    "ReplicatedStore",
    "RevokedKey",
    "RingSizeMismatch",
    "ServiceDown",
    "ServiceEntry",
    "ServiceNotFound",
    "ServiceRegistered",
    "ServiceUnregistered",
    "SignatureInvalid",
    "StorageError",
    "StreamClosed",
    "StreamReset",
    "Supervisor",
    "Timestamp",
    "TrustMode",
    "UnavailableError",
    "UnknownMessage",
    "UntrustedKey",
    "UsageError",
    "VersionMismatch",
    "WireError",
    "active_view",
    "call",
    "cast",
    "current_node",
    "ensure_certificate",
    "expose",
    "get_proxy",
    "global_register",
    "is_owner",
    "join",
    "leave",
    "list_services",
    "lookup",
    "lookup_local",
    "members",
    "message",
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
    "subscribe_services",
    "subscribe_shard",
    "unregister_name",
    "unregister_service",
    "unsubscribe",
    "unsubscribe_services",
    "unsubscribe_shard",
    "whereis_name",
    "whereis_service",
]
