"""What a node is made of, in the order in which it starts. It stops in reverse.

Each stage puts what it made into ``Parts`` and takes it down when it is left. All that
can refuse to start (settings, keys, the lock) stands before the socket.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from barrel_p2p.auth.certs import ensure_certificate
from barrel_p2p.auth.cookie import cookie_key
from barrel_p2p.auth.identity import ensure_key_pair
from barrel_p2p.auth.machine import LocalNode
from barrel_p2p.auth.policy import CookieOnly, mode_chooser
from barrel_p2p.auth.trust import TrustStore
from barrel_p2p.carrier.channel import Channel
from barrel_p2p.carrier.channels import Channels
from barrel_p2p.carrier.dispatcher import Dispatcher
from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.carrier.inbound import FrameSink
from barrel_p2p.carrier.reasons import Reason
from barrel_p2p.carrier.reset_seed import ensure_reset_seed
from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.carrier.session import DATA_STREAMS_MAX, Session
from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.discovery.advertise import advertised_address
from barrel_p2p.discovery.configured import chain_of
from barrel_p2p.discovery.file import REFRESH_MS
from barrel_p2p.errors import ConfigError, PeerUnreachable
from barrel_p2p.node.auth import Auth
from barrel_p2p.node.clock_bound import clock_bound
from barrel_p2p.node.control import open_control
from barrel_p2p.node.data_dir import DataDir
from barrel_p2p.node.operations import Operations
from barrel_p2p.node.overlay import overlay
from barrel_p2p.node.parts import Parts, Stage
from barrel_p2p.node.state import state
from barrel_p2p.node.topics import Topics
from barrel_p2p.node.whereabouts import Whereabouts
from barrel_p2p.quic.settings import EngineSettings
from barrel_p2p.runtime import rpc
from barrel_p2p.runtime.calls import fault_of
from barrel_p2p.runtime.pauses import PauseWatch
from barrel_p2p.runtime.processes import Processes
from barrel_p2p.runtime.subscriptions import Subscriptions
from barrel_p2p.runtime.switch import Line, Switch
from barrel_p2p.runtime.typed import lift, lower
from barrel_p2p.wire.kinds import Kind

__all__ = [
    "PROTOCOL_MAX",
    "PROTOCOL_MIN",
    "SEND_HIGH",
    "SEND_LOW",
    "STAGES",
    "switched",
]

PROTOCOL_MIN: Final = 1
PROTOCOL_MAX: Final = 1
"""Versions of the session protocol that this package speaks."""

SEND_HIGH: Final = 256 * 1024
SEND_LOW: Final = 64 * 1024
"""Bytes of one stream's queue at which senders wait, and go on. A larger queue leaves
the processor's cache before it is sent: 8 streams of 1 MiB each carry a third less."""

_log = logging.getLogger("barrel_p2p.node")


@asynccontextmanager
async def data_directory(parts: Parts) -> AsyncIterator[None]:
    """Lock the directory, and begin a new life of the node in it."""
    path = Path(parts.config.data_dir or f"data/{parts.name}")
    with (
        DataDir.open(path, clock=parts.clock) as directory,
        ThreadPoolExecutor(1, thread_name_prefix="barrel-p2p-disk") as disk,
    ):
        parts.directory = directory
        parts.disk = disk
        yield


@asynccontextmanager
async def identity(parts: Parts) -> AsyncIterator[None]:
    """Load or make keys and certificate."""
    config, directory = parts.config, parts.directory
    for warning in config.warnings():
        _log.warning("%s: %s", parts.name, warning, extra={"event": "boot_warning"})
    keys = directory.resolve(config.auth_key_dir)
    parts.key_pair = ensure_key_pair(keys)
    parts.trust = TrustStore(keys, mode=config.auth_trust_mode, clock=parts.clock)
    parts.auth = Auth(
        parts.key_pair,
        keys,
        mode_chooser(
            CookieOnly(config.cookie_only_nodes),
            auth_enabled=config.auth_enabled,
            lookup_pin=parts.trust.lookup_pin,
        ),
    )
    parts.certificate = ensure_certificate(
        directory.resolve(config.quic_cert_dir), parts.name
    )
    async with clock_bound(
        directory.hlc_bound,
        node=parts.name,
        clock=parts.clock,
        disk=parts.disk,
        max_drift_ms=config.hlc_max_drift_ms,
    ) as hlc:
        parts.hlc = hlc
        yield


