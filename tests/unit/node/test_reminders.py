"""Reminders of whole nodes: set anywhere, durable, fired once where the key belongs."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import barrel_p2p
from barrel_p2p import Node, Process, Reminder
from barrel_p2p.core.hlc import Timestamp
from barrel_p2p.core.ormap import Entry
from barrel_p2p.errors import ClockDrift, InvalidValue, NotEncodable, NotStarted
from barrel_p2p.runtime.event_stream import EventStream, Lagged
from barrel_p2p.wire.terms import key_bytes
from tests.endpoints import eventually, within
from tests.unit.node.nodes import node

# Short enough to see what waits for a lease; a busy machine is no pause.
LEASES: dict[str, Any] = {
    "member_heartbeat_ms": 300,
    "member_ttl_ms": 3_000,
    "suspect_ms": 500,
}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


@asynccontextmanager
async def cluster(
    tmp_path: Path, count: int, **settings: Any
) -> AsyncIterator[list[Node]]:
    """Nodes that are members of one cluster and have parted the keys."""
    async with AsyncExitStack() as stack:
        made: list[Node] = []
        for number in range(count):
            one = node(tmp_path, f"n{number}@127.0.0.1", **settings)
            made.append(await stack.enter_async_context(one))
            if number:
                await within(one.join(made[0]))
        await settled(made)
        yield made


async def settled(made: list[Node]) -> None:
    def one_owner_each() -> bool:
        owned = [p for n in made for p in n.owned_partitions()]
        return sorted(owned) == list(range(64))

    await eventually(lambda: all(len(n.members()) == len(made) for n in made))
    await eventually(one_owner_each)


class Heard:
    """What the nodes were told, from now on."""

    def __init__(self, nodes: list[Node], *, acknowledge: bool = False) -> None:
        self.events: list[tuple[str, float, Reminder]] = []
        self._acknowledge = acknowledge
        self._tasks = [
            asyncio.ensure_future(
                self._read(n, n.reminders(acknowledge=acknowledge, maxsize=100_000))
            )
            for n in nodes
        ]

    async def _read(self, node: Node, stream: EventStream[Reminder]) -> None:
        async with stream:
            async for event in stream:
                assert not isinstance(event, Lagged)
                self.events.append((node.name, time.time() * 1_000, event))

    @property
    def keys(self) -> Counter[Any]:
        return Counter(event.key for _, _, event in self.events)

    async def __aenter__(self) -> Heard:
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


# Setting and firing.


async def test_a_reminder_fires_on_the_sole_owner_with_payload_and_fence(
    tmp_path: Path,
) -> None:
    """REM-01, REM-03: at an absolute time; the fence is a positive integer."""
    async with node(tmp_path, "a@127.0.0.1") as a, a.reminders() as stream:
        at_ms = now_ms() + 200
        await a.remind(("job", 1), at_ms, {"do": [1, b"x", ("y", None)]})
        [entry] = a.list_reminders()
        assert (entry.key, entry.at_ms, entry.every_ms) == (("job", 1), at_ms, None)
        event = await within(stream.next())
        assert isinstance(event, Reminder)
        assert now_ms() >= at_ms
        assert event.payload == {"do": [1, b"x", ("y", None)]}
        assert event == Reminder(("job", 1), event.payload, entry.fence)
        assert 0 < event.fence < 1 << 63
        assert a.list_reminders() == []


async def test_a_delay_is_milliseconds_or_a_timedelta(tmp_path: Path) -> None:
    """REM-02."""
    async with node(tmp_path, "a@127.0.0.1") as a, Heard([a]) as heard:
        started = now_ms()
        await a.remind_after("ms", 150)
        await a.remind_after("delta", dt.timedelta(milliseconds=150))
        await barrel_p2p.remind_after("function", 150)
        await eventually(lambda: len(heard.events) == 3)
        assert now_ms() - started >= 150
        assert heard.keys == {"ms": 1, "delta": 1, "function": 1}


async def test_a_datetime_needs_a_zone(tmp_path: Path) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a:
        zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
        at = dt.datetime(2030, 1, 1, 12, tzinfo=zone)
        await a.remind("zoned", at)
        assert a.list_reminders()[0].at_ms == int(at.timestamp() * 1_000)
        with pytest.raises(InvalidValue, match="no time zone"):
            await a.remind("naive", dt.datetime(2030, 1, 1))


async def test_what_cannot_be_kept_or_makes_no_sense_is_refused(
    tmp_path: Path,
) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a:
        me = a.spawn(idle)
        for payload in (me, {"to": [me]}):
            with pytest.raises(InvalidValue, match="restart"):
                await a.remind_after("k", 10, payload)
        with pytest.raises(InvalidValue, match="restart"):
            await a.remind_after(("k", me), 10)
        with pytest.raises(NotEncodable):
            await a.remind_after(1.5, 10)
        with pytest.raises(NotEncodable):
            await a.remind_after("k", 10, object())
        for wrong in (
            a.remind("k", True),
            a.remind("k", -1),
            a.remind("k", 1 << 60),
            a.remind_after("k", -1),
            a.remind_after("k", 10, every=99),
            a.remind_after("k", 10, every=1_000, missed="later"),  # type: ignore[arg-type]
            a.remind_after("k", 10, missed="skip"),
        ):
            with pytest.raises(InvalidValue):
                await wrong
        assert a.list_reminders() == []
    with pytest.raises(NotStarted):
        await a.remind("k", 0)


async def idle(process: Process) -> None:
    await process.receive(lambda message: False)


async def test_a_cancelled_reminder_does_not_fire(tmp_path: Path) -> None:
    """REM-04: and one that is set anew fires at the new time only."""
    async with node(tmp_path, "a@127.0.0.1") as a, Heard([a]) as heard:
        await a.remind_after("cancelled", 300, "no")
        await a.remind_after("moved", 300, "old")
        await a.remind_after("moved", 600, "new")
        await a.cancel_reminder("cancelled")
        await a.cancel_reminder("unknown")
        await a.remind_after("last", 900)
        await eventually(lambda: heard.keys["last"] == 1)
        assert [e.payload for _, _, e in heard.events] == ["new", None]


async def test_a_payload_is_copied_when_it_is_set(tmp_path: Path) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a, a.reminders() as stream:
        payload = ["before"]
        setting = asyncio.ensure_future(a.remind_after("k", 100, payload))
        await setting
        payload.append("after")
        event = await within(stream.next())
        assert isinstance(event, Reminder)
        assert event.payload == ["before"]


async def test_what_comes_again_does_until_it_is_cancelled(tmp_path: Path) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a, Heard([a]) as heard:
        started = now_ms()
        await a.remind_after("tick", 100, every=dt.timedelta(milliseconds=150))
        await eventually(lambda: heard.keys["tick"] == 5)
        await a.cancel_reminder("tick")
        count = heard.keys["tick"]
        assert now_ms() - started >= 100 + 4 * 150
        fences = [event.fence for _, _, event in heard.events]
        assert fences == sorted(set(fences))
        await a.remind_after("last", 500)
        await eventually(lambda: heard.keys["last"] == 1)
        assert heard.keys["tick"] == count


async def test_what_comes_again_and_began_in_the_past_begins_with_the_next(
    tmp_path: Path,
) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a:
        at_ms = now_ms() - 3_600_000 * 30 + 60_000
        await a.remind("daily", at_ms, every=3_600_000)
        [entry] = a.list_reminders()
        assert entry.at_ms == at_ms + 30 * 3_600_000
        assert (entry.every_ms, entry.missed) == (3_600_000, "coalesce")


async def test_fences_grow_through_setting_anew_and_cancelling(
    tmp_path: Path,
) -> None:
    """A peer whose clock leads: fences of what comes again go on leading."""
    async with node(tmp_path, "a@127.0.0.1") as a:
        store: Any = a._overlay().reminders._store
        stamp = Timestamp(now_ms() - 10_000, 5 * 8_192)
        first_ms = stamp.wall_ms + 3_600_000
        for key in ("set", "cancelled"):
            held = Entry(key, stamp, "b@h", (first_ms, "old", 4_000, 2))
            store.replica_merge_delta("reminders", {key_bytes(key): held})
        before = [entry.fence for entry in a.list_reminders()]
        assert before[0] == before[1]
        await a.cancel_reminder("cancelled")
        for key in ("cancelled", "set"):
            await a.remind_after(key, 3_600_000, "new")
        after = a.list_reminders()
        assert [entry.payload for entry in after] == ["new", "new"]
        assert min(entry.fence for entry in after) > before[0]


async def test_what_is_acknowledged_beats_what_stood_there(tmp_path: Path) -> None:
    """Also what was merged without the clock, as what follows a firing is."""
    async with node(tmp_path, "a@127.0.0.1") as a:
        store: Any = a._overlay().reminders._store
        for lead_ms, key in ((30_000, "set"), (30_000, "gone"), (10**9, "no")):
            ahead = Timestamp(now_ms() + lead_ms, 0)
            held = Entry(key, ahead, "b@h", (now_ms() + 10**7, "old"))
            store._project(store.entries.merge({key_bytes(key): held}))
        await a.remind_after("set", 3_600_000, "new")
        await a.cancel_reminder("gone")
        for impossible in (a.remind_after("no", 10), a.cancel_reminder("no")):
            with pytest.raises(ClockDrift):
                await impossible
        left = [(entry.key, entry.payload) for entry in a.list_reminders()]
        assert left == [("set", "new"), ("no", "old")]
        assert len(store._stamper) == store._stamper.tombstones == 0


# Listeners.


async def test_nothing_is_consumed_before_somebody_subscribes(tmp_path: Path) -> None:
    """21 of the notes."""
    async with node(tmp_path, "a@127.0.0.1") as a:
        await a.remind_after("k", 0, "kept")
        await a.remind_after("last", 200)
        await eventually(lambda: now_ms() > a.list_reminders()[1].at_ms + 100)
        assert len(a.list_reminders()) == 2
        got: list[Any] = []

        async def listen(me: Process) -> None:
            await a.subscribe_reminders()
            got.append(await me.receive())
            await a.unsubscribe_reminders()

        a.spawn(listen)
        await eventually(lambda: bool(got))
        assert got[0].payload == "kept"


async def test_what_was_consumed_for_who_has_gone_is_told_to_the_next(
    tmp_path: Path,
) -> None:
    """As many as it has room for at a time, and in their order."""
    async with node(tmp_path, "a@127.0.0.1") as a:
        room = a._overlay().reminders
        for i in range(5):
            await a.remind_after(i, 0, i)
        async with a.reminders():
            for _ in range(1_000_000):
                if room._machine.firing == 5:
                    break
                await asyncio.sleep(0)  # So that the disk is not faster.
        await eventually(lambda: not a.list_reminders())
        await eventually(lambda: not room._machine.firing)
        async with a.reminders(maxsize=2) as narrow:
            told: list[Any] = [await within(narrow.next()) for _ in range(5)]
        assert sorted(event.payload for event in told) == list(range(5))


async def test_an_ended_or_a_full_subscriber_is_none(tmp_path: Path) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a:

        async def leave(me: Process) -> None:
            await a.subscribe_reminders()

        gone, running = a.spawn(leave), a._overlay().switch.box_of
        await eventually(lambda: running(gone.id) is None)
        await a.remind_after("k", 0, "kept")
        async with a.reminders(maxsize=1) as narrow:
            await a.remind_after("k2", 0, "kept too")
            await a.remind_after("k3", 0, "and this")
            told = [await within(narrow.next()) for _ in range(3)]
        assert not any(isinstance(event, Lagged) for event in told)


async def test_a_handler_acknowledges_or_is_told_again(tmp_path: Path) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a:
        a._overlay().reminders._machine.settings = _quick()
        async with a.reminders(acknowledge=True) as stream:
            await a.remind_after("k", 50, "work")
            first = await within(stream.next())
            again = await within(stream.next())
            assert isinstance(first, Reminder)
            assert again == first
            assert len(a.list_reminders()) == 1
            assert not await a.acknowledge_reminder("k", first.fence + 1)
            assert await a.acknowledge_reminder("k", first.fence)
            assert not await a.acknowledge_reminder("k", first.fence)
            assert a.list_reminders() == []
            await a.remind_after("last", 500)
            last = await within(
                stream.until(lambda event: getattr(event, "key", "") == "last")
            )
            assert isinstance(last, Reminder)


def _quick() -> Any:
    from barrel_p2p.services.reminder_inputs import ReminderSettings

    return ReminderSettings(ack_ms=300)


@pytest.mark.parametrize("acknowledge", [True, False])
async def test_what_was_missed_and_is_to_be_skipped_is_told_to_nobody(
    tmp_path: Path, acknowledge: bool
) -> None:
    async with node(tmp_path, "a@127.0.0.1") as a:
        await a.remind_after("k", 50, every=500, missed="skip")
        [entry] = a.list_reminders()
        missed_ms = entry.at_ms + 1_200
        await eventually(lambda: now_ms() > missed_ms)
        async with a.reminders(acknowledge=acknowledge) as stream:
            event = await within(stream.next())
            assert isinstance(event, Reminder)
            # A fence grows with the time between occurrences.
            assert (event.fence - entry.fence) >> 21 >= 3 * 500
            assert now_ms() >= entry.at_ms + 3 * 500


# Clusters.


async def test_in_a_steady_cluster_each_fires_once_on_its_owner(
    tmp_path: Path,
) -> None:
    """REM-10: set anywhere, fired exactly once in the cluster, by whoever owns it."""
    async with cluster(tmp_path, 3) as made, Heard(made) as heard:
        owners = {i: made[0].place(i) for i in range(60)}
        for i in owners:
            await made[i % 3].remind_after(i, 400, i)
        await made[0].remind_after("last", 1_200)
        await eventually(lambda: heard.keys["last"] == 1)
        assert heard.keys == Counter([*range(60), "last"])
        for name, _, event in heard.events:
            assert owners.get(event.key, name) == name


async def test_any_node_cancels_what_another_set(tmp_path: Path) -> None:
    async with cluster(tmp_path, 3) as made, Heard(made) as heard:
        for i in range(20):
            await made[0].remind_after(i, 600)
        await eventually(lambda: len(made[2].list_reminders()) == 20)
        for i in range(20):
            await made[2].cancel_reminder(i)
        await made[1].remind_after("last", 1_000)
        await eventually(lambda: heard.keys["last"] == 1)
        assert heard.keys == {"last": 1}


async def test_a_survivor_fires_what_the_node_that_set_it_owned(
    tmp_path: Path,
) -> None:
    async with cluster(tmp_path, 3, **LEASES) as made:
        a, b, c = made
        mine = [i for i in range(40) if c.place(i) == c.name]
        for i in mine:
            await c.remind_after(i, 1_500, i)
        async with Heard([a, b]) as heard:
            await c.stop()
            await eventually(lambda: sorted(heard.keys) == mine)
            assert set(heard.keys.values()) == {1}


async def test_overdue_reminders_fire_once_after_a_full_restart(
    tmp_path: Path,
) -> None:
    """REM-12: by the nodes that come back, once they know each other again."""
    count = 3
    async with cluster(tmp_path, count, **LEASES) as made:
        for i in range(30):
            await made[i % count].remind_after(i, 300, i)
        addresses = [str(n.address) for n in made]
        ports = [n.address.port for n in made]
        await eventually(lambda: all(len(n.list_reminders()) == 30 for n in made))
    async with AsyncExitStack() as stack:
        settings: dict[str, Any] = {**LEASES, "contact_nodes": tuple(addresses)}
        made = [
            node(tmp_path, f"n{i}@127.0.0.1", listen_port=ports[i], **settings)
            for i in range(count)
        ]
        for one in made:
            await stack.enter_async_context(one)
        async with Heard(made) as heard:
            await eventually(lambda: len(heard.keys) == 30)
            await settled(made)
            await made[0].remind_after("last", 500)
            await eventually(lambda: heard.keys["last"] == 1)
            assert set(heard.keys.values()) == {1}
            assert len({name for name, _, _ in heard.events}) == count
            await eventually(lambda: not any(n.list_reminders() for n in made))
    async with AsyncExitStack() as stack:
        again = [node(tmp_path, f"n{i}@127.0.0.1", **LEASES) for i in range(count)]
        for one in again:
            await stack.enter_async_context(one)
            assert one.list_reminders() == []


async def test_who_stood_still_compares_at_once(tmp_path: Path) -> None:
    """Not when it is time to: until then it fires nothing."""
    async with cluster(tmp_path, 2, replica_anti_entropy_ms=3_600_000) as made:
        room = made[0]._overlay().reminders
        # What the joining has begun is over once what it brought is there.
        await made[1].remind_after("k", 3_600_000)
        await eventually(lambda: len(made[0].list_reminders()) == 1)
        rounds: list[Any] = []
        made[0]._overlay().replicas.on_synced(rounds.append)
        room._paused(9_000)
        assert room._machine.held
        await eventually(lambda: any(each.replica == "reminders" for each in rounds))
        assert room._machine._synced


async def test_an_acknowledged_reminder_is_on_disk_before_it_is_acknowledged(
    tmp_path: Path,
) -> None:
    """A copy of the file, taken the moment remind returns, has it."""
    async with node(tmp_path, "a@127.0.0.1") as a:
        for i in range(20):
            await a.remind_after(i, 3_600_000, i)
            copy = tmp_path / f"copy{i}"
            copy.mkdir()
            for file in (tmp_path / "a@127.0.0.1" / "reminders").iterdir():
                (copy / file.name).write_bytes(file.read_bytes())
        from barrel_p2p.storage.database import Database

        for i in range(20):
            for file in (tmp_path / f"copy{i}").iterdir():
                file.chmod(0o600)
            database, held = Database.open(
                tmp_path / f"copy{i}" / "reminders.db", store="reminders", node=a.name
            )
            database.drop()
            assert len(held) == i + 1
