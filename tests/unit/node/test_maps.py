"""Replicated maps of real nodes: written on one, read on all."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p import (
    ConfigError,
    Conflict,
    InvalidValue,
    Lagged,
    MapPut,
    MapRemove,
    Node,
    NoSuchMap,
    NotEncodable,
    NotStarted,
)
from barrel_p2p.services.map_options import MAP_NAME_BYTES_MAX
from barrel_p2p.testing import cluster, eventually
from tests.endpoints import within
from tests.unit.node.nodes import node as one_node


def is_bool(value: object) -> bool:
    """Named by configurations below."""
    return type(value) is bool


async def test_a_write_and_a_removal_are_seen_on_every_node(tmp_path: Path) -> None:
    """MAP-16, MAP-17."""
    async with cluster(3, directory=tmp_path) as nodes:
        maps = [await node.new_map("flags") for node in nodes]
        streams = [one.changes() for one in maps]
        await maps[0].put("dark", True)
        for stream in streams:
            assert await stream.next(timeout=5) == MapPut("flags", "dark", True)
        assert [node.map_get("flags", "dark") for node in nodes] == [True] * 3
        await maps[2].remove("dark")
        for stream in streams:
            assert await stream.next(timeout=5) == MapRemove("flags", "dark")
        assert [node.map_to_list("flags") for node in nodes] == [[]] * 3


async def test_a_node_that_opens_the_map_late_learns_all_of_it(tmp_path: Path) -> None:
    """MAP-20: as one does whose map was deleted; later writes reach it as well."""
    async with cluster(2, directory=tmp_path) as (a, b):
        of_a = await a.new_map("flags")
        for n in range(100):
            await of_a.put(("key", n), {"n": n})
        of_b = await b.new_map("flags")
        await eventually(lambda: dict(of_b.items()) == dict(of_a.items()))
        await b.delete_map("flags")
        assert b.map_keys("flags") == []
        again = await b.new_map("flags")
        async with again.changes(snapshot=True) as told:
            await eventually(lambda: len(again) == 100)
            await of_a.put("later", 1)
            await told.until(lambda e: e == MapPut("flags", "later", 1), timeout=5)
        with pytest.raises(NoSuchMap):
            await of_b.put("old handle", 1)


async def test_a_key_that_only_one_node_was_given_reaches_the_other(
    tmp_path: Path,
) -> None:
    """AEN-01: nothing is gossiped here; comparing digests heals it, and 0 does not."""
    for period_ms in (200, 0):
        directory = tmp_path / str(period_ms)
        settings: dict[str, Any] = {"replica_anti_entropy_ms": period_ms}
        async with cluster(2, directory=directory, **settings) as (a, b):
            of_a, of_b = await a.new_map("m"), await b.new_map("m")
            await of_a.put("told", 1)
            await of_b.wait_for("told", timeout=5)
            parts = a._parts
            assert parts is not None
            owner = parts.maps.owner("m")
            assert owner is not None
            # As if gossip had lost it.
            owner.replica_merge_delta("m", _entries_of_another(a, "lost", 2))
            assert of_a["lost"] == 2
            if period_ms:
                assert await of_b.wait_for("lost", timeout=5) == 2
            else:
                with pytest.raises(TimeoutError):
                    await of_b.wait_for("lost", timeout=4)


def _entries_of_another(node: Node, key: str, value: object) -> Any:
    from barrel_p2p.core.ormap import OrMap

    return OrMap("x@h", node.hlc).add(key, value)


async def test_the_same_map_twice_is_one_and_other_options_are_a_conflict(
    tmp_path: Path,
) -> None:
    """MAP-01."""
    async with cluster(1, directory=tmp_path) as (a,):
        made = await a.new_map("m", validator=is_bool, scan_ms=50)
        assert await a.new_map("m", validator=is_bool, scan_ms=50) is made
        assert a.map("m") is made
        with pytest.raises(Conflict, match=r"scan_ms=50 and not 1000"):
            await a.new_map("m", validator=is_bool)
        with pytest.raises(Conflict, match=r"validator=.*is_bool.* and not None"):
            await a.new_map("m", scan_ms=50)
        several = await asyncio.gather(*(a.new_map("n") for _ in range(10)))
        assert len({id(one) for one in several}) == 1


@pytest.mark.parametrize(
    "name", ["", "x" * (MAP_NAME_BYTES_MAX + 1), "a\0b", "\ud800", "ä" * 41, 5, None]
)
async def test_what_is_no_name_opens_nothing(tmp_path: Path, name: Any) -> None:
    """MAP-02."""
    async with cluster(1, directory=tmp_path) as (a,):
        with pytest.raises(InvalidValue):
            await a.new_map(name)
        with pytest.raises(InvalidValue):
            await a.delete_map(name)
        assert a.map_names() == []


async def test_maps_of_one_node_have_nothing_in_common(tmp_path: Path) -> None:
    """MAP-03, MAP-04, MAP-05."""
    async with cluster(1, directory=tmp_path) as (a,):
        await a.new_map("one")
        await a.new_map("../two")
        assert a.map_get("one", "k") is None
        await a.map_put("one", "k", 1)
        await a.map_put("one", "l", [2])
        assert a.map_get("one", "k") == 1
        assert a.map_get("../two", "k", "none") == "none"
        assert sorted(a.map_keys("one")) == ["k", "l"]
        assert sorted(a.map_to_list("one")) == [("k", 1), ("l", [2])]
        await a.map_remove("one", "k")
        assert a.map_get("one", "k") is None
        one = a.map("one")
        assert ("l" in one, "k" in one, len(one), list(one)) == (True, False, 1, ["l"])
        with pytest.raises(KeyError):
            one["k"]


async def test_a_deleted_map_is_gone_and_its_readers_are_told(tmp_path: Path) -> None:
    """MAP-13."""
    async with cluster(1, directory=tmp_path) as (a,):
        made = await a.new_map("m")
        await made.put("k", 1)
        stream = made.changes()
        waiting = asyncio.ensure_future(made.wait_for("never"))
        await asyncio.sleep(0)
        await a.delete_map("m")
        await a.delete_map("m")
        assert a.map_get("m", "k") is None
        assert made.get("k") is None
        assert a.map_names() == []
        with pytest.raises(NoSuchMap):
            await within(waiting)
        with pytest.raises(StopAsyncIteration):
            await stream.next(timeout=5)
        for call in (a.map_put("m", "k", 1), a.map_remove("m", "k"), made.put("k", 1)):
            with pytest.raises(NoSuchMap):
                await call
        with pytest.raises(NoSuchMap):
            a.map("m")
        with pytest.raises(NoSuchMap):
            await a.subscribe_map("m")


async def test_processes_hear_changes_until_they_do_not_want_to(
    tmp_path: Path,
) -> None:
    """MAP-06, MAP-07: subscribing twice is subscribing once."""
    async with cluster(1, directory=tmp_path) as (a,), a.mailbox() as me:
        await a.new_map("m")
        await a.subscribe_map("m", me.pid)
        await a.subscribe_map("m", me.pid)
        await a.map_put("m", "k", 1)
        await a.map_put("m", "k", 1)
        await a.map_put("m", "k", True)
        await a.map_remove("m", "k")
        await a.map_remove("m", "k")
        told = [await me.receive(timeout=5) for _ in range(3)]
        assert told == [
            MapPut("m", "k", 1),
            MapPut("m", "k", True),
            MapRemove("m", "k"),
        ]
        await a.unsubscribe_map("m", me.pid)
        await a.map_put("m", "k", 2)
        with pytest.raises(TimeoutError):
            await me.receive(timeout=0.1)


async def test_code_that_is_no_process_cannot_subscribe_itself(tmp_path: Path) -> None:
    async with cluster(1, directory=tmp_path) as (a,):
        await a.new_map("m")
        with pytest.raises(NotStarted):
            await a.map("m").subscribe()
        async with a.mailbox() as me:
            await a.map("m").subscribe()
            await a.map_put("m", "k", 1)
            assert await me.receive(timeout=5) == MapPut("m", "k", 1)


async def test_a_process_that_names_nobody_subscribes_itself(tmp_path: Path) -> None:
    async with cluster(1, directory=tmp_path) as (a,):
        made = await a.new_map("m")
        heard: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        ready = asyncio.Event()

        async def listen(me: Any) -> None:
            await made.subscribe()
            ready.set()
            heard.set_result(await me.receive())

        a.spawn(listen)
        await within(ready.wait())
        await made.put("k", 1)
        assert await within(heard) == MapPut("m", "k", 1)


async def test_a_stream_begins_with_what_is_there_and_says_what_it_lost(
    tmp_path: Path,
) -> None:
    async with cluster(1, directory=tmp_path) as (a,):
        made = await a.new_map("m")
        for n in range(5):
            await made.put(n, n)
        stream = made.changes(snapshot=True, maxsize=2)
        await made.put(5, 5)
        await made.remove(0)
        told = [await stream.next(timeout=5) for _ in range(7)]
        assert told == [
            *(MapPut("m", n, n) for n in range(6)),
            MapRemove("m", 0),
        ]
        for n in range(100, 110):
            await made.put(n, n)
        assert await stream.next(timeout=5) == Lagged(3)
        small = made.changes(maxsize=2)
        for n in range(5):
            await made.put("x", n)
        assert [await small.next(timeout=5) for _ in range(3)] == [
            Lagged(3),
            MapPut("m", "x", 3),
            MapPut("m", "x", 4),
        ]


async def test_waiting_ends_with_a_value_that_is_wanted(tmp_path: Path) -> None:
    async with cluster(2, directory=tmp_path) as (a, b):
        of_a, of_b = await a.new_map("m"), await b.new_map("m")
        waiting = asyncio.ensure_future(of_b.wait_for("n", lambda n: n > 2, timeout=9))
        failing = asyncio.ensure_future(of_b.wait_for("n", lambda n: n["no"]))
        for n in range(5):
            await of_a.put("n", n)
        assert await within(waiting) in (3, 4)
        with pytest.raises(TypeError):
            await within(failing)
        assert await of_a.wait_for("n") == 4
        with pytest.raises(TimeoutError):
            await of_a.wait_for("n", lambda n: n > 4, timeout=0.01)
        with pytest.raises(TimeoutError):
            await of_a.wait_for("m", timeout=0.01)


async def test_a_validator_refuses_what_is_written_here(tmp_path: Path) -> None:
    """MAP-09: one that raises refuses too, and nothing has changed."""

    def positive(value: Any) -> Any:
        return value > 0

    async with cluster(1, directory=tmp_path) as (a,):
        made = await a.new_map("m", validator=positive)
        await made.put("k", 1)
        with pytest.raises(InvalidValue, match="refuses 0 for the key 'k'"):
            await made.put("k", 0)
        with pytest.raises(InvalidValue, match="it raised TypeError"):
            await a.map_put("m", "l", "text")
        assert made.items() == [("k", 1)]


async def test_a_node_takes_no_value_that_its_validator_refuses(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The writer has none: what comes is refused, counted, and complained of."""
    async with cluster(2, directory=tmp_path) as (a, b):
        of_a = await a.new_map("m")
        of_b = await b.new_map("m", validator=is_bool)
        await of_a.put("bad", 1)
        await of_a.put("good", True)
        await of_b.wait_for("good", timeout=5)
        assert of_b.items() == [("good", True)]
        assert b._parts is not None
        owner = b._parts.maps.owner("m")
        assert owner is not None
        assert owner.refused == of_b.stats().refused >= 1
        assert "map m: refused a value for the key 'bad'" in caplog.text


