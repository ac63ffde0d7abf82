"""Dials: one a peer, however many wait for it.

A dial lives as long as somebody waits. It ends when a channel to the peer comes up,
from this dial or because the peer's own was faster. Whoever names an address that the
dial does not know has it tried at once. Two nodes that dial each other at once both
come here: whoever is told ``duplicate`` waits for the other's, and dials again only
where that does not come.

Bounded by ``DIALS_MAX``, ``CONNECT_OPTIONS_MAX`` and ``ADDRESSES_MAX``.

Source: docs/reference/wire.md, "Two dials at once".
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from barrel_p2p.carrier.admission import Admission
from barrel_p2p.carrier.connection import CODE_BUSY, Closed, ClosedBy
from barrel_p2p.carrier.report import ConnectReport
from barrel_p2p.errors import (
    BarrelError,
    Busy,
    InvalidValue,
    NotStarted,
    PeerUnreachable,
    UnavailableError,
)

if TYPE_CHECKING:
    from barrel_p2p.auth.machine import PeerIdentity
    from barrel_p2p.carrier.admission import Gate
    from barrel_p2p.carrier.channel import Channel
    from barrel_p2p.carrier.connection import Connection
    from barrel_p2p.carrier.endpoint import Endpoint
    from barrel_p2p.core.names import NodeReference

__all__ = [
    "ADDRESSES_MAX",
    "CONNECT_OPTIONS_MAX",
    "DIALS_MAX",
    "ConnectOptions",
    "Dial",
    "Dialer",
    "Resolve",
    "Resolved",
]

DIALS_MAX: Final = 1_024
"""Peers that are being dialled at the same time."""

ADDRESSES_MAX: Final = 16
"""Addresses of one peer that a dial tries."""

CONNECT_OPTIONS_MAX: Final = 1_024
"""Peers for which options of their next dial are kept."""

# For the channel of the peer's own dial, before we try again. That dial was up when we
# were told of it. Longer each time: only the peer can know that it is stuck.
_WINNER_WAIT_S: Final = (3.0, 6.0, 10.0)
_BUSY_WAIT_S: Final = (0.1, 0.2, 0.4, 0.8, 1.0)


class Resolved(NamedTuple):
    """Where a node may be, best first, and how that was found out, for people."""

    addresses: list[tuple[str, int]]
    explanation: str


type Resolve = Callable[[NodeReference], Awaitable[Resolved]]
type MakeChannel = Callable[[Connection, PeerIdentity], Channel]


@dataclass(frozen=True, slots=True)
class ConnectOptions:
    """What the next dial of a peer does differently.

    Args:
        remote: Host and port to dial instead of the peer's own, such as a relay's.
        local: Host, numeric, and port (0 for any) of a UDP socket of its own, bound for
            this dial and closed with the connection; None uses the node's.
    """

    remote: tuple[str, int] | None = None
    local: tuple[str, int] | None = None


class _Deferred(Exception):
    """The peer's own dial may be about to succeed."""


class _TurnedAway(Exception):
    """Too many others wait for admission over there."""


class _Redirected(Exception):
    """Somebody has named another address, which is tried first."""


