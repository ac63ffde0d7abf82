"""A registry over real processes, real channels and real gossip."""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from barrel_p2p.core.events import Down
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import (
    AlreadyRegistered,
    InvalidValue,
    NoProc,
    NotStarted,
    ServiceNotFound,
)
from barrel_p2p.runtime.event_stream import Lagged
from barrel_p2p.runtime.process import Process
from barrel_p2p.services.service_events import (
    ServiceDown,
    ServiceRegistered,
    ServiceUnregistered,
)
from tests.channel_nodes import connected
from tests.endpoints import eventually, within
from tests.service_nodes import idle, service_node, service_nodes


async def test_a_service_is_found_where_it_is_registered() -> None:
    """REG-01, REG-04, REG-05, REG-06, REG-07, REG-09."""
    async with service_node("a@h") as a:
        pid = await a.serve("cart", role="x")
        await a.serve("user")
        assert a.registry.lookup_local("cart") == pid
        assert [e.meta for e in a.registry.lookup("cart")] == [{"role": "x"}]
        assert a.registry.list_services() == ["cart", "user"]
        assert await a.registry.whereis_service("cart") == pid
        await a.registry.unregister_service("cart")
        assert a.registry.lookup("cart") == []
        with pytest.raises(ServiceNotFound) as caught:
            a.registry.lookup_local("cart")
        assert caught.value.code == "not_found"
        assert a.registry.list_services() == ["user"]


async def test_a_second_process_is_refused_and_a_dead_one_is_no_obstacle() -> None:
    """REG-03, FAI-14, FAI-17."""
    async with service_node("a@h") as a:
        first = a.spawn()
        await a.registry.register_service("cart", first.pid)
        with pytest.raises(AlreadyRegistered):
            await a.serve("cart")
        a.processes.kill(first)
        second = await a.serve("cart")  # Nothing was awaited in between.
        assert a.registry.lookup_local("cart") == second
        assert ServiceDown("cart", "a@h", "killed") in a.events
        with pytest.raises(NoProc):
            await a.registry.register_service("user", first.pid)
        with pytest.raises(InvalidValue):
            await a.registry.register_service("user", "no pid")  # type: ignore[arg-type]


async def test_what_ends_right_after_registering_leaves_nothing() -> None:
    """FAI-14: neither here nor there, and everybody knows the reason."""

    async def crashes(me: Process) -> None:
        raise ValueError("at once")

    async with service_nodes(2) as (a, b):
        await a.registry.register_service("cart", a.spawn(crashes).pid)
        down = ServiceDown("cart", "n0@h", ("error", "ValueError", "at once"))
        await eventually(lambda: down in a.events)
        # Both writes may arrive as one, and then it never was there.
        b_knows = ServiceRegistered("cart", "n0@h")
        await a.serve("after")
        await eventually(lambda: ServiceRegistered("after", "n0@h") in b.events)
        assert (b_knows in b.events) == (down in b.events)
        assert b.registry.list_services() == ["after"]


async def test_the_end_of_an_earlier_watch_is_no_end_of_a_later_one() -> None:
    async with service_node("a@h") as a:
        pid = await a.serve("cart")
        earlier = a.registry._refs[pid]
        await a.registry.unregister_service("cart")
        await a.registry.register_service("cart", pid)
        a.registry._ended([Down(earlier, pid, "noconnection")])
        assert a.registry.lookup_local("cart") == pid


async def test_ten_quick_generations_of_a_holder_end_clean() -> None:
    """FAI-15."""
    async with service_node("a@h") as a:
        for _ in range(10):
            holder = a.spawn()
            await a.registry.register_service("cart", holder.pid)
            a.processes.kill(holder)
        await eventually(lambda: a.registry.list_services() == [])
        assert sum(type(e) is ServiceDown for e in a.events) == 10


async def test_random_work_leaves_a_registry_that_works() -> None:
    """FAI-18."""
    async with service_node("a@h") as a:
        chance = random.Random(1)
        pid = a.spawn().pid

        async def worker() -> None:
            for _ in range(50):
                name = f"s{chance.randrange(5)}"
                if chance.random() < 0.5:
                    await a.registry.register_service(name, pid, {"n": 1})
                else:
                    await a.registry.unregister_service(name)
                for entry in a.registry.lookup(name):
                    assert entry.pid == pid
                await asyncio.sleep(0)

        await asyncio.gather(*(worker() for _ in range(8)))
        for name in list(a.registry.list_services()):
            await a.registry.unregister_service(name)
        assert a.registry.list_services() == []
        assert a.registry._refs == {}
        last = await a.serve("s1")
        assert a.registry.lookup_local("s1") == last