async def test_what_cannot_travel_is_not_written(tmp_path: Path) -> None:
    async with cluster(1, directory=tmp_path) as (a,):
        made = await a.new_map("m")
        for key, value in [
            ("k", object()),
            (True, 1),
            (1.5, 1),
            (["k"], 1),
            ("k", "x" * (1 << 20)),
            ("k", "\ud800"),
            ("k", 1 << 9_000),
        ]:
            with pytest.raises(NotEncodable):
                await made.put(key, value)
        assert made.items() == []


async def test_changing_a_list_after_it_was_written_changes_nothing(
    tmp_path: Path,
) -> None:
    async with cluster(1, directory=tmp_path) as (a,):
        made = await a.new_map("m")
        mine = [1, {"x": [2]}]
        await made.put("k", mine)
        mine[1]["x"].append(3)  # type: ignore[index]
        assert made["k"] == [1, {"x": [2]}]


async def test_declared_maps_are_there_as_soon_as_the_node_is(tmp_path: Path) -> None:
    declared = {
        "flags": {"validator": f"{__name__}:is_bool", "scan_ms": 20},
        "routes": {},
    }
    async with one_node(tmp_path, "a@h", replicated_maps=declared) as a:
        assert a.map_names() == ["flags", "routes"]
        with pytest.raises(InvalidValue):
            await a.map_put("flags", "dark", "yes")
        await a.map_put("flags", "dark", True)
        await a.new_map("flags", validator=is_bool, scan_ms=20)


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("m", {"validator": "no_such_module:f"}, "no_such_module"),
        ("m", {"validator": f"{__name__}:not_there"}, "not_there"),
        ("m", {"validator": f"{__name__}:__name__"}, "is no function"),
        ("x" * 81, {}, "MAP_NAME_BYTES_MAX=80"),
    ],
)
async def test_a_bad_declaration_stops_the_node_and_is_named(
    tmp_path: Path, name: str, options: Any, said: str
) -> None:
    bad = one_node(tmp_path, "a@h", replicated_maps={name: options})
    with pytest.raises(ConfigError, match=said) as raised:
        await bad.start()
    assert name[:40] in str(raised.value)


async def test_a_stopped_node_reads_and_writes_nothing(tmp_path: Path) -> None:
    a = one_node(tmp_path, "a@h")
    async with a:
        made = await a.new_map("m")
        await made.put("k", 1)
        waiting = asyncio.ensure_future(made.wait_for("never"))
        await asyncio.sleep(0)
    with pytest.raises(NotStarted):
        await within(waiting)
    with pytest.raises(NotStarted):
        await made.put("k", 2)
    with pytest.raises(NotStarted):
        a.map_get("m", "k")
    with pytest.raises(NotStarted):
        a.map_keys("m")


async def test_the_last_writes_of_a_node_that_stops_are_told(tmp_path: Path) -> None:
    async with cluster(2, directory=tmp_path) as (a, b):
        of_b = await b.new_map("m")
        of_a = await a.new_map("m")
        for n in range(1_000):
            await of_a.put(n, n)
        await a.stop()
        await eventually(lambda: len(of_b) == 1_000)
