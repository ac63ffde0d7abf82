"""Real handshakes without a network: two machines, two stores, one made-up connection.

Every message goes through its codec, every pin to the disk. What stands for TLS is a
``Link``: the two values that both ends of one connection see and no other two do.
"""

from __future__ import annotations

import hashlib
import secrets
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

from barrel_p2p.auth import messages
from barrel_p2p.auth.cookie import cookie_key
from barrel_p2p.auth.machine import (
    Admitted,
    AskWanted,
    Event,
    Handshake,
    LocalNode,
    Malformed,
    Mode,
    PinFailed,
    PinStored,
    Received,
    Refused,
    Role,
    SendMessage,
    Started,
    StorePin,
    Wanted,
)
from barrel_p2p.auth.messages import Fail, Message
from barrel_p2p.auth.signing import KeyPair
from barrel_p2p.auth.trust import TrustStore
from barrel_p2p.core.names import NodeReference
from barrel_p2p.errors import BarrelError, WireError

__all__ = ["COOKIE", "WALL_MS", "Link", "Party", "Side", "key_pair", "talk"]

COOKIE = cookie_key("correct horse battery staple")
WALL_MS = 1_800_000_000_000
_WINDOW_MS = 30_000


def key_pair() -> KeyPair:
    """A new identity."""
    return KeyPair(secrets.token_bytes(32))


@dataclass(frozen=True, slots=True)
class Link:
    """What one TLS connection lends to the handshake on it."""

    certificate_hash: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    exporter: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    @classmethod
    def with_certificate(cls, certificate: bytes) -> Link:
        """A new connection to an acceptor that shows ``certificate``."""
        return cls(hashlib.sha256(certificate).digest(), secrets.token_bytes(32))


class _Clock:
    """A wall clock that stands where its owner puts it."""

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms

    def wall_ms(self) -> int:
        return self.at_ms


class Party:
    """One honest node, with its directory."""

    def __init__(
        self,
        directory: Path,
        name: str,
        *,
        mode: str = "tofu",
        cookie: bytes = COOKIE,
        auth_mode: Mode = Mode.IDENTITY,
        versions: tuple[int, int] = (1, 1),
        wall_ms: int = WALL_MS,
    ) -> None:
        self.name = name
        self.keys = key_pair()
        self.cookie = cookie
        self.auth_mode = auth_mode
        self.versions = versions
        self.clock = _Clock(wall_ms)
        self.now_ms = secrets.randbelow(10**9)  # No two nodes share this clock.
        self.trust_directory = directory / name
        self.trust = TrustStore(self.trust_directory, mode=mode, clock=self.clock)

    def local(self) -> LocalNode:
        """What its handshakes know of it, as it stands now."""
        return LocalNode(
            name=self.name,
            key_pair=self.keys,
            cookie_key=self.cookie,
            protocol_min=self.versions[0],
            protocol_max=self.versions[1],
            timestamp_window_ms=_WINDOW_MS,
            mode_of=lambda _: self.auth_mode,
        )

    def knows(self, *others: Party) -> None:
        """Pin the keys of ``others``, as an operator does."""
        for other in others:
            self.trust.store_key(other.name, other.keys.public_key)

    def dial(self, link: Link, reference: str) -> Side:
        """Begin a handshake with whom ``reference`` names."""
        return Side(self, Role.DIALLER, link, NodeReference.parse(reference))

    def accept(self, link: Link) -> Side:
        """Begin a handshake with whoever dialled."""
        return Side(self, Role.ACCEPTOR, link, None)


class Side:
    """One machine, and a driver that does at once what it wants done."""

    def __init__(
        self, party: Party, role: Role, link: Link, reference: NodeReference | None
    ) -> None:
        self.party = party
        self.sent: list[Message] = []
        self.outbox: deque[Message] = deque()
        self.result: Admitted | Refused | None = None
        self.asked: AskWanted | None = None
        self.answer: Event | None = Wanted()
        self.pinned: Callable[[str], object] = lambda name: None
        self.machine = Handshake(
            role,
            party.local(),
            party.trust,
            reference=reference,
            certificate_hash=link.certificate_hash,
            exporter=link.exporter,
            nonce=secrets.token_bytes(32),
        )
        self.feed(Started())

    @property
    def admitted(self) -> bool:
        """Whether it took the peer in."""
        return isinstance(self.result, Admitted)

    @property
    def code(self) -> str | None:
        """Why it refused, or None."""
        return self.result.code if isinstance(self.result, Refused) else None

    def feed(self, event: Event) -> None:
        """Run one event to its end."""
        wall_ms = self.party.clock.at_ms
        for effect in self.machine.handle(
            event, now_ms=self.party.now_ms, wall_ms=wall_ms
        ):
            match effect:
                case SendMessage(message):
                    self.sent.append(message)
                    self.outbox.append(message)
                case StorePin(name, key):
                    self.feed(self._pin(name, key))
                case AskWanted():
                    self.asked = effect
                    if self.answer is not None:
                        self.feed(self.answer)
                case Admitted() | Refused():
                    assert self.result is None, "a handshake ends once"
                    self.result = effect
                case _:
                    assert_never(effect)

    def receive(self, message: Message) -> None:
        """Take ``message`` as it comes off the wire."""
        self.receive_bytes(*messages.encode(message))

    def receive_bytes(self, kind: int, body: bytes) -> None:
        """Take a frame, whatever is in it."""
        try:
            event: Event = Received(messages.decode(kind, body))
        except WireError as error:
            event = Malformed(error)
        self.feed(event)

    def take(self) -> Message:
        """The oldest message that it sent and nobody took."""
        return self.outbox.popleft()

    def told(self) -> str | None:
        """The code of the FAIL that it sent last, or None."""
        fails = [message for message in self.sent if isinstance(message, Fail)]
        return fails[-1].code if fails else None

    def _pin(self, name: str, key: bytes) -> Event:
        try:
            self.party.trust.pin(name, key)
        except BarrelError as error:
            return PinFailed(error)
        self.pinned(name)
        return PinStored()


def talk(one: Side, other: Side) -> None:
    """Carry messages to and fro until neither has any."""
    while one.outbox or other.outbox:
        for sender, receiver in ((one, other), (other, one)):
            while sender.outbox:
                receiver.receive(sender.take())
