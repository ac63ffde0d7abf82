"""A member that turned: it has a key and the cookie, and writes frames by hand."""

from __future__ import annotations

import asyncio
import random
import struct
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from barrel_p2p.carrier.channel import Channel
from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.carrier.session import Bye, encode_bye, encode_session
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.core.terms import Atom, Pid
from barrel_p2p.errors import BarrelError
from barrel_p2p.node.node import Node
from barrel_p2p.wire.frames import Frame, encode
from barrel_p2p.wire.kinds import Kind
from barrel_p2p.wire.terms import encode as encode_term
from barrel_p2p.wire.terms import key_bytes
from tests.channel_nodes import ChannelNode, node, session
from tests.endpoints import eventually, within
from tests.unit.node.nodes import COOKIE

__all__ = ["CREATION", "EVIL", "FrameMaker", "Member", "fuzz", "member"]

EVIL = "evil@127.0.0.1"
CREATION = 7
_NAMED = 0x08
_CAST = 0x04
_TYPED = 0x02


class Member:
    """A node whose channel to a victim carries what the test writes.

    Attributes:
        name: Its node name.
        heard: The last frames of the victim on data streams, in order.
    """

    def __init__(self, own: ChannelNode) -> None:
        self.name = own.name
        self._own = own
        self._streams: list[Stream] = []
        self.heard: deque[Frame] = deque(maxlen=1_000)

    async def connect(self, victim: Node) -> Channel:
        """The channel to ``victim``, made anew if the last one was lost."""
        channel = self._own.channels.get(victim.name)
        if channel is None:
            self._streams.clear()
            address = victim.address
            ref = f"{victim.name}={address.host}:{address.port}"
            channel = await within(self._own.channels.connect(ref))
        return channel

    def stream(self, channel: Channel, role: int) -> Stream:
        """A new stream that announces ``role``."""
        stream = channel.connection.open_stream(uni=True)
        stream.write_nowait(bytes([role]))
        return stream

    def write(self, channel: Channel, index: int, data: bytes) -> None:
        """Write on its data stream ``index``, beside those the channel opens."""
        while len(self._streams) <= index:
            self._streams.append(self.stream(channel, StreamRole.DATA))
        self._streams[index].write_nowait(data)


@asynccontextmanager
async def member(name: str = EVIL) -> AsyncIterator[Member]:
    """One that takes whatever frames it is sent."""
    async with node(
        name,
        cookie=COOKIE,
        creation=CREATION,
        member_heartbeat_ms=2_000,
        member_ttl_ms=6_000,
    ) as own:
        made, dispatcher = Member(own), own.channels.dispatcher
        dispatcher.register(
            (Kind.PAUSE, Kind.RESUME), lambda *_: None, role=StreamRole.CONTROL
        )
        dispatcher.register(
            range(Kind.SEND, Kind.RPC + 1),
            lambda _, frame: made.heard.append(frame),
            role=StreamRole.DATA,
        )
        yield made


