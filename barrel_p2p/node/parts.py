"""What a running node is made of: filled in stage by stage, emptied in reverse."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

from xxhash import xxh3_64_intdigest

from barrel_p2p.auth.certs import CertificateFiles
from barrel_p2p.auth.identity import KeyPair
from barrel_p2p.auth.trust import TrustStore
from barrel_p2p.broadcast.driver import Broadcast
from barrel_p2p.carrier.channels import Channels
from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.config import Config
from barrel_p2p.core.clock import Clock
from barrel_p2p.core.hlc import HLC
from barrel_p2p.core.names import Address
from barrel_p2p.core.rng import Rng, SeededRng
from barrel_p2p.discovery.chain import Chain
from barrel_p2p.membership.driver import Membership
from barrel_p2p.node.auth import Auth
from barrel_p2p.node.data_dir import DataDir
from barrel_p2p.node.topics import Topics
from barrel_p2p.node.whereabouts import Whereabouts
from barrel_p2p.replica.driver import Replicas
from barrel_p2p.runtime.pauses import PauseWatch
from barrel_p2p.runtime.processes import Processes
from barrel_p2p.runtime.subscriptions import Subscriptions
from barrel_p2p.runtime.switch import Switch
from barrel_p2p.services.leader import Leaders
from barrel_p2p.services.maps import Maps
from barrel_p2p.services.members import Members
from barrel_p2p.services.names import Names
from barrel_p2p.services.proxy import Proxies
from barrel_p2p.services.registry import Registry
from barrel_p2p.services.reminder import Reminders
from barrel_p2p.services.router import Router
from barrel_p2p.services.shard import Shards
from barrel_p2p.services.unique import UniqueServices
from barrel_p2p.storage.stores import Stores

__all__ = ["DRAIN_S", "Parts", "Stage"]

DRAIN_S: Final = 5.0
"""Seconds that stopping may take unless it is told otherwise."""


@dataclass
class Parts:
    """What the stages make of a configuration. Each field is set by the stage it is of.

    Args:
        name: The node's name.
        config: What it was told.
        clock: Both kinds of time.
        node: What processes see as their node.
        hidden: It publishes nothing and takes no commands.
        stop_by: The loop's time by which peers and processes are no longer waited for.
        seed: Makes all chance of the overlay repeatable; for simulations.
    """

    name: str
    config: Config
    clock: Clock
    node: Any
    hidden: bool = False
    stop_by: float | None = None
    seed: int | None = None

    directory: DataDir = None  # type: ignore[assignment]
    disk: Executor = None  # type: ignore[assignment]
    key_pair: KeyPair = None  # type: ignore[assignment]
    trust: TrustStore = None  # type: ignore[assignment]
    auth: Auth = None  # type: ignore[assignment]
    certificate: CertificateFiles = None  # type: ignore[assignment]
    hlc: HLC = None  # type: ignore[assignment]
    endpoint: Endpoint = None  # type: ignore[assignment]
    address: Address = None  # type: ignore[assignment]
    switch: Switch = None  # type: ignore[assignment]
    processes: Processes = None  # type: ignore[assignment]
    pauses: PauseWatch = None  # type: ignore[assignment]
    events: Subscriptions = None  # type: ignore[assignment]
    topics: Topics = None  # type: ignore[assignment]
    chain: Chain = None  # type: ignore[assignment]
    channels: Channels = None  # type: ignore[assignment]
    membership: Membership = None  # type: ignore[assignment]
    broadcast: Broadcast = None  # type: ignore[assignment]
    members: Members = None  # type: ignore[assignment]
    replicas: Replicas = None  # type: ignore[assignment]
    registry: Registry = None  # type: ignore[assignment]
    whereabouts: Whereabouts = None  # type: ignore[assignment]
    router: Router = None  # type: ignore[assignment]
    proxies: Proxies = None  # type: ignore[assignment]
    names: Names = None  # type: ignore[assignment]
    stores: Stores = None  # type: ignore[assignment]
    leaders: Leaders = None  # type: ignore[assignment]
    unique: UniqueServices = None  # type: ignore[assignment]
    maps: Maps = None  # type: ignore[assignment]
    shards: Shards = None  # type: ignore[assignment]
    reminders: Reminders = None  # type: ignore[assignment]

    def rng(self, room: str) -> Rng:
        """Chance for one room: the same for a seed, as no other's as can be without."""
        if self.seed is None:
            return SeededRng(secrets.randbits(128))
        return SeededRng(self.seed ^ xxh3_64_intdigest(f"{self.name}/{room}".encode()))

    def left(self) -> float:
        """Seconds that are left to wait for peers or processes, while stopping."""
        if self.stop_by is None:
            return DRAIN_S
        return max(self.stop_by - asyncio.get_running_loop().time(), 0.0)


type Stage = Callable[[Parts], AbstractAsyncContextManager[None]]
