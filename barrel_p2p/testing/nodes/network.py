"""What lies between simulated machines: delays, losses, cuts, and what is delivered.

A datagram arrives late, twice or never, and may be overtaken. What a connection carries
arrives once and in its order: a loss costs it time, and a cut holds it back until the
cut heals or the connection is given up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING, Any, Final, final

from xxhash import xxh3_64

from barrel_p2p.core.names import Address
from barrel_p2p.testing.nodes.disk import SimDisk
from barrel_p2p.testing.nodes.host import Host, HostClock
from barrel_p2p.testing.nodes.loop import SimLoop
from barrel_p2p.testing.overlay.faults import NO_FAULTS, Faults
from barrel_p2p.wire.frames import Frame

if TYPE_CHECKING:
    from barrel_p2p.testing.nodes.connection import SimConnection
    from barrel_p2p.testing.nodes.endpoint import SimEndpoint

__all__ = ["Lane", "Machine", "Network", "Parcel"]

_RETRY_S: Final = 0.05  # A lost packet is missed after about two round trips and this.
_RETRIES_MAX: Final = 6
_LATER_S: Final = 0.3  # A sender that had no answer tries again at most so much later.


@final
@dataclass(slots=True, eq=False)
class Machine:
    """A machine of the network, whatever runs on it.

    Args:
        index: From 0.
        address: Of its node.
        clock: Of its own.

    Attributes:
        host: The process that runs on it, or ran on it last.
        endpoint: Of that process, while it has one.
        answers: Without a process it refuses what comes; else it is silent.
        disk: What outlives the process.
    """

    index: int
    address: Address
    clock: HostClock
    host: Host
    endpoint: SimEndpoint | None = None
    answers: bool = True
    disk: SimDisk = field(default_factory=SimDisk)


@final
@dataclass(slots=True, eq=False)
class Parcel:
    """Bytes of a stream, or of a handshake, on their way to the other end.

    Args:
        take: Called there with ``args``.
        args: What arrives.
        size: Bytes.
        done: Called here once they have arrived.
    """

    take: Callable[..., object]
    args: tuple[Any, ...]
    size: int
    done: Callable[[int], object] | None = None


@dataclass(slots=True, eq=False)
class Lane:
    """One ordered way from one end of a connection to the other."""

    last_s: float = 0.0
    held: list[Parcel] = field(default_factory=list)


@final
class Network:
    """All machines, and the ways between them.

    Args:
        loop: Time.
        random: Chance.

    Attributes:
        faults: What may happen to any packet.
        deaf: Ways on which no dial gets through, and how many faults say so.
        machines: By host name or address.
        heard: Called when a machine has taken a frame: the process on it, who sent the
            frame, and the frame.
    """

    def __init__(self, loop: SimLoop, random: Random) -> None:
        self.loop = loop
        self.faults: Faults = NO_FAULTS
        self.machines: dict[str, Machine] = {}
        self.deaf: dict[tuple[int, int], int] = {}
        self.heard: Callable[[Host, str, Frame], None] | None = None
        self._random = random
        self._cuts: dict[tuple[int, int], int] = {}
        self._delays_s: dict[tuple[int, int], float] = {}
        self._open: dict[SimConnection, None] = {}
        self._hash = xxh3_64()
        self.events = 0

    # Faults.

    def cut(self, source: Machine, target: Machine) -> None:
        """Nothing from ``source`` reaches ``target``, until it is mended as often."""
        way = source.index, target.index
        self._cuts[way] = self._cuts.get(way, 0) + 1

    def mend(self, source: Machine, target: Machine) -> None:
        """Undo one ``cut``. What was held back is on its way again."""
        way = source.index, target.index
        count = self._cuts.get(way, 0) - 1
        if count > 0:
            self._cuts[way] = count
            return
        if self._cuts.pop(way, None) is None:
            return
        for connection in list(self._open):
            if connection.machine is source and connection.target is target:
                for lane in connection.lanes:
                    self._send_held(connection, lane)

    def is_cut(self, source: Machine, target: Machine) -> bool:
        """Whether nothing gets through."""
        return (source.index, target.index) in self._cuts

    # Packets.

    def at(self, host: str, port: int) -> Machine | None:
        """The machine at an address."""
        machine = self.machines.get(host)
        return machine if machine and machine.address.port == port else None

    def datagram(
        self,
        source: Machine,
        target: Machine,
        take: Callable[..., object],
        *args: Any,
    ) -> None:
        """Send something that may be lost. ``take`` runs outside any machine."""
        faults = self.faults
        if self.is_cut(source, target) or self._happens(faults.loss):
            return
        for _ in range(2 if self._happens(faults.duplicate) else 1):
            delay_s = self._delay_s(source, target)
            self.loop.after(delay_s, self._land, source, target, take, args)

    def carry(self, connection: SimConnection, lane: Lane, parcel: Parcel) -> None:
        """Send something that arrives in its order, or not at all."""
        if lane.held or self.is_cut(connection.machine, connection.target):
            lane.held.append(parcel)
        else:
            self._post(connection, lane, parcel, 0.0)

    def opened(self, connection: SimConnection) -> None:
        """An end has something to lose from now on."""
        self._open[connection] = None

    def closed(self, connection: SimConnection) -> None:
        """An end is over."""
        self._open.pop(connection, None)

    def between(self, one: Machine, other: Machine) -> list[SimConnection]:
        """The ends of connections that are open between two machines."""
        both = {one.index, other.index}
        return [c for c in self._open if {c.machine.index, c.target.index} == both]

    # The trace.

    def note(self, source: int, target: int, kind: int, content: bytes = b"") -> None:
        """Add an event to the trace: what arrived, or what came of it."""
        self.events += 1
        now_us = round(self.loop.true_s() * 1_000_000)
        self._hash.update(b"%d %d %d %d " % (now_us, source, target, kind))
        self._hash.update(content)

    def digest(self) -> str:
        """The trace so far: 16 hexadecimal digits."""
        return self._hash.hexdigest()

    # Inside.

    def _post(
        self, connection: SimConnection, lane: Lane, parcel: Parcel, more_s: float
    ) -> None:
        delay_s = self._delay_s(connection.machine, connection.target) + more_s
        retry_s = 4 * self._base_s(connection.machine, connection.target) + _RETRY_S
        for _ in range(_RETRIES_MAX):
            if not self._happens(self.faults.loss):
                break
            delay_s += retry_s
            retry_s *= 2
        now_s = self.loop.true_s()
        lane.last_s = max(lane.last_s, now_s + delay_s)
        self.loop.after(lane.last_s - now_s, self._deliver, connection, lane, parcel)

    def _deliver(self, connection: SimConnection, lane: Lane, parcel: Parcel) -> None:
        other = connection.other
        if other is None or connection.host.crashed:
            return
        if lane.held or self.is_cut(connection.machine, connection.target):
            lane.held.append(parcel)
            return
        if other.is_gone:
            connection.answer_for(other)
            return
        self.loop.arrive(other.host, other.received, parcel)
        if parcel.done is not None and not connection.is_gone:
            self.loop.arrive(connection.host, parcel.done, parcel.size)

    def _send_held(self, connection: SimConnection, lane: Lane) -> None:
        held, lane.held = lane.held, []
        more_s = self._random.random() * _LATER_S
        for parcel in held:
            self._post(connection, lane, parcel, more_s)

    def _land(
        self,
        source: Machine,
        target: Machine,
        take: Callable[..., object],
        args: tuple[Any, ...],
    ) -> None:
        if not self.is_cut(source, target):
            take(*args)

    def _base_s(self, source: Machine, target: Machine) -> float:
        pair = min(source.index, target.index), max(source.index, target.index)
        base_s = self._delays_s.get(pair)
        if base_s is None:
            # From the same rack to another continent.
            base_s = self._delays_s[pair] = 0.0001 * 500 ** self._random.random()
        return base_s

    def _delay_s(self, source: Machine, target: Machine) -> float:
        faults, draw = self.faults, self._random.random
        delay_s = self._base_s(source, target) * (1 + 0.1 * draw())
        if faults.jitter_ms:
            delay_s += draw() * faults.jitter_ms / 1_000
        if self._happens(faults.reorder):
            delay_s += draw() * faults.hold_ms / 1_000
        return delay_s

    def _happens(self, chance: float) -> bool:
        return chance > 0 and self._random.random() < chance