class FrameMaker:
    """Frames that are legal by themselves, in whatever order chance puts them.

    Args:
        rng: Chance.
        own_name: The member that sends them.
        victim_creation: The life of the victim.
        ids: Processes of the victim that may be spoken to.
        heard: What the victim sent, to be answered now and then.
    """

    def __init__(
        self,
        rng: random.Random,
        own_name: str,
        victim_creation: int,
        ids: list[int],
        heard: deque[Frame],
    ) -> None:
        self._rng = rng
        self._own_name = own_name
        self._creation = victim_creation
        self._ids = ids
        self._heard = heard

    def frame(self) -> tuple[int, int, bytes]:
        """Kind, flags and body of a data frame."""
        kind = self._rng.choice(range(Kind.SEND, Kind.DOWN + 1))
        flags, body = self._body(kind)
        return kind, flags, body

    def control(self) -> tuple[int, int, bytes]:
        """The same of a control frame."""
        rng = self._rng
        kind = rng.choice([Kind.PAUSE, Kind.RESUME] * 8 + [Kind.SESSION, Kind.BYE])
        match kind:
            case Kind.SESSION:
                return kind, 0, encode_session(session(creation=CREATION))
            case Kind.BYE:
                return kind, 0, encode_bye(Bye("shutdown", "fuzz"))
            case _:
                return kind, 0, struct.pack(">Q", rng.choice([*self._ids, self._id()]))

    def term(self, depth: int = 0) -> Any:
        """A small term."""
        rng = self._rng
        leaves = [
            None,
            True,
            rng.getrandbits(70),
            rng.random(),
            "text",
            b"bytes",
            Atom("atom"),
            Pid(self._own_name, self._id(), CREATION),
            "normal",
            "kill",
        ]
        if depth > 2 or rng.random() < 0.6:
            return rng.choice(leaves)
        inner = [self.term(depth + 1) for _ in range(rng.randrange(4))]
        return rng.choice([inner, tuple(inner), {"key": inner}])

    def _id(self) -> int:
        return self._rng.choice([0, 1, 2, 3, self._rng.getrandbits(64)])

    def _to(self) -> tuple[int, int]:
        rng = self._rng
        to = rng.choice(self._ids) if rng.random() < 0.8 else self._id()
        return to, self._creation if rng.random() < 0.9 else rng.getrandbits(32)

    def _answered(self) -> tuple[bytes, bytes] | None:
        """Both processes and the number of something the victim asked for."""
        latest = list(self._heard)[-20:]
        asked = [frame.body for frame in latest if len(frame.body) >= 32]
        if not asked or self._rng.random() < 0.5:
            return None
        body = self._rng.choice(asked)
        return body[12:24] + body[:12], body[24:32]

    def _ref(self) -> bytes:
        return struct.pack(">Q", self._rng.randrange(1, 20))

    def _body(self, kind: int) -> tuple[int, bytes]:
        rng = self._rng
        sender = struct.pack(">QI", self._id(), CREATION)
        pair, ref = self._answered() or (
            sender + struct.pack(">QI", *self._to()),
            self._ref(),
        )
        name = key_bytes(rng.choice(["echo", "nobody", ("a", 1)]))
        named = sender + struct.pack(">H", len(name)) + name
        term = encode_term(self.term())
        call = struct.pack(">QI", rng.getrandbits(16), rng.choice([0, 1, 5_000])) + term
        match kind:
            case Kind.SEND:
                return rng.choice([0, _CAST, _TYPED]), pair + term
            case Kind.SEND_NAME:
                return rng.choice([0, _CAST]), named + term
            case Kind.CALL if rng.random() < 0.5:
                return _NAMED, named + call
            case Kind.CALL:
                return 0, pair + call
            case Kind.REPLY:
                return rng.choice([0, _TYPED]), ref + term
            case Kind.ERROR:
                fault = ("noproc", "text", "", "") if rng.random() < 0.5 else "?"
                return 0, ref + encode_term(fault)
            case Kind.CANCEL:
                return 0, struct.pack(">Q", rng.getrandbits(16))
            case Kind.EXIT:
                return 0, pair + bytes([rng.randrange(2)]) + term
            case Kind.UNLINK:
                return 0, pair + rng.choice([ref, self._ref()]) + rng.choice(
                    [ref, bytes(8)]
                )
            case Kind.MONITOR if rng.random() < 0.3:
                return _NAMED, named + ref
            case Kind.DOWN:
                return 0, pair + ref + term
            case _:
                return 0, pair + ref


async def _fuzzed(
    one: Member, channel: Channel, maker: FrameMaker, rng: random.Random
) -> None:
    for _ in range(rng.randrange(1, 40)):
        if not channel.is_up:
            return
        try:
            if rng.random() < 0.1:
                channel.send_control(*_without_flags(maker.control()))
            else:
                one.write(channel, rng.randrange(4), encode(*maker.frame()))
        except BarrelError:
            return  # The victim has ended it.
        if rng.random() < 0.1:
            await asyncio.sleep(0)  # not synchronisation: what came so far is read


def _without_flags(frame: tuple[int, int, bytes]) -> tuple[int, bytes]:
    return frame[0], frame[2]


async def fuzz(
    one: Member, victim: Node, ids: list[int], rng: random.Random
) -> Channel:
    """One sequence of frames; the channel that carried it, up or not."""
    channel = await one.connect(victim)
    maker = FrameMaker(rng, one.name, victim.creation, ids, one.heard)
    await _fuzzed(one, channel, maker, rng)
    await eventually(lambda: not (channel.is_up and channel.connection.in_flight))
    return channel
