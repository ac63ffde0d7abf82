"""A data directory belongs to one process at a time, and counts its lives."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.names import NODE_NAME_BYTES_MAX
from barrel_p2p.errors import ConfigError, Conflict, NotStarted, StorageError
from barrel_p2p.node.data_dir import (
    CREATION_EPOCH_S,
    CREATION_MAX,
    SOCKET_PATH_BYTES_MAX,
    DataDir,
    next_creation,
)
from tests.models.clock import HandClock
from tests.tree import ROOT

LATER_S = 90_000_000
NOW_MS = (CREATION_EPOCH_S + LATER_S) * 1_000
HOLDER = """
import sys
from pathlib import Path
from barrel_p2p.core.clock import SystemClock
from barrel_p2p.node.data_dir import DataDir
held = DataDir.open(Path(sys.argv[1]), clock=SystemClock())
print(held.creation, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def clock() -> HandClock:
    return HandClock(NOW_MS)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "node"


def test_it_is_made_for_its_owner_alone(place: Path, clock: HandClock) -> None:
    with DataDir.open(place, clock=clock) as directory:
        assert directory.path == place
        for path in (directory.path, *directory.path.iterdir()):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_its_files_stay_where_they_are_when_the_process_moves(
    tmp_path: Path, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with DataDir.open(Path("data") / "a@h", clock=clock) as directory:
        monkeypatch.chdir("/")
        assert directory.path == tmp_path / "data" / "a@h"
        assert directory.keys == directory.path / "keys"
        assert directory.quic == directory.path / "quic"
        assert directory.reminders == directory.path / "reminders"
        assert directory.maps == directory.path / "maps"
        assert directory.peers == directory.path / "peers.json"
        assert directory.reset_seed == directory.path / "reset_seed"
        assert directory.backups == directory.path / "backups"
        assert directory.resolve("my/keys") == directory.path / "my" / "keys"
        assert directory.resolve("/etc/tls") == Path("/etc/tls")


def test_a_second_node_of_this_process_is_refused(
    place: Path, clock: HandClock
) -> None:
    with DataDir.open(place, clock=clock) as first:
        before = (first.path / "creation").read_bytes()
        with pytest.raises(Conflict, match=f"in use by process {os.getpid()}"):
            DataDir.open(place, clock=clock)
        assert (first.path / "creation").read_bytes() == before
    with DataDir.open(place, clock=clock) as second:
        assert second.creation == first.creation + 1
    second.close()
    with pytest.raises(NotStarted), second:
        pass


def test_a_process_holds_it_until_it_is_killed(place: Path, clock: HandClock) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(place)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with holder:
        assert holder.stdout is not None
        creation = int(holder.stdout.readline())
        with pytest.raises(Conflict, match=f"in use by process {holder.pid}"):
            DataDir.open(place, clock=clock)
        holder.kill()
    with DataDir.open(place, clock=clock) as directory:
        assert directory.creation == creation + 1


def test_a_creation_comes_from_the_clock_and_never_goes_back(
    place: Path, clock: HandClock
) -> None:
    creations = []
    for wall_ms in (NOW_MS, NOW_MS, 0, NOW_MS - 5_000, NOW_MS + 60_000):
        clock.shown = wall_ms
        with DataDir.open(place, clock=clock) as directory:
            creations.append(directory.creation)
            stored = (directory.path / "creation").read_text()
            assert stored == f"{directory.creation}\n"
    steps = [0, 1, 2, 3, 60]
    assert creations == [LATER_S + step for step in steps]


@given(
    stored=st.none() | st.integers(0, CREATION_MAX) | st.just(CREATION_MAX),
    wall_ms=st.integers(0, 2**53),
)
def test_a_creation_grows_and_fits_the_wire(stored: int | None, wall_ms: int) -> None:
    try:
        creation = next_creation(stored, wall_ms=wall_ms)
    except StorageError:
        too_late = wall_ms // 1_000 - CREATION_EPOCH_S > CREATION_MAX
        assert stored == CREATION_MAX or too_late
        return
    assert 1 <= creation <= CREATION_MAX
    assert stored is None or creation > stored


@pytest.mark.parametrize(
    "content",
    [b"", b"-1", b"x", b"1.5", b"4294967296", b"1" * 17, b"\xd9\xa1", b"1\0", b"1 2"],
)
def test_a_creation_that_is_none_stops_the_start_and_frees_the_lock(
    place: Path, clock: HandClock, content: bytes
) -> None:
    with DataDir.open(place, clock=clock) as directory:
        path = directory.path / "creation"
    path.write_bytes(content)
    with pytest.raises(StorageError, match="creation") as caught:
        DataDir.open(place, clock=clock)
    assert path.read_bytes() == content
    path.unlink()
    DataDir.open(place, clock=clock).close()
    # Held until here: an error that somebody keeps must not keep the lock.
    assert caught.value.hint is None or "remove" in caught.value.hint


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o770])
def test_a_directory_that_others_can_enter_is_refused(
    place: Path, clock: HandClock, mode: int
) -> None:
    place.mkdir()
    place.chmod(mode)
    with pytest.raises(StorageError, match=f"{mode:04o}") as caught:
        DataDir.open(place, clock=clock)
    assert caught.value.hint == f"chmod 700 {place}"


def test_links_in_place_of_its_files_are_refused(
    place: Path, clock: HandClock, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.write_text("1\n")
    place.mkdir(mode=0o700)
    for name in ("lock", "creation"):
        (place / name).symlink_to(target)
        with pytest.raises(StorageError):
            DataDir.open(place, clock=clock)
        (place / name).unlink()
    assert target.read_text() == "1\n"


def test_what_a_killed_writer_left_is_removed(place: Path, clock: HandClock) -> None:
    with DataDir.open(place, clock=clock) as directory:
        leftover = directory.path / ".barrel_p2p-0123456789abcdef.tmp"
        leftover.write_bytes(b"half")
    with DataDir.open(place, clock=clock):
        assert not leftover.exists()


def test_nonsense_in_the_lock_file_does_not_hide_the_conflict(
    place: Path, clock: HandClock
) -> None:
    with DataDir.open(place, clock=clock) as directory:
        for content in (b"", b"x", b"9" * 200):
            (directory.path / "lock").write_bytes(content)
            with pytest.raises(Conflict, match="in use by another process"):
                DataDir.open(place, clock=clock)


def test_a_control_socket_s_path_is_short_enough_or_elsewhere(
    tmp_path: Path, clock: HandClock
) -> None:
    with DataDir.open(tmp_path / "d", clock=clock) as directory:
        if len(os.fsencode(directory.path / "ctl.sock")) <= SOCKET_PATH_BYTES_MAX:
            assert directory.control_socket({}) == directory.path / "ctl.sock"
    long_name = "a" * (NODE_NAME_BYTES_MAX - 2) + "@h"
    sockets = set()
    for place in (tmp_path / long_name, tmp_path / "x" / long_name):
        with DataDir.open(place, clock=clock) as directory:
            path = directory.control_socket({"XDG_RUNTIME_DIR": "/run/user/1000"})
            assert path.parent == Path("/run/user/1000")
            sockets.add(path)
            for runtime in ("", "relative", "/" + "r" * 99):
                with pytest.raises(ConfigError, match="SOCKET_PATH_BYTES_MAX=100"):
                    directory.control_socket({"XDG_RUNTIME_DIR": runtime})
    assert len(sockets) == 2
