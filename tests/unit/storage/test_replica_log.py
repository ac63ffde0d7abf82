"""What a store has acknowledged it gives back, and what it cannot keep it refuses."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from barrel_p2p import Pid, Ref
from barrel_p2p.core.hlc import HLC, Timestamp
from barrel_p2p.errors import (
    ClockDrift,
    Conflict,
    Degraded,
    InvalidValue,
    NotEncodable,
    NotStarted,
    StorageError,
    StoreCorrupt,
)
from barrel_p2p.ormap import Delta, Entry, OrMap
from barrel_p2p.replica_log import Committer, ReplicaLog, check_restart_safe
from barrel_p2p.storage.rows import encode_row
from barrel_p2p.storage.stores import store_file_name
from barrel_p2p.testing import FakeClock
from barrel_p2p.wire.terms import key_bytes
from tests.endpoints import within

NODE = "a@h"


class Disk:
    """A directory, and what opens stores in it."""

    def __init__(self, path: Path, committer: Committer) -> None:
        self.path = path
        self.committer = committer

    async def open(
        self, name: str = "s", *, node: str = NODE, hlc: HLC | None = None
    ) -> ReplicaLog:
        return await ReplicaLog.open(
            self.path / f"{name}.db",
            store=name,
            node=node,
            committer=self.committer,
            hlc=hlc,
        )

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is opened while the disk's one thread is busy."""
        free = threading.Event()
        self.committer.run_on_disk(free.wait)
        try:
            yield
        finally:
            free.set()

    @property
    def file(self) -> Path:
        return self.path / "s.db"


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Disk]:
    with ThreadPoolExecutor(1) as executor:
        committer = Committer(executor, asyncio.get_running_loop())
        yield Disk(tmp_path / "stores", committer)
        committer.close()


@pytest.fixture
def entries() -> OrMap:
    return OrMap(NODE, HLC())


def merged(*deltas: Delta) -> Delta:
    return {key: entry for delta in deltas for key, entry in delta.items()}


def at(key: str, wall_ms: int, value: object, node: str = NODE) -> Delta:
    return {key_bytes(key): Entry(key, Timestamp(wall_ms, 0), node, value)}


async def test_a_fresh_store_is_an_empty_map(disk: Disk) -> None:
    """LOG-01: opening a fresh store gives an empty map."""
    log = await disk.open()
    assert (log.recovered, log.state, log.fault) == ({}, "open", None)
    await log.close()


async def test_two_appended_deltas_are_there_after_reopening(
    disk: Disk, entries: OrMap
) -> None:
    """LOG-02: two appended deltas, synced and closed, are both there."""
    first, second = entries.add("k", {"v": [1, 2.5, None]}), entries.add(("t", 1), b"x")
    log = await disk.open()
    await log.append(first)
    log.append(second)
    await log.sync()
    await log.close()
    again = await disk.open()
    assert again.recovered == merged(first, second)
    await again.close()


async def test_an_entry_in_the_file_and_in_the_log_recovers_once(
    disk: Disk, entries: OrMap
) -> None:
    """LOG-04: an entry both in the snapshot and in the log recovers once."""
    delta = entries.add("k", 1)
    log = await disk.open()
    await log.append(delta)
    await log.snapshot()
    await log.append(delta)
    await log.close()
    again = await disk.open()
    assert again.recovered == delta
    await again.close()


async def test_delete_removes_every_file(disk: Disk, entries: OrMap) -> None:
    """LOG-07: delete removes snapshot and log."""
    log = await disk.open()
    await log.append(entries.add("k", 1))
    await log.delete()
    assert list(disk.path.iterdir()) == []
    await log.delete()


async def test_a_row_goes_only_when_the_new_one_beats_it(disk: Disk) -> None:
    """An own write may wait for the disk while an older one of a peer comes in."""
    log = await disk.open()
    await log.append(at("k", 2, "new"))
    await log.append(at("k", 1, "old"))
    log.append(at("l", 2, "new"))
    log.append(at("l", 1, "old"))
    log.append(at("m", 1, "b", node="b@h"))
    log.append(at("m", 1, "a", node="a@h"))
    await log.close()
    again = await disk.open()
    assert again.recovered == merged(
        at("k", 2, "new"), at("l", 2, "new"), at("m", 1, "b", node="b@h")
    )
    await again.close()


async def test_tombstones_are_kept_and_forgotten_rows_are_not(
    disk: Disk, entries: OrMap
) -> None:
    log = await disk.open()
    kept = [entries.add("k", 1), entries.add("l", 2)]
    for delta in kept:
        log.append(delta)
    removed = entries.remove("k")
    await log.append(removed)
    await log.forget([key_bytes("l"), key_bytes("never there")])
    await log.close()
    again = await disk.open()
    assert again.recovered == removed
    await again.close()


