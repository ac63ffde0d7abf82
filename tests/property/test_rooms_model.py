"""Rooms tell machines, and do for them, what the model does, in the same order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.effects import (
    CancelTimer,
    Dial,
    Effect,
    HangUp,
    Persist,
    Publish,
    Send,
    SetTimer,
)
from barrel_p2p.core.inputs import TimerFired
from barrel_p2p.errors import InvalidValue
from barrel_p2p.testing.overlay.rooms import (
    DOWN,
    HELD,
    ROOMS_MAX,
    UP,
    End,
    Receiver,
    Room,
)
from barrel_p2p.testing.overlay.schedule import Schedule
from tests.models.rooms import EndModel, ReceiverModel, RoomModel
from tests.models.schedule import ScheduleModel

NAMES = ["a", "b", "c", "nobody"]
PEERS = st.sampled_from(NAMES)
KEYS = st.sampled_from(["x", "y", ("pending", 1)])
EFFECTS = st.one_of(
    st.builds(Send, PEERS, st.integers(0, 9)),
    st.builds(Send, PEERS, st.text(max_size=1)),
    st.builds(SetTimer, KEYS, st.integers(-1, 9)),
    st.builds(CancelTimer, KEYS),
    st.builds(Publish, st.sampled_from(["back", "on", 3])),
    st.builds(Dial, PEERS, st.none(), st.integers(0, 3)),
    st.builds(HangUp, PEERS, st.just("because")),
    st.builds(Persist, st.sampled_from(["p", "q"]), st.integers()),
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), st.integers(0, 2), st.integers(0, 1)),
        st.tuples(
            st.just("state"), st.integers(0, 2), st.sampled_from([DOWN, UP, HELD])
        ),
        st.tuples(
            st.sampled_from(["slow", "pause", "resume", "stop", "die"]),
            st.integers(0, 2),
            st.just(0),
        ),
        st.tuples(st.just("run"), st.integers(0, 12), st.just(0)),
    ),
    max_size=40,
)


class Kit(NamedTuple):
    schedule: Callable[[], Any]
    end: Callable[..., Any]
    receiver: Callable[..., Any]
    room: Callable[..., Any]


COMPILED = Kit(Schedule, End, Receiver, Room)
MODEL = Kit(ScheduleModel, EndModel, ReceiverModel, RoomModel)


class Scripted:
    """Answers each input with the next effects of a script, and notes it."""

    def __init__(
        self, name: str, told: list[object], script: list[list[Effect]]
    ) -> None:
        self._name = name
        self._told = told
        self._script = script

    def handle(self, event: object, *, now_ms: int) -> list[Effect]:
        self._told.append((self._name, now_ms, event))
        return self._script.pop(0) if self._script else []


class Node:
    """What a room needs of a node; it notes what it is asked for."""

    def __init__(self, net: Net, index: int) -> None:
        self.world = net
        self.index = index
        self.name = NAMES[index]
        self.origin_ms = 1000 * index
        self.ends: dict[str, Any] = {}
        self.rooms: tuple[Any, ...] = ()
        self.made: tuple[Any, ...] = ()  # also after it has died
        self.disk: dict[str, object] = {}
        self.deferred: list[tuple[Any, object, object]] = []
        self.is_paused = False

    def dial(self, room: Any, order: Dial) -> None:
        self.world.told.append((self.name, self.made.index(room), order))

    def resume(self) -> None:
        self.is_paused = False
        deferred, self.deferred = self.deferred, []
        for call, a, b in deferred:
            call(a, b)


class Net:
    """Three nodes with two rooms each, and its own links."""

    def __init__(
        self, kit: Kit, script: list[list[Effect]], *, is_traced: bool
    ) -> None:
        self.told: list[object] = []
        self.schedule = kit.schedule()
        self.links = self
        self.trace = self if is_traced else None
        self.received: dict[type, int] = defaultdict(int)
        self.deliver = [kit.receiver(i, self.received, self.not_up) for i in (0, 1)]
        self.nodes = [Node(self, index) for index in range(3)]
        script = list(script)
        for node in self.nodes:
            node.rooms = node.made = tuple(
                kit.room(
                    node,
                    Scripted(f"{node.name}{i}", self.told, script),
                    None,
                    self.publisher(node, i),
                    self.deliver[i],
                )
                for i in (0, 1)
            )
        for one in self.nodes:
            for other in self.nodes[: one.index]:
                ours, theirs = kit.end(one, other, 3), kit.end(other, one, 3)
                ours.twin, theirs.twin = theirs, ours
                one.ends[other.name], other.ends[one.name] = ours, theirs

    def publisher(self, node: Node, index: int) -> Callable[[object], None]:
        def publish(event: object) -> None:
            self.told.append((node.name, index, "published", event))
            if event == "back":
                node.made[index].feed("fed back")
            elif event == "on":
                node.made[1 - index].feed("fed on")

        return publish

    def transmit(self, end: Any, deliver: Any, message: object) -> None:
        self.told.append(("slow", end.node.name, end.name, message))
        self.schedule.at(self.schedule.now_ms + 7, deliver, end.twin, message)

    def close(self, end: Any, reason: str) -> None:
        self.told.append(("close", end.node.name, end.name, reason))

    def not_up(self, end: Any, deliver: Any, message: object) -> None:
        index = self.deliver.index(deliver)
        self.told.append(("not up", end.node.name, end.name, index, message))
        if end.state == HELD:
            end.node.deferred.append((deliver, end, message))

    def add(self, *event: int) -> None:
        self.told.append(("traced", *event))

    def do(self, what: str, index: int, value: int) -> None:
        if what == "run":
            self.told.append(self.schedule.run_until(self.schedule.now_ms + index))
            return
        node = self.nodes[index]
        ends, rooms = list(node.ends.values()), node.rooms
        match what:
            case "feed":
                for room in rooms[value : value + 1]:
                    room.feed(f"fed {value}")
            case "state":
                for end in ends:
                    end.state = value
            case "slow":
                for end in ends:
                    end.slow = not end.slow
            case "pause":
                node.is_paused = True
            case "resume":
                node.resume()
            case _:
                for room in rooms:
                    room.stop()
                node.rooms = () if what == "die" else rooms

    def end_up(self) -> list[object]:
        self.told.append(self.schedule.run_until(self.schedule.now_ms + 200))
        self.told.append(dict(self.received))
        for node in self.nodes:
            self.told.append((node.disk, len(node.deferred)))
            self.told += [(room.unsent, room.current) for room in node.made]
            self.told += [(end.last_ms, end.state) for end in node.ends.values()]
        return self.told


def played(
    kit: Kit,
    steps: list[tuple[str, int, int]],
    script: list[list[Effect]],
    is_traced: bool,
) -> list[object]:
    net = Net(kit, script, is_traced=is_traced)
    for step in steps:
        net.do(*step)
    return net.end_up()


@given(STEPS, st.lists(st.lists(EFFECTS, max_size=4), max_size=60), st.booleans())
def test_rooms_agree_with_the_model(
    steps: list[tuple[str, int, int]], script: list[list[Effect]], is_traced: bool
) -> None:
    first = played(COMPILED, steps, script, is_traced)
    assert first == played(MODEL, steps, script, is_traced)


@pytest.mark.parametrize("kit", [COMPILED, MODEL])
def test_a_timer_that_is_set_again_fires_once_and_later(kit: Kit) -> None:
    net = Net(kit, [[SetTimer("x", 3)], [SetTimer("x", 9)]], is_traced=False)
    room = net.nodes[0].rooms[0]
    room.feed("set")
    room.feed("set again")
    net.schedule.run_until(20)
    assert net.told[2:] == [("a0", 9, TimerFired("x"))]


def test_what_is_no_effect_is_refused_by_name() -> None:
    net = Net(COMPILED, [["nonsense"]], is_traced=False)  # type: ignore[list-item]
    with pytest.raises(TypeError, match="not an effect: 'nonsense'"):
        net.nodes[0].rooms[0].feed("begin")


def test_a_message_for_a_room_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidValue, match="room 2: a node has up to ROOMS_MAX=2"):
        Receiver(ROOMS_MAX, defaultdict(int), print)
    net = Net(COMPILED, [], is_traced=False)
    first, second = net.nodes[:2]
    first.rooms = first.rooms[:1]
    end = End(first, second, 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a has no room for 7"):
        net.deliver[1](end, 7)
