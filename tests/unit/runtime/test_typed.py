"""Typed messages travel by name, and a newer or older version can read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from barrel_p2p.core.terms import Atom, Pid
from barrel_p2p.errors import Conflict, InvalidValue, NotEncodable
from barrel_p2p.runtime import addresses, typed
from barrel_p2p.runtime.proxy import proxy
from barrel_p2p.runtime.server import GenServer, start_server
from barrel_p2p.runtime.typed import MESSAGE_TAG, UnknownMessage, lift, lower, message
from barrel_p2p.runtime.verbs import call
from barrel_p2p.wire.terms import decode, encode
from tests.endpoints import within
from tests.runtime_nodes import RuntimeNode, lone_node, two_nodes


@message(name="test.chat")
class Chat:
    room: str
    text: str
    stars: int = 0


@message(name="test.envelope")
class Envelope:
    to: Pid | Atom
    parts: list[Chat] = field(default_factory=list)
    answer: Chat | Envelope | None = None


@message(name="test.point")
class Point(msgspec.Struct, frozen=True):
    x: float
    y: float = 0.0


CHAT = Chat("lobby", "hello", 2)
PID = Pid("a@h", 1, 1)


def wired(value: object) -> object:
    return lift(decode(encode(lower(value))), "b@h")


@pytest.mark.parametrize(
    "value",
    [
        CHAT,
        Envelope(PID),
        Envelope(Atom("x"), [CHAT, CHAT], CHAT),
        Envelope(PID, [], Envelope(PID, [CHAT])),
        Point(1.0, 2.0),
        [1, {"k": (CHAT, None)}, {CHAT: CHAT}, {CHAT}, frozenset({CHAT, 1})],
        UnknownMessage("test.unknown", {"a": CHAT}),
    ],
)
def test_messages_come_back_wherever_they_stand(value: object) -> None:
    assert wired(value) == value


def test_a_value_without_messages_is_itself() -> None:
    value = [1, ("a", {b"k": {1, 2}}), frozenset(), None, Atom("x"), PID]
    assert lower(value) is value
    term = decode(encode(value))
    assert lift(term, "b@h") is term


def test_unknown_fields_are_ignored_and_missing_ones_get_their_default() -> None:
    chat = (MESSAGE_TAG, "test.chat", "room", "r", "colour", 7, "text", "t")
    assert lift(chat, "b@h") == Chat("r", "t", 0)
    envelope = (MESSAGE_TAG, "test.envelope", "to", PID, "colour", 7)
    assert lift(envelope, "b@h") == Envelope(PID)


def test_a_name_nobody_knows_becomes_an_unknown_message() -> None:
    term = (MESSAGE_TAG, "test.later", "a", 1)
    assert lift(term, "b@h") == UnknownMessage("test.later", {"a": 1})


def test_names_are_unique_and_classes_are_frozen() -> None:
    with pytest.raises(Conflict, match=r"test\.chat"):

        @message(name="test.chat")
        class Other:
            room: str

    for name in ("", "x" * 129):
        with pytest.raises(InvalidValue, match="1 to 128"):
            message(name=name)(type("T", (), {}))
    with pytest.raises(InvalidValue, match="not frozen"):

        @message
        @dataclass
        class Thawed:
            x: int

    with pytest.raises(InvalidValue, match="not frozen"):

        @message
        class Soft(msgspec.Struct):
            x: int

    with pytest.raises(InvalidValue, match="init=False"):

        @message
        class Hidden:
            x: int = field(init=False)

    assert not {"Thawed", "Soft", "Hidden"} & set(typed._by_name)


def test_a_reserved_tuple_and_endless_nesting_are_not_sent() -> None:
    with pytest.raises(NotEncodable, match="reserved"):
        lower([CHAT, (MESSAGE_TAG, "x")])
    endless: list[Any] = [CHAT]
    endless.append(endless)
    with pytest.raises(NotEncodable, match="containers"):
        lower(endless)


class Room(GenServer):
    async def init(self) -> None:
        self.heard: list[object] = []

    @call
    async def say(self, chat: Chat) -> Envelope:
        return Envelope(self.pid, [chat])

    @call
    async def so_far(self) -> list[Any]:
        return list(self.heard)

    async def handle_info(self, message: Any) -> None:
        self.heard.append(message)


def typed_node(node: RuntimeNode) -> None:
    node.switch.lower = lower
    node.switch.lift = lift


@pytest.mark.every_loop
async def test_messages_travel_between_nodes_in_sends_calls_and_answers() -> None:
    async with two_nodes() as (a, b):
        typed_node(a)
        typed_node(b)
        pid = await start_server(b.processes, Room)
        room = proxy(a.switch.origin, Room, pid)
        assert await within(room.say(CHAT)) == Envelope(pid, [CHAT])
        await addresses.send(a.switch.origin, pid, {"chats": [CHAT]})
        assert await within(room.so_far()) == [{"chats": [CHAT]}]
        with pytest.raises(InvalidValue, match="argument chat"):
            await within(room.say(Point(1.0)))  # type: ignore[arg-type]


@pytest.mark.every_loop
async def test_strict_messages_copy_typed_ones_too() -> None:
    async with lone_node(strict=True) as node:
        typed_node(node)
        pid = await start_server(node.processes, Room)
        envelope = await proxy(node.switch.origin, Room, pid).say(CHAT)
        assert envelope.parts == [CHAT]
        assert envelope.parts[0] is not CHAT
        with pytest.raises(NotEncodable):
            await pid.send([CHAT, object()])


async def test_a_bad_message_is_dropped_and_a_bad_call_or_answer_fails() -> None:
    async with two_nodes() as (a, b):
        typed_node(a)
        typed_node(b)
        room = proxy(a.switch.origin, Room, await start_server(b.processes, Room))
        box = b.switch.boxes.values()[-1]
        pid = b.switch.pid(box.id)
        # What a peer with another idea of Chat would send.
        bad = (MESSAGE_TAG, "test.chat", "room", 3)
        a.switch.lower = lambda value: bad if value == CHAT else value
        await addresses.send(a.switch.origin, pid, CHAT)
        with pytest.raises(InvalidValue, match=r"test\.chat"):
            await within(addresses.call(a.switch.origin, pid, CHAT))
        assert await within(room.so_far()) == []
        assert b.switch.dropped == 1
        a.switch.lower, b.switch.lower = lower, lambda value: bad
        with pytest.raises(InvalidValue, match=r"test\.chat"):
            await within(room.say(CHAT))
        b.switch.lower = lower
        assert await within(room.say(CHAT)) == Envelope(pid, [CHAT])
