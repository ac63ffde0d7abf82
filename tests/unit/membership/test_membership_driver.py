"""Views on real channels: join, leave, eviction, contacts, and what is kept on disk."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.core.names import Address
from barrel_p2p.core.peers import Joined, Left, PeerDown, PeerUp
from barrel_p2p.errors import (
    CallTimeout,
    Conflict,
    CookieMismatch,
    InvalidValue,
    KeyMismatch,
    PeerUnreachable,
    StorageError,
)
from barrel_p2p.membership.messages import Join as JoinMessage
from barrel_p2p.membership.messages import encode
from barrel_p2p.membership.peer_file import load_peers, save_peers
from barrel_p2p.membership.settings import Settings
from barrel_p2p.wire.kinds import Kind
from tests.channel_nodes import node
from tests.endpoints import eventually, within
from tests.membership_nodes import ViewNode, view_node

HURRIED = Settings(shuffle_period=300, contact_retry_ms=200, base_backoff_ms=50)


async def cluster(
    stack: AsyncExitStack, count: int, settings: Settings
) -> list[ViewNode]:
    nodes = [await stack.enter_async_context(view_node("n0@h", settings=settings))]
    for i in range(1, count):
        one = view_node(f"n{i}@h", contacts=(nodes[0].ref,), settings=settings)
        nodes.append(await stack.enter_async_context(one))
    return nodes


def one_way(nodes: list[ViewNode]) -> list[tuple[str, str]]:
    views = {one.name: one.views.active_view() for one in nodes}
    return [(a, b) for a, peers in views.items() for b in peers if a not in views[b]]


async def test_join_returns_when_both_are_peers() -> None:
    async with view_node("a@h") as a, view_node("b@h") as b:
        await within(b.views.join(a.ref))
        assert b.views.active_view() == ["a@h"]
        assert b.events == [PeerUp("a@h"), Joined()]
        assert a.events == [PeerUp("b@h"), Joined()]
        await within(b.views.join(a.ref))
        assert b.events == [PeerUp("a@h"), Joined()]


async def test_a_failed_join_says_what_connect_says() -> None:
    async with (
        view_node("a@h") as a,
        view_node("b@h", cookie="another cookie") as b,
        node("c@h") as bare,
    ):
        with pytest.raises(CookieMismatch):
            await within(b.views.join(a.ref))
        with pytest.raises(Conflict, match="this node itself"):
            await a.views.join(a.ref)
        with pytest.raises(InvalidValue):
            await a.views.join("no name")
        with pytest.raises(PeerUnreachable):
            await within(a.views.join("x@h=127.0.0.1:1", timeout=1.0))
        with pytest.raises(KeyMismatch):
            await within(a.views.join(f"{bare.ref}#SHA256:{'A' * 43}"))
        assert a.views.active_view() == b.views.active_view() == []


async def test_a_node_that_takes_nobody_in_fails_the_join_and_not_in_silence() -> None:
    async with view_node("a@h") as a, view_node("b@h") as b:
        a.views.block_peers(["c@h"])
        async with view_node("c@h") as c:
            with pytest.raises(PeerUnreachable, match="refused"):
                await within(c.views.join(a.ref))
            with pytest.raises(Conflict, match="blocked"):
                await a.views.join(c.ref)
        await a.views.leave()
        with pytest.raises(PeerUnreachable, match="left"):
            await within(b.views.join(a.ref))


async def test_a_join_that_nobody_answers_times_out() -> None:
    async with view_node("a@h") as a, node("b@h") as bare:
        bare.channels.dispatcher.register(
            range(32, 39), bare.heard, role=StreamRole.CONTROL
        )
        with pytest.raises(CallTimeout, match="b@h"):
            await within(a.views.join(bare.ref, timeout=0.2))


async def test_who_is_told_to_leave_while_it_joins_stays_out() -> None:
    """Whether it is still dialling, or waits for an answer."""
    async with view_node("a@h") as a, node("b@h") as bare:
        bare.channels.dispatcher.register(
            range(32, 39), bare.heard, role=StreamRole.CONTROL
        )
        dialling = asyncio.ensure_future(a.views.join(bare.ref))
        await asyncio.sleep(0)
        await a.views.leave()
        with pytest.raises(Conflict, match="told to leave"):
            await within(dialling)
        assert bare.frames == []
        waiting = asyncio.ensure_future(a.views.join(bare.ref))
        await eventually(lambda: bool(bare.frames))
        await a.views.leave()
        with pytest.raises(Conflict, match="told to leave"):
            await within(waiting)
        assert a.views.active_view() == []


async def test_a_join_begins_once_it_has_a_channel_and_asks_only_then() -> None:
    """Not while it dials, and not if the node was told to leave meanwhile."""
    async with view_node("a@h") as a, node("b@h") as bare:
        bare.channels.dispatcher.register(
            range(32, 39), bare.heard, role=StreamRole.CONTROL
        )
        begun: list[str] = []

        def begin(name: str) -> asyncio.Future[None]:
            def reached() -> None:
                assert a.channels.channels.get("b@h") is not None
                assert a.views._machine.has_left
                begun.append(name)

            join = a.views.join(bare.ref, timeout=1, reached=reached)
            return asyncio.ensure_future(join)

        await a.views.leave()
        first = begin("first")
        await asyncio.sleep(0)
        await a.views.leave()
        second = begin("second")
        await asyncio.sleep(0)
        assert begun == []
        with pytest.raises(Conflict, match="told to leave"):
            await within(first)
        await eventually(lambda: bool(bare.frames))
        assert begun == ["second"]
        with pytest.raises(CallTimeout):
            await within(second)


async def test_leave_is_told_to_all_and_sticks_until_the_next_join() -> None:
    async with AsyncExitStack() as stack:
        nodes = await cluster(stack, 4, HURRIED)
        await eventually(lambda: all(len(n.views.active_view()) == 3 for n in nodes))
        gone = nodes[3]
        await gone.views.leave()
        assert gone.views.active_view() == gone.views.passive_view() == []
        assert gone.events[-1] == Left()
        downs = [e.reason for e in gone.events if isinstance(e, PeerDown)]
        assert downs == ["left"] * 3
        rest = nodes[:3]
        await eventually(lambda: all(len(n.views.active_view()) == 2 for n in rest))
        shuffles = rest[0].views.counters.shuffles
        await eventually(lambda: rest[0].views.counters.shuffles > shuffles + 3)
        assert all(len(n.views.active_view()) == 2 for n in rest)
        assert all(PeerDown("n3@h", "left") in n.events for n in rest)
        await within(gone.views.join(rest[1].ref))
        await eventually(lambda: len(gone.views.active_view()) == 3)
        await eventually(lambda: one_way(nodes) == [])


async def test_a_full_view_evicts_and_both_sides_are_told() -> None:
    async with AsyncExitStack() as stack:
        small = Settings(active_size=2, shuffle_period=300, contact_retry_ms=200)
        nodes = await cluster(stack, 6, small)
        await eventually(lambda: all(len(n.views.active_view()) == 2 for n in nodes))
        await eventually(lambda: one_way(nodes) == [])
        for one in nodes:
            peers: list[str] = []
            for event in one.events:
                if isinstance(event, PeerUp):
                    assert event.node not in peers
                    peers.append(event.node)
                    assert len(peers) <= 2
                elif isinstance(event, PeerDown):
                    peers.remove(event.node)
        reasons = {
            e.reason for one in nodes for e in one.events if isinstance(e, PeerDown)
        }
        assert {"dropped", "disconnected"} <= reasons


async def test_a_peer_that_stops_in_good_order_counts_as_left() -> None:
    async with view_node("a@h") as a:
        async with view_node("b@h") as b:
            await within(b.views.join(a.ref))
        await eventually(lambda: a.views.active_view() == [])
        assert a.events[-1] == PeerDown("b@h", "left")
        assert a.views.passive_view() == []


async def test_contacts_are_tried_for_ever(tmp_path: Path) -> None:
    """BOO-03."""
    async with AsyncExitStack() as stack:
        async with node("a@h") as early:
            port = early.endpoint.address[1]
        ref = f"a@h=127.0.0.1:{port}"
        b = await stack.enter_async_context(
            view_node("b@h", contacts=(ref,), settings=HURRIED)
        )
        await eventually(lambda: b.views.counters.failures >= 2)
        assert b.views.active_view() == []
        await stack.enter_async_context(view_node("a@h", port=port))
        await eventually(lambda: b.views.active_view() == ["a@h"])


async def test_peers_are_remembered_over_a_restart(tmp_path: Path) -> None:
    store = tmp_path / "peers.json"
    async with view_node("a@h", settings=HURRIED) as a:
        async with view_node("b@h", store=store, directory=tmp_path) as b:
            await within(b.views.join(a.ref))
        assert store.stat().st_mode & 0o777 == 0o600
        kept = json.loads(store.read_text())
        assert [peer["name"] for peer in kept["peers"]] == ["a@h"]
        again = view_node("b@h", store=store, directory=tmp_path, settings=HURRIED)
        async with again as b:
            await eventually(lambda: b.views.active_view() == ["a@h"])
            await b.views.leave()
        assert load_peers(store) == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        '{"format":2,"peers":[]}',
        '{"format":1,"peers":[{"name":"A@h","host":"h","port":1}]}',
        '{"format":1,"peers":[{"name":"a@h","host":"h","port":0}]}',
        '{"format":1,"peers":[{"name":"a@h","host":"fe80::1%1","port":1}]}',
        '{"format":1,"peers":[{"name":"a@h","host":"h","port":1,"x":1}]}',
        '{"format":1,"peers":['
        + '{"name":"a@h","host":"h","port":1},' * 256
        + '{"name":"a@h","host":"h","port":1}]}',
    ],
)
async def test_a_file_that_holds_something_else_is_refused_and_does_no_harm(
    tmp_path: Path, text: str
) -> None:
    store = tmp_path / "peers.json"
    save_peers(store, [Address("a@h", "127.0.0.1", 1)])
    store.write_text(text)
    with pytest.raises(StorageError, match=r"peers\.json"):
        load_peers(store)
    async with view_node("b@h", store=store) as b:
        assert b.views.active_view() == []


async def test_a_message_counts_as_that_of_the_name_its_channel_proved() -> None:
    """HPW-03: and one that is none ends the channel."""
    async with view_node("a@h") as a, node("b@h") as bare:
        bare.channels.dispatcher.register(
            range(32, 39), bare.heard, role=StreamRole.CONTROL
        )
        channel = await within(bare.channels.connect(a.ref))
        channel.send_control(*encode(JoinMessage(5, soft=False, place=("", 0))))
        await eventually(lambda: a.views.active_view() == ["b@h"])
        assert channel.is_up
        channel.send_control(Kind.JOIN, b"?")
        await eventually(lambda: a.events[-1] == PeerDown("b@h", "protocol_error"))


async def test_a_channel_alone_makes_no_peer() -> None:
    """HPV-01: nodes dial each other on demand, whatever the views are."""
    async with view_node("a@h") as a, view_node("b@h") as b:
        await within(b.channels.channels.connect(a.ref))
        await eventually(lambda: a.channels.channels.get("b@h") is not None)
        assert a.views.active_view() == b.views.active_view() == []
        assert a.events == b.events == []


async def test_blocked_peers_stay_out_and_their_channels_stay_up() -> None:
    async with AsyncExitStack() as stack:
        a, b = await cluster(stack, 2, HURRIED)
        await eventually(lambda: b.views.active_view() == ["n0@h"])
        a.views.block_peers(["n1@h"])
        assert a.events[-1] == PeerDown("n1@h", "blocked")
        await eventually(lambda: b.views.active_view() == [])
        assert a.channels.channels.get("n1@h") is not None
        a.views.unblock_peers()
        await eventually(lambda: a.views.active_view() == ["n1@h"])


async def test_a_listener_that_fails_or_is_gone_takes_nothing_from_the_others() -> None:
    async with view_node("a@h") as a, view_node("b@h") as b:
        heard: list[object] = []

        def fail(event: object) -> None:
            raise RuntimeError("a bug of the application")

        forget = b.views.listen(fail)
        b.views.listen(heard.append)
        await within(b.views.join(a.ref))
        assert heard == [PeerUp("a@h"), Joined()]
        forget()
        forget()
        await b.views.leave()
        assert heard[-1] == Left()
