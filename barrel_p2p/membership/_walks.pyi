from typing import Final, Self, final

from barrel_p2p.core.effects import Effect
from barrel_p2p.core.names import Address
from barrel_p2p.core.rng import Rng
from barrel_p2p.membership.messages import Shuffle, ShuffleReply

RELAYS_MAX: Final[int]
WALKS_MAX: Final[int]
WALKS_WINDOW_MS: Final[int]
IGNORED: Final[int]
PASSED: Final[int]
ENDS: Final[int]

@final
class ActivePeer:
    address: Address
    window_ms: int
    walks: int
    def __new__(cls, address: Address, window_ms: int) -> Self: ...

@final
class Walks:
    def __new__(
        cls,
        me: str,
        active: dict[str, ActivePeer],
        rng: Rng,
        arwl: int,
        last_id: int,
    ) -> Self: ...
    def __len__(self) -> int: ...
    def next_id(self) -> int: ...
    def may_walk(self, peer: str, now_ms: int) -> bool: ...
    def pass_on(
        self, peer: str, message: Shuffle, now_ms: int, out: list[Effect]
    ) -> int: ...
    def hand_back(
        self, peer: str, message: ShuffleReply, out: list[Effect]
    ) -> bool: ...