async def test_an_append_after_forgetting_is_kept_however_old(disk: Disk) -> None:
    log = await disk.open()
    await log.append(at("k", 9, "before"))
    log.forget([key_bytes("k")])
    log.append(at("k", 1, "after"))
    await log.close()
    again = await disk.open()
    assert again.recovered == at("k", 1, "after")
    await again.close()


@pytest.mark.parametrize("count", [1, 3, 64, 333, 1_000])
async def test_a_group_of_any_size_is_kept_whole(disk: Disk, count: int) -> None:
    log = await disk.open()
    deltas = [at(f"k{i % 700}", i, i) for i in range(count)]
    await asyncio.gather(*(log.append(delta) for delta in deltas))
    await log.close()
    again = await disk.open()
    assert again.recovered == merged(*deltas)
    await again.close()


async def test_what_a_checkpoint_and_a_compaction_move_is_still_there(
    disk: Disk,
) -> None:
    log = await disk.open()
    big = b"x" * 100_000
    held = [at(f"k{i}", 1, big) for i in range(200)]
    for delta in held:
        await log.append(delta)
    await log.forget([key for delta in held[:190] for key in delta])
    before = disk.file.stat().st_size
    await log.snapshot()
    assert disk.file.stat().st_size < before // 4
    await log.close()
    again = await disk.open()
    assert again.recovered == merged(*held[190:])
    await again.close()


async def test_recovery_moves_the_clock_past_what_was_kept(disk: Disk) -> None:
    clock = HLC()
    ahead = Timestamp(clock.now().wall_ms + 5_000, 7)
    log = await disk.open()
    await log.append({key_bytes("k"): Entry("k", ahead, NODE, 1)})
    await log.close()
    again = await ReplicaLog.open(
        disk.file, store="s", node=NODE, committer=disk.committer, hlc=clock
    )
    assert clock.now() > ahead
    await again.close()


async def test_a_clock_that_was_set_back_opens_what_was_kept_before(
    disk: Disk,
) -> None:
    """By the bound it is past that; without the bound it may not follow so far."""
    wall = FakeClock()
    ahead = Timestamp(wall.wall_ms() + 100_000, 7)
    log = await disk.open()
    await log.append({key_bytes("k"): Entry("k", ahead, NODE, 1)})
    await log.close()
    bound = Timestamp(ahead.wall_ms + 1_000, 0)
    for clock in (HLC(wall, floor=bound), HLC(wall)):
        opening = ReplicaLog.open(
            disk.file, store="s", node=NODE, committer=disk.committer, hlc=clock
        )
        if clock.now() > ahead:
            again = await opening
            assert len(again.recovered) == 1
            await again.close()
        else:
            with pytest.raises(ClockDrift):
                await opening


@pytest.mark.parametrize("name", [Pid(NODE, 1, 1), Ref(NODE, 1, (1,))])
async def test_what_means_nothing_after_a_restart_is_refused(
    disk: Disk, entries: OrMap, name: object
) -> None:
    with pytest.raises(InvalidValue, match="means nothing after a restart"):
        check_restart_safe({"deep": [(1, {name})]})
    log = await disk.open()
    with pytest.raises(InvalidValue, match="means nothing after a restart"):
        log.append(merged(entries.add("fine", 1), entries.add("k", [name])))
    await log.close()
    assert (await reopened(disk)) == {}


def test_a_value_with_the_bytes_of_a_pid_s_tag_is_fine() -> None:
    check_restart_safe({"X": b"XZ", "Z": ["X", ("Z", frozenset({"XZ"}))]})


async def test_a_value_without_a_form_is_refused_and_nothing_kept(disk: Disk) -> None:
    log = await disk.open()
    with pytest.raises(NotEncodable):
        log.append(merged(at("a", 1, 1), at("b", 1, object())))
    await log.close()
    assert (await reopened(disk)) == {}


async def test_a_closed_store_takes_nothing_and_closes_twice(disk: Disk) -> None:
    log = await disk.open()
    await log.close()
    await log.close()
    assert log.state == "closed"
    with pytest.raises(NotStarted):
        log.append(at("k", 1, 1))
    with pytest.raises(NotStarted):
        log.forget([])
    with pytest.raises(NotStarted):
        await log.sync()


async def test_what_waits_at_the_end_is_committed(disk: Disk) -> None:
    log = await disk.open()
    done = log.append(at("k", 1, 1))
    await log.close()
    assert done.done()
    assert (await reopened(disk)) == at("k", 1, 1)