async def test_one_registration_is_one_event_and_one_entry() -> None:
    """E8: what gossip brings back to its writer changes nothing."""
    async with service_nodes(2) as (a, b):
        pid = await a.serve("cart")
        await eventually(lambda: len(b.events) == 1)
        assert [entry.pid for entry in a.registry.lookup("cart")] == [pid]
        await a.registry.unregister_service("cart")
        assert a.registry.lookup("cart") == []
        await eventually(lambda: len(b.events) == 2)
        await a.serve("after")
        await eventually(lambda: len(b.events) == 3)
        told = [
            ServiceRegistered("cart", "n0@h"),
            ServiceUnregistered("cart", "n0@h"),
            ServiceRegistered("after", "n0@h"),
        ]
        assert a.events == b.events == told


async def test_a_registration_reaches_every_node_with_its_metadata() -> None:
    """E28: a tuple is a name like any other."""
    async with service_nodes(3) as (a, b, c):
        pid = await a.serve(("cart", 42), load=1)
        for node in (b, c):
            found = await within(
                node.registry.whereis_service(("cart", 42), timeout=20)
            )
            assert found == pid
        await a.registry.register_service(("cart", 42), pid, {"load": 2})
        await eventually(
            lambda: [e.meta for e in c.registry.lookup(("cart", 42))] == [{"load": 2}]
        )
        assert c.events == [ServiceRegistered(("cart", 42), "n0@h")]
        await a.registry.unregister_service(("cart", 42))
        await eventually(lambda: not b.registry.lookup(("cart", 42)))
        assert b.events[-1] == ServiceUnregistered(("cart", 42), "n0@h")


async def test_instances_on_several_nodes_are_all_found() -> None:
    async with service_nodes(3) as (a, b, c):
        pids = {await node.serve("pool") for node in (a, b)}
        await eventually(lambda: len(c.registry.lookup("pool")) == 2)
        assert {e.pid for e in c.registry.lookup("pool")} == pids
        found = {await c.registry.whereis_service("pool") for _ in range(60)}
        assert found == pids
        assert await b.registry.whereis_service("pool") in pids
        assert (await b.registry.whereis_service("pool")).node == "n1@h"


async def test_services_of_a_lost_node_vanish_and_those_of_others_stay() -> None:
    async with service_nodes(2) as (a, b):
        async with service_node("n2@h") as c:
            await connected(c.replica.node, a.replica.node)
            await connected(c.replica.node, b.replica.node)
            await c.serve("cart")
            await b.serve("user")
            await eventually(lambda: a.registry.list_services() == ["cart", "user"])
            c.members.leave()
        down = ServiceDown("cart", "n2@h", "left")
        await eventually(lambda: down in a.events and down in b.events)
        assert a.registry.list_services() == ["user"]


async def test_looking_in_vain_without_retries_takes_no_time() -> None:
    """REG-10, FAI-05."""
    async with service_node("a@h") as a:
        started = time.monotonic()
        with pytest.raises(ServiceNotFound):
            await a.registry.whereis_service("cart")
        assert time.monotonic() - started < 0.05


async def test_looking_for_what_is_there_takes_no_time() -> None:
    """REG-11, FAI-02."""
    async with service_node("a@h") as a:
        await a.serve("cart")
        started = time.monotonic()
        await a.registry.whereis_service("cart", retries=3)
        assert time.monotonic() - started < 0.05


async def test_retries_wait_longer_and_longer_and_end() -> None:
    """FAI-01, FAI-04: 100 + 200 ms for two, and 700 ms for three."""
    async with service_node("a@h") as a:
        for retries, least, most in ((2, 0.29, 4), (3, 0.69, 8)):
            started = time.monotonic()
            with pytest.raises(ServiceNotFound):
                await a.registry.whereis_service("cart", retries=retries)
            assert least <= time.monotonic() - started < most


async def test_whoever_waits_is_woken_by_the_registration() -> None:
    """Not by the clock: the whole timeout would be a minute."""
    async with service_nodes(2) as (a, b):
        waiting = [
            asyncio.ensure_future(b.registry.whereis_service("cart", timeout=60))
            for _ in range(3)
        ]
        with pytest.raises(ServiceNotFound):
            await b.registry.whereis_service("cart", timeout=0.01)
        pid = await a.serve("cart")
        assert await within(asyncio.gather(*waiting)) == [pid, pid, pid]
        assert b.registry._waiting == {}