class Dial:
    """One dial in progress.

    Attributes:
        reference: Whom it is for.
        report: Its steps.
        step: The step it is at.
        options: What the present attempt does differently.
    """

    def __init__(self, reference: NodeReference) -> None:
        self.reference = reference
        self.report = ConnectReport(str(reference))
        self.step = "resolve"
        self.options = ConnectOptions()
        self.waiters = 0
        self.connection: Connection | None = None
        self.task: asyncio.Task[None] | None = None
        self.future: asyncio.Future[Channel] = (
            asyncio.get_running_loop().create_future()
        )
        self.future.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._gave_way = False
        self._named = {_place(reference)}
        self._untried: list[NodeReference] = []
        self._is_redirected = False

    @property
    def is_connected(self) -> bool:
        """Whether the QUIC handshake of the present attempt is done."""
        return self.connection is not None and self.connection.is_up

    @property
    def gave_way(self) -> bool:
        """Whether the present attempt was given up for the peer's own dial."""
        return self._gave_way

    def give_way(self) -> None:
        """Give up the present attempt: the peer's own dial is further."""
        self._gave_way = True
        if self.connection is not None:
            self.connection.abort()

    def also(self, reference: NodeReference) -> None:
        """Try where ``reference`` says, if it says so and nobody said it before.

        At once, unless the present attempt has reached somebody already.
        """
        place = _place(reference)
        if (
            place is None
            or place in self._named
            or len(self._named) >= ADDRESSES_MAX
            or self.options.remote is not None
        ):
            return
        self._named.add(place)
        self._untried.append(reference)
        if not self.is_connected and not self._gave_way:
            self._is_redirected = True
            if self.connection is not None:
                self.connection.abort()

    def redirect(self) -> bool:
        """Try the place that was named last from now on; whether there is one."""
        if not self._untried:
            return False
        reference = self._untried.pop()
        if self._is_redirected:
            self._untried.insert(0, self.reference)
        self.reference = reference
        return True

    def raise_if_not_over(self) -> None:
        """After a failure: raise if the dial goes on nevertheless, now or later."""
        if self._gave_way:
            raise _Deferred
        if self._is_redirected:
            raise _Redirected
        closed = None if self.connection is None else self.connection.how_closed
        if closed == Closed(ClosedBy.APPLICATION, CODE_BUSY):
            raise _TurnedAway

    def begin(self) -> None:
        """Another attempt."""
        if self._is_redirected:
            self.redirect()
        self._gave_way = self._is_redirected = False
        self.connection = None
        self.step = "resolve"
        self.report.begin()

    def passed(self, text: str, *, then: str) -> None:
        """The present step is done; ``then`` is the next one."""
        self.report.ok(self.step, text)
        self.step = then