async def test_a_cancelled_waiter_takes_nobody_along(disk: Disk) -> None:
    log = await disk.open()
    gone, kept = log.append(at("k", 1, 1)), log.append(at("l", 1, 1))
    gone.cancel()
    await kept
    await log.close()
    assert (await reopened(disk)) == merged(at("k", 1, 1), at("l", 1, 1))


async def test_a_store_is_open_once(disk: Disk) -> None:
    log = await disk.open()
    with pytest.raises(Conflict, match=r"s\.db is open already"):
        await disk.open()
    await log.append(at("k", 1, 1))
    await log.close()
    assert (await reopened(disk)) == at("k", 1, 1)


async def test_an_error_nobody_expects_degrades_its_own_store_only(disk: Disk) -> None:
    """As a MemoryError of SQLite does."""
    log, other = await disk.open(), await disk.open("t")
    await degrade(log)
    await within(other.append(at("k", 1, 1)))
    assert await log.reopen() == {}
    await within(log.append(at("l", 1, 1)))
    await log.close()
    await other.close()


async def test_a_reopening_that_is_cancelled_leaves_the_next_one_all(
    disk: Disk,
) -> None:
    log = await disk.open()
    await log.append(at("k", 1, 1))
    await degrade(log)
    with disk.held():
        with pytest.raises(TimeoutError):
            await within(log.reopen(), 0.05)
        assert log.state == "degraded"
        again = [asyncio.ensure_future(log.reopen()) for _ in range(2)]
        await asyncio.sleep(0)
    assert await within(asyncio.gather(*again)) == [at("k", 1, 1), {}]
    assert (log.state, log.fault) == ("open", None)
    await within(log.append(at("l", 1, 1)))
    await log.close()
    assert (await reopened(disk)) == merged(at("k", 1, 1), at("l", 1, 1))


async def test_a_store_that_is_ahead_of_the_clock_reopens_when_it_has_followed(
    disk: Disk,
) -> None:
    wall = FakeClock()
    log = await disk.open(hlc=HLC(wall))
    ahead = at("k", wall.wall_ms() + 100_000, 1)
    await log.append(ahead)
    await degrade(log)
    with pytest.raises(ClockDrift):
        await log.reopen()
    with pytest.raises(Degraded):
        log.append({})
    wall.advance(100_000)
    assert await within(log.reopen()) == ahead
    assert log.state == "open"
    await log.close()


async def test_a_store_that_is_closed_while_it_reopens_lets_go_of_its_file(
    disk: Disk,
) -> None:
    log = await disk.open()
    await log.append(at("k", 1, 1))
    await degrade(log)
    with disk.held():
        again = asyncio.ensure_future(log.reopen())
        await disk.committer.run(lambda: None)
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(log.close())
        await asyncio.sleep(0)
    with pytest.raises(NotStarted, match="the store 's' is closed"):
        await within(again)
    await within(closing)
    with pytest.raises(NotStarted):
        log.append({})
    assert (await reopened(disk)) == at("k", 1, 1)


async def test_a_store_that_is_closed_after_a_cancelled_reopening_lets_go(
    disk: Disk,
) -> None:
    log = await disk.open()
    await degrade(log)
    with disk.held(), pytest.raises(TimeoutError):
        await within(log.reopen(), 0.05)
    await within(log.close())
    assert (await reopened(disk)) == {}


async def test_writers_behind_a_closed_committer_are_told(disk: Disk) -> None:
    log = await disk.open()
    kept = log.append(at("k", 1, 1))
    await within(kept)
    late = log.append(at("l", 1, 1))
    disk.committer.close()
    with pytest.raises(NotStarted, match="the committer is closed"):
        await within(late)
    log._drop_database()


async def test_a_store_that_raises_stops_no_other(disk: Disk) -> None:
    class Raising:
        def commit_waiting(self) -> None:
            raise ValueError("not expected")

    loop, said = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: said.append(context["exception"]))
    log = await disk.open()
    disk.committer.wake(Raising())
    await within(log.append(at("k", 1, 1)))
    disk.committer.wake(Raising())
    await within(log.append(at("l", 1, 1)))
    assert [type(error) for error in said] == [ValueError, ValueError]
    await log.close()


async def test_what_is_opened_is_moved_out_of_its_log(disk: Disk) -> None:
    """A flush that failed before a restart left it in memory, perhaps, and was told."""
    log = await disk.open()
    await log.append(at("k", 1, 1))
    await disk.committer.run(log._drop_database)
    await log.close()
    logged = disk.path / "s.db-wal"
    assert logged.stat().st_size > 0
    again = await disk.open()
    assert logged.stat().st_size == 0
    assert again.recovered == at("k", 1, 1)
    (disk.path / "t.db").write_bytes(disk.file.read_bytes())
    connection = sqlite3.connect(disk.path / "t.db")
    assert connection.execute("SELECT count(*) FROM entry").fetchall() == [(1,)]
    connection.close()
    await again.close()


