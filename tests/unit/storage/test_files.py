"""A file is written whole, private and durable, or not at all."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from barrel_p2p.errors import StorageError
from barrel_p2p.storage.files import (
    PUBLIC_MODE,
    ensure_private_directory,
    read_file,
    remove_file,
    remove_leftovers,
    rename_durable,
    write_atomic,
)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture(params=[0o000, 0o022, 0o277])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_a_new_file_has_mode_0600_whatever_the_umask(tmp_path: Path) -> None:
    """FIL-01: mode 0600 and the content."""
    path = tmp_path / "secret"
    write_atomic(path, b"content")
    assert mode_of(path) == 0o600
    assert path.read_bytes() == b"content"


@pytest.mark.usefixtures("umask")
def test_a_public_file_gets_the_mode_it_asks_for(tmp_path: Path) -> None:
    path = tmp_path / "public"
    write_atomic(path, b"", mode=PUBLIC_MODE)
    assert mode_of(path) == 0o644


def test_the_second_write_wins_and_closes_an_open_mode(tmp_path: Path) -> None:
    """FIL-03: overwriting replaces content and mode, and leaves nothing beside it."""
    path = tmp_path / "secret"
    path.write_bytes(b"a longer first content")
    path.chmod(0o666)
    write_atomic(path, b"second")
    assert path.read_bytes() == b"second"
    assert mode_of(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_directory_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    """FIL-04: the directory is not there."""
    path = tmp_path / "missing" / "secret"
    with pytest.raises(StorageError, match=r"cannot write .*secret: No such file"):
        write_atomic(path, b"content")
    assert not path.parent.exists()


@pytest.mark.parametrize("name", ["n" * 256, "a\0b"])
def test_an_impossible_name_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(StorageError, match="cannot write"):
        write_atomic(tmp_path / name, b"content")
    assert list(tmp_path.iterdir()) == []


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 255)
    write_atomic(path, b"content")
    assert read_file(path, bytes_max=7, private=True) == b"content"


def test_content_is_on_disk_before_its_name_and_the_name_before_we_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename, open_ = os.fsync, os.rename, os.open

    def record_fsync(fd: int) -> None:
        fsync(fd)
        found = os.fstat(fd)
        directory = stat.S_ISDIR(found.st_mode)
        steps.append(f"flush {'directory' if directory else found.st_size}")

    def record_rename(source: str, target: str, **fds: int) -> None:
        rename(source, target, **fds)
        steps.append(f"rename to {target}")

    def record_open(path: str, flags: int, *rest: int, **fd: int) -> int:
        if flags & os.O_CREAT:
            steps.append(f"create {flags & (os.O_EXCL | os.O_NOFOLLOW):#x} {rest}")
        return open_(path, flags, *rest, **fd)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "rename", record_rename)
    monkeypatch.setattr(os, "open", record_open)
    write_atomic(tmp_path / "file", bytes(70))
    assert steps == [
        f"create {os.O_EXCL | os.O_NOFOLLOW:#x} ({0o600},)",
        "flush 70",
        "rename to file",
        "flush directory",
    ]


def test_a_reader_never_sees_half_a_write(tmp_path: Path) -> None:
    path, contents = tmp_path / "file", [b"a" * 100_000, b"b" * 50_000]
    write_atomic(path, contents[0])
    done = threading.Event()

    def write() -> None:
        for turn in range(40):
            write_atomic(path, contents[turn % 2])
        done.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not done.is_set():
        seen.add(read_file(path, bytes_max=200_000))
    writer.join()
    assert seen <= set(contents)


def test_what_fits_exactly_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, bytes(200_000))
    assert read_file(path, bytes_max=200_000) == bytes(200_000)
    with pytest.raises(StorageError, match="larger than bytes_max=199999"):
        read_file(path, bytes_max=199_999)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot read .*nothing: No such file"):
        read_file(tmp_path / "nothing", bytes_max=10)


def test_rename_moves_over_the_target(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"new")
    target.write_bytes(b"old")
    rename_durable(source, target)
    assert target.read_bytes() == b"new"
    with pytest.raises(StorageError, match=r"cannot rename .*source"):
        rename_durable(source, target)


def test_remove_is_content_when_there_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    remove_file(path)
    remove_file(path)
    assert not path.exists()
    with pytest.raises(StorageError, match="cannot remove"):
        remove_file(tmp_path)


def test_leftovers_go_and_everything_else_stays(tmp_path: Path) -> None:
    (tmp_path / ".barrel_p2p-0123456789abcdef.tmp").touch()
    kept = [tmp_path / ".barrel_p2p-notes", tmp_path / "a.tmp"]
    for path in kept:
        path.touch()
    remove_leftovers(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_a_private_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    ensure_private_directory(path)
    ensure_private_directory(path)
    assert mode_of(path) == mode_of(path.parent) == 0o700


def test_a_relative_directory_is_made_below_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ensure_private_directory(Path("a/b"))
    assert (tmp_path / "a" / "b").is_dir()


def test_a_directory_that_others_may_only_read_is_accepted(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    ensure_private_directory(tmp_path)
    assert mode_of(tmp_path) == 0o755
