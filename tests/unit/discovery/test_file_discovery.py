"""A shared directory tells who listens where, whatever else somebody put into it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from barrel_p2p.core.names import Address
from barrel_p2p.discovery.file import (
    ENDPOINT_BYTES_MAX,
    FRESH_MS,
    REFRESH_MS,
    FileDiscovery,
)
from barrel_p2p.errors import InvalidValue, StorageError
from tests.models.clock import HandClock

NOW_MS = 1_700_000_000_000
GOOD = {"host": "10.0.0.5", "port": 9100, "written_at": NOW_MS}


@pytest.fixture
def clock() -> HandClock:
    return HandClock(NOW_MS)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "shared" / "discovery"


@pytest.fixture
def backend(directory: Path, clock: HandClock) -> FileDiscovery:
    return FileDiscovery(directory, clock=clock)


def put(directory: Path, name: str, content: object) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    path.write_bytes(data)
    return path


async def test_what_was_registered_is_found_and_nothing_else(
    backend: FileDiscovery, directory: Path, clock: HandClock
) -> None:
    """DIS-01."""
    assert await backend.lookup("a@h") is None
    await backend.register("a@h", "10.0.0.5", 9_100)
    other = FileDiscovery(directory, clock=clock)
    assert await other.lookup("a@h") == Address("a@h", "10.0.0.5", 9_100)
    assert await other.lookup("b@h") is None
    path = directory / "a@h.endpoint"
    assert json.loads(path.read_bytes()) == GOOD
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


async def test_all_nodes_are_listed_with_their_ports(backend: FileDiscovery) -> None:
    """DIS-02."""
    assert await backend.list_nodes("") == []
    await backend.register("b@h", "::1", 2)
    await backend.register("a@h", "10.0.0.5", 1)
    await backend.register("a@i", "10.0.0.6", 3)
    assert await backend.list_nodes("h") == [
        Address("a@h", "10.0.0.5", 1),
        Address("b@h", "::1", 2),
    ]
    assert len(await backend.list_nodes("")) == 3


async def test_an_entry_goes_stale_unless_it_is_written_again(
    backend: FileDiscovery, clock: HandClock
) -> None:
    await backend.register("a@h", "h", 1)
    clock.shown = NOW_MS + FRESH_MS
    assert await backend.lookup("a@h") is not None
    clock.shown = NOW_MS + FRESH_MS + 1
    with pytest.raises(StorageError, match=r"a@h\.endpoint is stale: written 24 h ago"):
        await backend.lookup("a@h")
    assert await backend.list_nodes("") == []
    await backend.register("a@h", "h", 1)
    assert await backend.lookup("a@h") is not None
    assert REFRESH_MS * 2 < FRESH_MS


async def test_an_entry_of_a_clock_far_ahead_does_not_last_for_ever(
    backend: FileDiscovery, directory: Path
) -> None:
    put(directory, "a@h.endpoint", GOOD | {"written_at": NOW_MS + FRESH_MS + 1})
    with pytest.raises(StorageError, match="ahead of our clock"):
        await backend.lookup("a@h")


async def test_an_entry_is_withdrawn_only_while_it_is_ours(
    backend: FileDiscovery, directory: Path, clock: HandClock
) -> None:
    path = directory / "a@h.endpoint"
    await backend.withdraw("a@h")
    await backend.register("a@h", "h", 1)
    await backend.withdraw("a@h")
    assert not path.exists()
    await backend.register("a@h", "h", 1)
    clock.shown = NOW_MS + 1
    successor = FileDiscovery(directory, clock=clock)
    await successor.register("a@h", "h", 1)
    await backend.withdraw("a@h")
    assert path.exists()
    path.unlink()
    await successor.withdraw("a@h")


def below(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*"))


@pytest.mark.parametrize(
    "node",
    [
        "../a@h",
        "/etc/a@h",
        "a/../../b@h",
        "..@h",
        ".a@h",
        "a@h\0",
        "A@h",
        "a",
        "",
        "a@h/x",
        "a@" + "h" * 300,
    ],
)
async def test_a_name_cannot_leave_the_directory(
    backend: FileDiscovery, tmp_path: Path, directory: Path, node: str
) -> None:
    put(directory, "a@h.endpoint", GOOD)
    put(tmp_path, "a@h.endpoint", GOOD)
    put(tmp_path / "shared", "a@h.endpoint", GOOD)
    before = below(tmp_path)
    with pytest.raises(InvalidValue):
        await backend.lookup(node)
    with pytest.raises(InvalidValue):
        await backend.register(node, "h", 1)
    await backend.withdraw(node)
    assert below(tmp_path) == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\xff\xff",
        b'{"10.0.0.5",9100}.',
        [],
        {},
        GOOD | {"port": 0},
        GOOD | {"port": 65_536},
        GOOD | {"port": "9100"},
        GOOD | {"port": True},
        GOOD | {"host": ""},
        GOOD | {"host": "a b"},
        GOOD | {"host": "x" * 300},
        GOOD | {"host": None},
        GOOD | {"host": "h\n"},
        GOOD | {"written_at": -1},
        GOOD | {"written_at": 1e300},
        b"[" * ENDPOINT_BYTES_MAX,
        b" " * (ENDPOINT_BYTES_MAX + 1),
        json.dumps(GOOD).encode() + b"\0",
    ],
)
async def test_a_malformed_file_is_explained_and_stops_nobody(
    backend: FileDiscovery, directory: Path, content: object
) -> None:
    put(directory, "bad@h.endpoint", content)
    await backend.register("a@h", "h", 1)
    with pytest.raises(StorageError, match=r"bad@h\.endpoint"):
        await backend.lookup("bad@h")
    found, problems = backend.scan()
    assert found == [Address("a@h", "h", 1)]
    assert len(problems) == 1
    assert "bad@h.endpoint" in problems[0]


@pytest.mark.parametrize("name", ["A@h", "..@h", "a", "\u00e9@h", "-x@h"])
async def test_a_file_that_is_not_called_after_a_node_is_not_listed(
    backend: FileDiscovery, directory: Path, name: str
) -> None:
    put(directory, f"{name}.endpoint", GOOD)
    put(directory, "README", b"")
    found, problems = backend.scan()
    assert found == []
    assert [problem for problem in problems if "not called after a node" in problem]


async def test_links_pipes_and_directories_are_not_read(
    backend: FileDiscovery, directory: Path, tmp_path: Path
) -> None:
    target = put(tmp_path, "target", GOOD)
    put(directory, "README", b"")
    (directory / "a@h.endpoint").symlink_to(target)
    (directory / "b@h.endpoint").symlink_to(tmp_path / "missing")
    os.mkfifo(directory / "c@h.endpoint")
    (directory / "d@h.endpoint").mkdir()
    for node in ("a@h", "b@h", "c@h", "d@h"):
        with pytest.raises(StorageError):
            await backend.lookup(node)
    assert await backend.list_nodes("") == []
    await backend.register("a@h", "h", 1)
    assert json.loads(target.read_bytes()) == GOOD


async def test_a_directory_that_cannot_be_is_a_storage_error(
    tmp_path: Path, clock: HandClock
) -> None:
    (tmp_path / "file").write_bytes(b"")
    backend = FileDiscovery(tmp_path / "file" / "x", clock=clock)
    with pytest.raises(StorageError, match="cannot create"):
        await backend.register("a@h", "h", 1)
    with pytest.raises(StorageError, match="cannot list"):
        await backend.list_nodes("")


async def test_an_entry_is_checked_before_it_is_written(
    backend: FileDiscovery, directory: Path
) -> None:
    for host, port in (("", 1), ("a b", 1), ("h", 0), ("h", 65_536)):
        with pytest.raises(InvalidValue):
            await backend.register("a@h", host, port)
    assert below(directory) == []