async def test_files_are_private(disk: Disk) -> None:
    log = await disk.open()
    await log.append(at("k", 1, 1))
    files = list(disk.path.iterdir())
    assert sorted(file.name for file in files) == ["s.db", "s.db-wal"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE(disk.path.stat().st_mode) == 0o700
    await log.close()
    disk.file.chmod(0o640)
    with pytest.raises(StorageError, match="others have access"):
        await disk.open()


@pytest.mark.parametrize("left", [0, 1, 100, 4_096, 8_192])
async def test_a_truncated_file_is_no_empty_store(disk: Disk, left: int) -> None:
    log = await disk.open()
    await log.append(at("k", 1, 1))
    await log.close()
    whole = disk.file.read_bytes()
    assert len(whole) > left
    disk.file.write_bytes(whole[:left])
    with pytest.raises(StoreCorrupt, match=r"s\.db is damaged") as caught:
        await disk.open()
    assert "barrel-p2p store" in (caught.value.hint or "")
    assert disk.file.read_bytes() == whole[:left]


@pytest.mark.parametrize(
    "harm",
    [
        "UPDATE entry SET value = x'8361FF' WHERE kind = 1",
        "UPDATE entry SET stamp = x'000000000000000000000001'",
        "UPDATE entry SET sum = sum + 1",
        "UPDATE entry SET node = 'b@h'",
        "UPDATE entry SET kind = 3",
        "DELETE FROM entry",
        "INSERT INTO entry VALUES (x'836105', x'00', 'a@h', 1, x'836101', 5)",
        "UPDATE meta SET v = x'00' WHERE k = 'rows'",
        "UPDATE meta SET v = 'barrel-p2p store 2' WHERE k = 'format'",
        "DELETE FROM meta WHERE k = 'node'",
        "ALTER TABLE entry RENAME COLUMN value TO valeu",
        "DROP TABLE entry",
        "PRAGMA journal_mode=DELETE",
    ],
)
async def test_a_changed_row_or_count_or_table_is_noticed(
    disk: Disk, harm: str
) -> None:
    log = await disk.open()
    await log.append(merged(at("k", 1, 1), at("l", 1, 2)))
    await log.close()
    connection = sqlite3.connect(disk.file, isolation_level=None)
    connection.execute(harm).fetchall()
    connection.close()
    with pytest.raises(StoreCorrupt):
        await disk.open()


async def test_another_store_s_or_another_node_s_file_is_refused(disk: Disk) -> None:
    await (await disk.open()).close()
    with pytest.raises(StorageError, match=r"of node b'a@h', not of 'b@h'"):
        await disk.open(node="b@h")
    disk.file.rename(disk.path / "t.db")
    with pytest.raises(StorageError, match=r"of store b's', not of 't'"):
        await disk.open("t")


async def test_a_log_without_its_file_is_no_empty_store(disk: Disk) -> None:
    log = await disk.open()
    await log.append(at("k", 1, 1))
    logged = (disk.path / "s.db-wal").read_bytes()
    await log.close()
    disk.file.unlink()
    (disk.path / "s.db-wal").write_bytes(logged)
    with pytest.raises(StoreCorrupt, match="it is missing, but its log"):
        await disk.open()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("users", "users.db"),
        ("../a b/ü", "..%2Fa%20b%2F%C3%BC.db"),
        ("a+b", "a%2Bb.db"),
    ],
)
def test_names_of_files_are_percent_encoded(name: str, file: str) -> None:
    assert store_file_name(name) == file


def test_names_of_files_are_short_and_differ() -> None:
    names = [store_file_name("ü" * 200 + end) for end in "ab"]
    assert len(set(names)) == 2
    assert max(map(len, names)) < 255


async def degrade(log: ReplicaLog) -> None:
    """Have the thread meet what it does not expect: an integer beyond SQLite's."""
    (row,) = (encode_row(key, entry) for key, entry in at("-", 1, 1).items())
    failing = log.append({})
    log._batch.put((*row[:5], 1 << 70))
    with pytest.raises(Degraded, match=r"cannot write .*\.db: OverflowError"):
        await within(failing)
    assert log.state == "degraded"


async def reopened(disk: Disk) -> Delta:
    log = await disk.open()
    recovered = log.recovered
    await log.close()
    return recovered