async def test_what_only_others_know_is_asked_of_them() -> None:
    """REG-14: a hit elsewhere is as good as one here."""
    asked: list[object] = []
    there = Pid("far@h", 1, 1)

    async def elsewhere(name: object, *, timeout: float) -> Pid | None:
        asked.append(name)
        return there if len(asked) == 2 else None

    async with service_node("a@h", elsewhere=elsewhere) as a:
        with pytest.raises(ServiceNotFound):
            await a.registry.whereis_service("cart")
        assert await a.registry.whereis_service("cart") == there
        asked.clear()
        assert await a.registry.whereis_service("cart", retries=1) == there
        assert asked == ["cart", "cart"]


async def test_arguments_that_make_no_sense_are_refused() -> None:
    async with service_node("a@h") as a:
        with pytest.raises(InvalidValue):
            await a.registry.whereis_service("cart", retries=-1)
        with pytest.raises(InvalidValue):
            await a.registry.whereis_service("cart", timeout=-1)
        a.registry.close()
        with pytest.raises(NotStarted):
            await a.serve("cart")


async def test_a_listener_may_register_and_events_keep_their_order() -> None:
    async with service_node("a@h") as a:
        pid = a.spawn().pid
        answers: list[asyncio.Task[None]] = []

        def answer(event: object) -> None:
            if event == ServiceRegistered("one", "a@h"):
                work = a.registry.register_service("two", pid)
                answers.append(asyncio.get_running_loop().create_task(work))

        a.registry.listen(answer)
        await a.registry.register_service("one", pid)
        await eventually(lambda: len(a.events) == 2)
        assert [e.name for e in a.events] == ["one", "two"]


async def test_a_subscriber_is_sent_the_events_that_it_wants() -> None:
    """REG-27, REG-28, REG-30, REG-32, E28."""
    async with service_nodes(2) as (a, b):
        boxes = [b.spawn() for _ in range(4)]
        every, named, matching, odd = boxes
        b.registry.subscribe(every.pid)
        b.registry.subscribe(every.pid)
        b.registry.subscribe(named.pid, name=("cart", 1))
        b.registry.subscribe(matching.pid, pattern="^user_")
        b.registry.subscribe(odd.pid, matches=lambda name: name == b"raw")
        for name in (("cart", 1), "user_7", b"raw", b"user_9"):
            await a.serve(name)
        await eventually(lambda: len(b.events) == 4)
        names = [[event.name for event in box.drain()] for box in boxes]
        assert names[0] == [event.name for event in b.events]
        assert [set(map(repr, got)) for got in names[1:]] == [
            {"('cart', 1)"},
            {"'user_7'", "b'user_9'"},
            {"b'raw'"},
        ]
        b.registry.unsubscribe(every.pid)
        b.registry.unsubscribe(every.pid)
        await a.registry.unregister_service(b"raw")
        await eventually(lambda: len(b.events) == 5)
        assert odd.drain() == [ServiceUnregistered(b"raw", "n0@h")]
        assert every.drain() == []


async def test_a_full_mailbox_learns_how_much_it_missed() -> None:
    async with service_node("a@h") as a:
        reader = a.processes.spawn(idle, mailbox_limit=2)
        a.registry.subscribe(reader.pid)
        pid = a.spawn().pid
        for name in "abcd":
            await a.registry.register_service(name, pid)
        assert [e.name for e in reader.drain()] == ["a", "b"]
        await a.registry.register_service("e", pid)
        assert reader.drain() == [Lagged(2), ServiceRegistered("e", "a@h")]


async def test_only_processes_of_this_node_can_subscribe() -> None:
    async with service_node("a@h") as a:
        with pytest.raises(InvalidValue):
            a.registry.subscribe(Pid("b@h", 1, 1))
        with pytest.raises(InvalidValue):
            a.registry.subscribe(a.spawn().pid, pattern="(")
        reader = a.spawn()
        a.registry.subscribe(reader.pid)
        with pytest.raises(InvalidValue):
            a.registry.subscribe("reader")  # type: ignore[arg-type]
        a.processes.kill(reader)
        await eventually(lambda: a.processes.switch.box_of(reader.pid.id) is None)
        with pytest.raises(NoProc):
            a.registry.subscribe(reader.pid)
        await a.serve("user")
        assert len(a.registry._subscriptions) == 0


async def test_a_stream_of_events_can_be_read_by_plain_code() -> None:
    async with service_node("a@h") as a:
        async with a.registry.events(name="cart") as events:
            await a.serve("user")
            pid = await a.serve("cart")
            assert await events.next(timeout=20) == ServiceRegistered("cart", "a@h")
            await a.registry.register_service("cart", pid, {"load": 1})
            await a.registry.unregister_service("cart")
            assert await events.next(timeout=20) == ServiceUnregistered("cart", "a@h")
        assert len(a.registry._subscriptions) == 0
