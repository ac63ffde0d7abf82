from collections import defaultdict
from collections.abc import Callable
from typing import Final, Self, final

from barrel_p2p.core.effects import Machine
from barrel_p2p.testing.overlay._schedule import Task
from barrel_p2p.testing.overlay.nodes import Codec, SimNode
from barrel_p2p.testing.overlay.schedule import Call

ROOMS_MAX: Final[int]
DOWN: Final[int]
UP: Final[int]
HELD: Final[int]

@final
class End:
    twin: End
    state: int
    last_ms: int
    slow: bool
    cut_ms: int
    kept: list[tuple[Call, object]]
    def __new__(cls, node: SimNode, peer: SimNode, latency_ms: int) -> Self: ...
    @property
    def node(self) -> SimNode: ...
    @property
    def peer(self) -> SimNode: ...
    @property
    def name(self) -> str: ...
    @property
    def latency_ms(self) -> int: ...

@final
class Receiver(Task):
    def __new__(
        cls,
        index: int,
        received: defaultdict[type, int],
        not_up: Callable[[End, Call, object], object],
    ) -> Self: ...

@final
class Room(Task):
    def __new__(
        cls,
        node: SimNode,
        machine: Machine,
        codec: Codec,
        publish: Callable[[object], object],
        deliver: Call,
        first: object = None,
    ) -> Self: ...
    @property
    def node(self) -> SimNode: ...
    @property
    def machine(self) -> Machine: ...
    @property
    def codec(self) -> Codec: ...
    @property
    def publish(self) -> Callable[[object], object]: ...
    @property
    def first(self) -> object: ...
    @property
    def current(self) -> object: ...
    @property
    def unsent(self) -> int: ...
    def feed(self, event: object) -> None: ...
    def stop(self) -> None: ...
