"""Nodes as far as channels go: real keys, pins, certificates and UDP on loopback."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from barrel_p2p.auth.cookie import cookie_key
from barrel_p2p.auth.identity import ensure_key_pair
from barrel_p2p.auth.machine import LocalNode, Mode
from barrel_p2p.auth.trust import TrustStore
from barrel_p2p.carrier.channel import Channel
from barrel_p2p.carrier.channels import Channels
from barrel_p2p.carrier.dialer import Resolved
from barrel_p2p.carrier.dispatcher import Dispatcher
from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.carrier.reception import AdmissionLimits
from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.carrier.session import Session
from barrel_p2p.core.clock import SystemClock
from barrel_p2p.core.names import NodeReference
from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.quic.settings import EngineSettings
from barrel_p2p.wire.frames import Frame
from tests.endpoints import HOST, certificate, eventually

__all__ = [
    "CONTROL_KIND",
    "DATA_KIND",
    "GOSSIP_KIND",
    "ChannelNode",
    "connected",
    "node",
    "pair_of_nodes",
    "session",
]

DATA_KIND = 47
GOSSIP_KIND = 55
CONTROL_KIND = 63


@dataclass
class ChannelNode:
    """A node's channels, and all that they told it."""

    name: str
    endpoint: Endpoint
    channels: Channels
    trust: TrustStore
    local: LocalNode
    events: list[NodeUp | NodeDown] = field(default_factory=list)
    frames: list[tuple[str, Frame]] = field(default_factory=list)

    @property
    def ref(self) -> str:
        host, port = self.endpoint.address
        place = f"[{host}]" if ":" in host else host
        return f"{self.name}={place}:{port}"

    @property
    def public_key(self) -> bytes:
        assert self.local.key_pair is not None
        return self.local.key_pair.public_key

    @property
    def downs(self) -> list[str]:
        return [e.reason for e in self.events if isinstance(e, NodeDown)]

    @property
    def ups(self) -> int:
        return sum(1 for e in self.events if isinstance(e, NodeUp))

    def heard(self, channel: Channel, frame: Frame) -> None:
        self.frames.append((channel.name, frame))


async def resolve_from_reference(reference: NodeReference) -> Resolved:
    if reference.host is None or reference.port is None:
        return Resolved([], "the reference names no address")
    return Resolved([(reference.host, reference.port)], "as named")


def session(**changes: object) -> Session:
    base = Session(
        creation=7,
        address=None,
        ring_size=64,
        member_heartbeat_ms=15_000,
        member_ttl_ms=45_000,
        data_streams=8,
        package="0.1.0",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


@asynccontextmanager
async def node(
    name: str,
    *,
    cookie: str = "a cookie of the tests",
    mode: Mode = Mode.IDENTITY,
    trust_mode: str = "tofu",
    host: str = HOST,
    port: int = 0,
    settings: EngineSettings | None = None,
    directory: Path | None = None,
    limits: AdmissionLimits | None = None,
    handshake_timeout_ms: int = 10_000,
    local_changes: Mapping[str, object] | None = None,
    **session_changes: object,
) -> AsyncIterator[ChannelNode]:
    """A node that listens, with a recorder on three frame kinds."""
    async with AsyncExitStack() as stack:
        if directory is None:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="barrel-"))
            directory = Path(made)
        directory.chmod(0o700)
        keys = directory / "keys"
        trust = TrustStore(keys, mode=trust_mode, clock=SystemClock())
        local = LocalNode(
            name=name,
            key_pair=ensure_key_pair(keys),
            cookie_key=cookie_key(cookie),
            protocol_min=1,
            protocol_max=1,
            timestamp_window_ms=30_000,
            mode_of=lambda peer: mode,
        )
        local = replace(local, **(local_changes or {}))  # type: ignore[arg-type]
        dispatcher = Dispatcher()
        opened = await Endpoint.open(
            host, port, certificate=certificate(), settings=settings
        )
        stack.push_async_callback(opened.close, drain=0.2)
        channels = Channels(
            opened,
            node=local,
            session=session(**session_changes),
            trust=trust,
            certificate_hash=certificate().der_sha256,
            resolve=resolve_from_reference,
            dispatcher=dispatcher,
            limits=limits,
            handshake_timeout_ms=handshake_timeout_ms,
        )
        stack.push_async_callback(channels.close, drain=0.2)
        made_node = ChannelNode(name, opened, channels, trust, local)
        dispatcher.register(CONTROL_KIND, made_node.heard, role=StreamRole.CONTROL)
        dispatcher.register(GOSSIP_KIND, made_node.heard, role=StreamRole.GOSSIP)
        dispatcher.register(DATA_KIND, made_node.heard, role=StreamRole.DATA)
        channels.listen(made_node.events.append)
        yield made_node


@asynccontextmanager
async def pair_of_nodes(
    first: str = "a@h", second: str = "b@h", **options: object
) -> AsyncIterator[tuple[ChannelNode, ChannelNode]]:
    """Two nodes that do not know each other yet."""
    async with (
        node(first, **options) as a,  # type: ignore[arg-type]
        node(second, **options) as b,  # type: ignore[arg-type]
    ):
        yield a, b


async def connected(a: ChannelNode, b: ChannelNode) -> tuple[Channel, Channel]:
    """The two ends of the channel that ``a`` dials."""
    near = await a.channels.connect(b.ref)
    await eventually(lambda: b.channels.get(a.name) is not None)
    far = b.channels.get(a.name)
    assert far is not None
    return near, far