@asynccontextmanager
async def endpoint(parts: Parts) -> AsyncIterator[None]:
    """Bind the socket."""
    config = parts.config
    parts.endpoint = opened = await Endpoint.open(
        config.bind_host,
        config.listen_port,
        certificate=parts.certificate,
        settings=EngineSettings(
            idle_timeout_ms=config.idle_timeout_ms,
            keep_alive_ms=config.keep_alive_ms,
            spin_us=config.spin_us,
            poll_us=config.poll_us,
            streams_uni_max=DATA_STREAMS_MAX + 8,
            send_high=SEND_HIGH,
            send_low=SEND_LOW,
        ),
        reset_seed=ensure_reset_seed(parts.directory.reset_seed),
    )
    try:
        host, port = opened.address
        parts.address = advertised_address(
            parts.name,
            bind_host=host,
            bound_port=port,
            advertise_host=config.advertise_host,
            advertise_port=config.advertise_port,
        )
        yield
    finally:
        await opened.close(drain=min(parts.left(), 1.0))


@contextmanager
def switched(parts: Parts) -> Iterator[Switch]:
    """Make the switch, with its processes and what they are told of."""
    parts.switch = switch = Switch(
        parts.name,
        parts.directory.creation,
        asyncio.get_running_loop(),
        strict=parts.config.strict_messages,
    )
    switch.node = parts.node
    switch.fault_of = fault_of
    switch.lower = lower
    switch.lift = lift
    parts.processes = Processes(switch, node=parts.node)
    parts.pauses = PauseWatch(parts.clock)
    parts.events = Subscriptions(switch)
    parts.topics = Topics(
        parts.processes, lambda topic, hear: parts.broadcast.subscribe(topic, hear)
    )
    try:
        yield switch
    finally:
        parts.pauses.close()
        parts.events.close()
        parts.topics.close()
        switch.close()


@asynccontextmanager
async def messages(parts: Parts) -> AsyncIterator[None]:
    """Make the switch, which knows where messages go, and let the port feed it."""
    with switched(parts) as switch:
        switch.on_slow = _slow_warning(parts)
        pump, looked = parts.endpoint.pump, parts.pauses.before(switch.resume)
        pump.set_after_dispatch(switch.resume)
        parts.pauses.on_active = lambda active: pump.set_after_dispatch(
            looked if active else switch.resume
        )
        yield


@asynccontextmanager
async def channels(parts: Parts) -> AsyncIterator[None]:
    """Dial and be dialled."""
    config, switch = parts.config, parts.switch
    parts.chain = chain_of(config, clock=parts.clock)
    parts.whereabouts = Whereabouts(parts)
    dispatcher = Dispatcher()
    parts.channels = made = Channels(
        parts.endpoint,
        node=LocalNode(
            name=parts.name,
            key_pair=parts.key_pair,
            cookie_key=cookie_key(config.dist_cookie),
            protocol_min=PROTOCOL_MIN,
            protocol_max=PROTOCOL_MAX,
            timestamp_window_ms=config.auth_timestamp_window,
            mode_of=parts.auth.mode_of,
        ),
        session=Session(
            creation=switch.creation,
            address=(parts.address.host, parts.address.port),
            ring_size=config.ring_size,
            member_heartbeat_ms=config.member_heartbeat_ms,
            member_ttl_ms=config.member_ttl_ms,
            data_streams=config.data_streams,
            package=version("barrel-p2p"),
        ),
        trust=parts.trust,
        certificate_hash=parts.certificate.der_sha256,
        resolve=parts.whereabouts.resolve,
        dispatcher=dispatcher,
        line=_line_maker(parts),
        clock=parts.clock,
        disk=parts.disk,
        handshake_timeout_ms=config.auth_handshake_timeout,
    )
    _register(dispatcher, parts)
    noting: set[asyncio.Future[None]] = set()
    made.listen(parts.whereabouts.node_changed)
    made.listen(lambda event: _note_seen(parts, event, noting))
    made.listen(lambda event: _node_changed(parts, event))
    parts.trust.on_revoked(_revoker(parts))
    switch.dial = made.connect
    try:
        yield
    finally:
        await made.close(drain=parts.left())
        if noting:
            await asyncio.wait(noting)


@asynccontextmanager
async def processes(parts: Parts) -> AsyncIterator[None]:
    """Run exposed functions. End all processes while they can still send."""
    rpc.serve(parts.processes)
    try:
        yield
    finally:
        await parts.processes.stop(timeout=parts.left())


