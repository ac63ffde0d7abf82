"""The accepting side: strangers, how many at once, and how long.

A stranger costs us memory before it has proved anything, so there are two caps: of
those that come from one host, and of all. One too many is turned away at once with
``CODE_BUSY``, and dials again a little later if it is honest.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from barrel_p2p.carrier.admission import Admission
from barrel_p2p.carrier.connection import CODE_BUSY
from barrel_p2p.errors import BarrelError, ConfigError, NotConnected

if TYPE_CHECKING:
    from barrel_p2p.auth.machine import PeerIdentity
    from barrel_p2p.carrier.admission import Gate
    from barrel_p2p.carrier.channel import Channel
    from barrel_p2p.carrier.connection import Connection

__all__ = [
    "ADMITTING_MAX",
    "ADMITTING_PER_HOST_MAX",
    "AdmissionLimits",
    "Reception",
]

ADMITTING_MAX: Final = 512
"""Accepted connections that are not admitted yet, of the whole world."""

ADMITTING_PER_HOST_MAX: Final = 64
"""The same from one IP address. A whole cluster may start on one host."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """How many strangers a node deals with at once.

    Args:
        admitting_max: In all, 1 or more.
        admitting_per_host_max: From one IP address, 1 or more.

    Raises:
        ConfigError: A value is below 1.
    """

    admitting_max: int = ADMITTING_MAX
    admitting_per_host_max: int = ADMITTING_PER_HOST_MAX

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if value < 1:
                raise ConfigError(f"{name}={value} is below 1")


class Reception:
    """Takes accepted connections to the point where their channel is up.

    Args:
        gate: For the handshake.
        make_channel: Called with a connection on which both sides have said OK.
        complain: Told what strangers and peers did wrong.
        limits: How many at once.
        handshake_timeout_ms: From TLS to the peer's SESSION.

    Attributes:
        turned_away: Connections beyond the limits.
        refused: Handshakes that failed.
    """

    def __init__(
        self,
        gate: Gate,
        make_channel: Callable[[Connection, PeerIdentity], Channel],
        complain: Callable[[str, object], None],
        *,
        limits: AdmissionLimits,
        handshake_timeout_ms: int,
    ) -> None:
        self._gate = gate
        self._make_channel = make_channel
        self._complain = complain
        self._limits = limits
        self._timeout_s = handshake_timeout_ms / 1_000
        self._hosts: Counter[str] = Counter()
        self._tasks: dict[asyncio.Task[None], Admission[Channel]] = {}
        self._closed = False
        self.turned_away = 0
        self.refused = 0

    @property
    def admitting(self) -> int:
        """Accepted connections that are not admitted yet."""
        return self._hosts.total()

    def accept(self, connection: Connection) -> None:
        """Deal with a connection that a peer opened, inside that callback."""
        try:
            host, port = connection.remote
        except NotConnected:
            return
        connection.peer = f"{host} port {port}"
        limits = self._limits
        if (
            self._closed
            or self._hosts[host] >= limits.admitting_per_host_max
            or self.admitting >= limits.admitting_max
        ):
            self.turned_away += 1
            connection.close(CODE_BUSY, "too many connections wait for admission")
            return
        deadline_s = asyncio.get_running_loop().time() + self._timeout_s
        try:
            admission = Admission(
                connection,
                self._gate,
                deadline_s=deadline_s,
                reference=None,
                admitted=lambda peer: self._make_channel(connection, peer),
            )
        except BarrelError as error:
            self._refuse(host, error)
            connection.close(CODE_BUSY, "cannot be admitted now")
            return
        slot = _Slot(self._hosts, host)
        # A refused stranger keeps its slot while it may read why.
        connection.call_when_closed(slot.free)
        task = asyncio.get_running_loop().create_task(
            self._admit(admission, connection, deadline_s, slot), name=f"admit {host}"
        )
        self._tasks[task] = admission
        task.add_done_callback(self._tasks.pop)

    def coming(self, name: str) -> asyncio.Future[None] | None:
        """Done when a dial of ``name``, which was told OK, is up or has failed.

        None if there is no such dial. Whoever then dials it too would have both come
        up, and the second would take the place of the first.
        """
        for task, admission in self._tasks.items():
            if admission.promised == name:
                return task
        return None

    async def close(self) -> None:
        """Send everyone away who is not admitted yet."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _admit(
        self,
        admission: Admission[Channel],
        connection: Connection,
        deadline_s: float,
        slot: _Slot,
    ) -> None:
        who, _ = connection.remote  # A host has many ports to fill the log from.
        try:
            channel = await admission.run()
            async with asyncio.timeout_at(deadline_s):
                await channel.wait_up()
            slot.free()
        except TimeoutError as error:
            self._refuse(who, error if str(error) else "no SESSION in time")
            if not isinstance(error, BarrelError):
                connection.close(0, "no SESSION in time")
        except asyncio.CancelledError:
            connection.close(CODE_BUSY, "the node is shutting down")
            raise
        except BarrelError as error:
            if admission.refusal is None or admission.refusal.code != "duplicate":
                self._refuse(who, error)

    def _refuse(self, who: str, what: object) -> None:
        self.refused += 1
        self._complain(who, f"not admitted: {what}")


class _Slot:
    """One place in the counts, freed once."""

    def __init__(self, hosts: Counter[str], host: str) -> None:
        self._hosts = hosts
        self._host: str | None = host
        hosts[host] += 1

    def free(self) -> None:
        host, self._host = self._host, None
        if host is None:
            return
        self._hosts[host] -= 1
        if self._hosts[host] <= 0:
            del self._hosts[host]  # Hosts come and go; their counts must not stay.