class Dialer:
    """All dials of a node.

    Args:
        endpoint: Dials leave from its first socket.
        gate: For the handshake.
        resolve: Where a node may be.
        make_channel: Called with a connection on which both sides have said OK.
        coming: Done when the peer's own dial, to which we said OK, came up or failed.
        handshake_timeout_ms: For everything between TLS and the peer's SESSION.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        gate: Gate,
        resolve: Resolve,
        make_channel: MakeChannel,
        coming: Callable[[str], asyncio.Future[None] | None],
        *,
        handshake_timeout_ms: int,
    ) -> None:
        self._endpoint = endpoint
        self._gate = gate
        self._resolve = resolve
        self._make_channel = make_channel
        self._coming = coming
        self._timeout_s = handshake_timeout_ms / 1_000
        self._dials: dict[str, Dial] = {}
        self._options: dict[str, ConnectOptions] = {}
        self._closed = False

    # One-shot options of the next dial of a node.

    def set_connect_options(self, name: str, options: ConnectOptions) -> None:
        """Use ``options`` for the next attempt to dial ``name``, and only for that.

        Raises:
            Busy: Options are kept for ``CONNECT_OPTIONS_MAX`` other nodes.
        """
        if name not in self._options and len(self._options) >= CONNECT_OPTIONS_MAX:
            raise Busy(
                f"connect options are kept for CONNECT_OPTIONS_MAX="
                f"{CONNECT_OPTIONS_MAX} nodes that were not dialled since",
                hint="clear those that are not needed",
            )
        self._options[name] = options

    def get_connect_options(self, name: str) -> ConnectOptions | None:
        """The options that the next dial of ``name`` will use, if there are any."""
        return self._options.get(name)

    def clear_connect_options(self, name: str) -> None:
        """Forget the options of ``name``. Idempotent."""
        self._options.pop(name, None)

    # Dials.

    def pending(self, name: str) -> Dial | None:
        """The dial of ``name`` in progress."""
        return self._dials.get(name)

    async def connect(self, reference: NodeReference, timeout: float | None) -> Channel:
        """Wait for a channel to come up, dialling if nobody does yet.

        Raises:
            PeerUnreachable, PeerError, UnavailableError: There is none; the report of
                the dial hangs on it.
            NotStarted: The channels are being closed.
        """
        dial = self._dials.get(reference.name)
        if dial is None:
            dial = self._start(reference)
        else:
            dial.also(reference)
        dial.waiters += 1
        patience = asyncio.timeout(timeout)
        try:
            async with patience:
                return await asyncio.shield(dial.future)
        except TimeoutError:
            if not patience.expired():
                raise  # AuthTimeout is one too.
            raise _gave_up(dial, timeout) from None
        finally:
            dial.waiters -= 1
            if dial.waiters == 0 and not dial.future.done():
                self._drop(dial)

    def settle(self, channel: Channel) -> None:
        """``channel`` has come up: whoever waits for its node has it."""
        dial = self._dials.pop(channel.name, None)
        if dial is None:
            return
        if not dial.future.done():
            dial.future.set_result(channel)
        if dial.task is not None and dial.connection is not channel.connection:
            dial.task.cancel()

    async def close(self) -> None:
        """End all dials. Whoever waits gets NotStarted."""
        self._closed = True
        tasks = [dial.task for dial in self._dials.values() if dial.task is not None]
        for dial in list(self._dials.values()):
            if not dial.future.done():
                dial.future.set_exception(NotStarted("the node is shutting down"))
            self._drop(dial)
        if tasks:
            await asyncio.wait(tasks)

    def _start(self, reference: NodeReference) -> Dial:
        if self._closed:
            raise NotStarted("the node is shutting down")
        if len(self._dials) >= DIALS_MAX:
            raise Busy(
                f"DIALS_MAX={DIALS_MAX} nodes are being dialled", hint="try again later"
            )
        dial = Dial(reference)
        self._dials[reference.name] = dial
        dial.task = asyncio.get_running_loop().create_task(
            self._run(dial), name=f"dial {reference.name}"
        )
        return dial

    def _drop(self, dial: Dial) -> None:
        if self._dials.get(dial.reference.name) is dial:
            del self._dials[dial.reference.name]
        if dial.task is not None:
            dial.task.cancel()

    async def _run(self, dial: Dial) -> None:
        try:
            await self._repeat(dial)
        except Exception as error:  # noqa: BLE001 -- whoever waits gets it
            if self._dials.get(dial.reference.name) is dial:
                del self._dials[dial.reference.name]
            if not dial.future.done():
                dial.report.gave_up(dial.step, str(error))
                dial.report.attach(error)
                dial.future.set_exception(error)

    async def _repeat(self, dial: Dial) -> None:
        turned_away = deferred = 0
        while not dial.future.done():
            coming = self._coming(dial.reference.name)
            if coming is not None:
                dial.step = "session"
                await asyncio.wait([coming])
                continue
            try:
                await self._attempt(dial)
            except _Deferred:
                await asyncio.wait(
                    [dial.future], timeout=_nth(_WINNER_WAIT_S, deferred)
                )
                deferred += 1
            except _TurnedAway:
                await asyncio.wait(
                    [dial.future], timeout=_nth(_BUSY_WAIT_S, turned_away)
                )
                turned_away += 1
            except _Redirected:
                continue
            except BarrelError:
                if not dial.redirect():
                    raise

    async def _attempt(self, dial: Dial) -> None:
        """Dial once; returns when the channel is up, and everyone was told."""
        dial.begin()
        try:
            await self._reach_any(dial, await self._addresses(dial))
            deadline_s = asyncio.get_running_loop().time() + self._timeout_s
            channel = await self._admit(dial, deadline_s)
            async with asyncio.timeout_at(deadline_s):
                await channel.wait_up()
            dial.passed("", then="done")
        except asyncio.CancelledError:
            if dial.connection is not None:
                dial.connection.close(0, "no longer wanted")
            raise
        except TimeoutError as error:
            if isinstance(error, BarrelError):
                raise
            if dial.connection is not None:
                dial.connection.close(0, "no SESSION in time")
            text = f"no SESSION within {self._timeout_s} s"
            raise PeerUnreachable(text, peer=dial.reference.name) from None

    async def _addresses(self, dial: Dial) -> list[tuple[str, int]]:
        dial.options = options = self._options.pop(
            dial.reference.name, ConnectOptions()
        )
        if options.remote is not None:
            dial.passed("as the connect options say", then="udp")
            return [options.remote]
        found = await self._resolve(dial.reference)
        if not found.addresses:
            dial.report.failed("resolve", found.explanation)
            raise PeerUnreachable(
                f"nobody knows where {dial.reference.name} is: {found.explanation}",
                peer=dial.reference.name,
                hint="name its address: name@host:port",
            )
        dial.passed(found.explanation, then="udp")
        return found.addresses[:ADDRESSES_MAX]

    async def _reach_any(self, dial: Dial, addresses: list[tuple[str, int]]) -> None:
        for last, (host, port) in enumerate(addresses, 1 - len(addresses)):
            try:
                await self._reach(dial, host, port)
            except (PeerUnreachable, InvalidValue, UnavailableError) as error:
                dial.raise_if_not_over()
                dial.report.failed(*_unreached(dial.connection, str(error)))
                if last == 0:
                    error.peer = dial.reference.name
                    raise
            else:
                return

    async def _reach(self, dial: Dial, host: str, port: int) -> None:
        numeric = await self._endpoint.numeric_address(host, port)
        dial.raise_if_not_over()
        dial.connection = self._dial(dial.options.local, numeric, port)
        dial.connection.peer = dial.reference.name
        await dial.connection.wait_connected()
        rtt_ms = dial.connection.stats().rtt_min_us / 1_000
        dial.passed(f"{numeric} port {port}, round trip {rtt_ms:.1f} ms", then="tls")
        dial.passed("QUIC v1, TLS 1.3", then="identity")

    def _dial(self, local: tuple[str, int] | None, host: str, port: int) -> Connection:
        if local is None:
            return self._endpoint.dial(host, port)
        socket = self._endpoint.add_socket(*local)
        try:
            connection = self._endpoint.dial(host, port, socket=socket)
        except BaseException:
            self._endpoint.remove_socket(socket)
            raise
        connection.call_when_closed(lambda: self._free_socket(socket))
        return connection

    def _free_socket(self, socket: int) -> None:
        with contextlib.suppress(NotStarted):  # The endpoint closes what is left.
            self._endpoint.remove_socket(socket)

    async def _admit(self, dial: Dial, deadline_s: float) -> Channel:
        connection = dial.connection
        assert connection is not None
        admission: Admission[Channel] | None = None
        try:
            admission = Admission(
                connection,
                self._gate,
                deadline_s=deadline_s,
                reference=dial.reference,
                admitted=lambda peer: self._make_channel(connection, peer),
            )
            channel = await admission.run()
        except BarrelError as error:
            dial.raise_if_not_over()
            refusal = None if admission is None else admission.refusal
            if refusal is not None:
                if refusal.by_peer and refusal.code == "duplicate":
                    raise _Deferred from None
                dial.report.refused(refusal.code, refusal.text)
            else:
                dial.report.failed("identity", str(error))
            raise
        for step, then in (
            ("identity", "cookie"),
            ("cookie", "version"),
            ("version", "session"),
        ):
            dial.step = step
            dial.passed("", then=then)
        return channel


def _place(reference: NodeReference) -> tuple[str, int] | None:
    """Where ``reference`` says that the node is; None if that is to be looked up."""
    if reference.host is None or reference.port is None:
        return None
    return reference.host, reference.port


def _nth(waits_s: tuple[float, ...], count: int) -> float:
    return waits_s[min(count, len(waits_s) - 1)]


def _unreached(connection: Connection | None, text: str) -> tuple[str, str]:
    """The step at which a QUIC handshake failed, and why, for people."""
    closed = None if connection is None else connection.how_closed
    if closed is None:
        return "udp", text
    if closed.by is ClosedBy.UNREACHABLE:
        return "udp", "nobody listens there: the network says so (ICMP)"
    if closed.by in (ClosedBy.HANDSHAKE, ClosedBy.IDLE):
        return "udp", "no answer"
    return "tls", text


def _gave_up(dial: Dial, timeout: float | None) -> PeerUnreachable:
    name = dial.reference.name
    step = dial.step
    if step == "udp" and dial.connection is not None:
        # It may have been heard of before it was waited for in vain.
        try:
            if dial.connection.stats().bytes_received:
                dial.report.ok("udp", "answers")
                step = "tls"
        except (PeerUnreachable, NotStarted):
            step = "udp"
    dial.report.gave_up(step, f"not done after {timeout} s")
    error = PeerUnreachable(
        f"no channel to {name} within {timeout} s: it waited for {step}", peer=name
    )
    dial.report.attach(error)
    return error