@asynccontextmanager
async def discovery(parts: Parts) -> AsyncIterator[None]:
    """Tell others where the node is, again and again, and take it back at the end."""
    if parts.hidden:
        yield
        return
    await _publish(parts)
    publishing = asyncio.create_task(_keep_published(parts))
    try:
        yield
    finally:
        publishing.cancel()
        await asyncio.wait({publishing})
        await parts.chain.withdraw(parts.name)


@asynccontextmanager
async def control(parts: Parts) -> AsyncIterator[None]:
    """Take commands from this host."""
    path = None
    if not parts.hidden:
        try:
            path = parts.directory.control_socket()
        except ConfigError as error:
            _log.warning(
                "%s takes no commands: %s",
                parts.name,
                error,
                extra={"event": "no_control_socket", "node": parts.name},
            )
    if path is None:
        yield
        return
    async with open_control(path, Operations(parts.node).perform):
        yield


STAGES: Final[tuple[Stage, ...]] = (
    data_directory,
    identity,
    endpoint,
    messages,
    channels,
    processes,
    overlay,
    state,
    discovery,
    control,
)


async def _keep_published(parts: Parts) -> None:
    while True:
        await asyncio.sleep(REFRESH_MS / 1_000)
        await _publish(parts)


async def _publish(parts: Parts) -> None:
    for said in await parts.chain.register(parts.address):
        if said.error is not None:
            _log.warning(
                "%s could not be published: %s",
                parts.name,
                said,
                extra={"event": "publish_failed", "node": parts.name},
            )


def _line_maker(parts: Parts) -> Callable[[Channel], FrameSink]:
    switch, pump = parts.switch, parts.endpoint.pump

    def line_of(channel: Channel) -> FrameSink:
        line = Line(switch, channel, pump, parts.config.data_streams)
        switch.line_up(line)
        return line

    return line_of


def _register(dispatcher: Dispatcher, parts: Parts) -> None:
    switch = parts.switch

    def room(channel: Channel, frame: Any) -> None:
        line = switch.lines.get(channel.name)
        if line is not None and line.channel is channel:
            line.room_frame(frame.kind, frame.body)

    dispatcher.register((Kind.PAUSE, Kind.RESUME), room, role=StreamRole.CONTROL)
    dispatcher.register(
        range(Kind.EXIT, Kind.DOWN + 1),
        parts.processes.handle_frame,
        role=StreamRole.DATA,
    )


def _revoker(parts: Parts) -> Callable[[str, bytes | None], None]:
    loop = parts.switch.loop

    def revoked(name: str, key: bytes | None) -> None:
        try:
            here = asyncio.get_running_loop() is loop
        except RuntimeError:
            here = False
        if here:
            _part_with(parts, name, key)
        elif not loop.is_closed():  # A key can be revoked in any thread.
            loop.call_soon_threadsafe(_part_with, parts, name, key)

    return revoked


def _part_with(parts: Parts, name: str, key: bytes | None) -> None:
    channels = parts.channels
    if parts.members is not None:
        parts.members.refuse(name)
    for node in channels.nodes():
        channel = channels.get(node)
        if channel is None:
            continue
        if node == name or (key is not None and channel.identity.key == key):
            channels.disconnect(node, Reason.REVOKED)


def _note_seen(
    parts: Parts, event: NodeUp | NodeDown, noting: set[asyncio.Future[None]]
) -> None:
    # It syncs the disk, which takes longer than the loop has.
    if isinstance(event, NodeUp) and parts.trust.is_due(event.node):
        loop = parts.switch.loop
        note = loop.run_in_executor(parts.disk, parts.trust.seen, event.node)
        noting.add(note)
        note.add_done_callback(noting.discard)


def _node_changed(parts: Parts, event: NodeUp | NodeDown) -> None:
    switch = parts.switch
    if isinstance(event, NodeUp):
        parts.processes.node_up(event.node)
    else:
        line = switch.lines.get(event.node)
        if line is not None:
            switch.drop_line(
                line,
                PeerUnreachable(
                    f"the channel to {event.node} is down: {event.reason}",
                    peer=event.node,
                ),
            )
        parts.processes.node_lost(event.node, event.reason)
    parts.events.tell(event)


def _slow_warning(parts: Parts) -> Callable[[Any, int], None]:
    def warn(process: Any, ms: int) -> None:
        _log.warning(
            "%s: %s held the event loop for %d ms; move such work to"
            " asyncio.to_thread or a process pool",
            parts.name,
            process if process is not None else "code outside any process",
            ms,
            extra={"event": "slow_handler", "node": parts.name},
        )

    return warn
