"""Small files written whole or not at all, and read without trusting what is there.

A write goes to a new file beside the target, is flushed to the disk and renamed over
it: after a crash there is the old file or the new one, never half of either. The new
file is opened so that nobody can slip a link under it, and is private from its first
byte. A read follows no link, waits for no pipe and takes at most ``bytes_max`` bytes.

Source: POSIX.1-2017, open (O_EXCL, O_NOFOLLOW), rename, fsync.
"""

from __future__ import annotations

import errno
import os
import secrets
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from barrel_p2p.errors import StorageError

__all__ = [
    "PRIVATE_MODE",
    "PUBLIC_MODE",
    "TEMPORARY_PREFIX",
    "TEMPORARY_SUFFIX",
    "check_private_file",
    "ensure_private_directory",
    "read_file",
    "remove_file",
    "remove_leftovers",
    "rename_durable",
    "sync_directory",
    "write_atomic",
]

PRIVATE_MODE = 0o600
PUBLIC_MODE = 0o644

TEMPORARY_PREFIX = ".barrel_p2p-"
TEMPORARY_SUFFIX = ".tmp"
"""Around the names of files that are not yet whole; ``remove_leftovers`` removes them,
and what others have put beside them with a longer name."""

_DIRECTORY_MODE = 0o700
_CHUNK_BYTES = 65_536


def write_atomic(path: Path, data: bytes, *, mode: int = PRIVATE_MODE) -> None:
    """Replace the content of ``path``, or create it, in one step that survives a crash.

    A link at ``path`` is replaced and what it leads to is left alone.

    Args:
        path: In a directory that exists.
        data: The whole new content.
        mode: Permission bits, whatever the umask.

    Raises:
        StorageError: A step failed. ``path`` holds what it held before, or, if only
            the last flush of the directory failed, the new content.
    """
    with _blaming("write", path), _opened_directory(path.parent) as parent:
        temporary = f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        new = os.open(temporary, flags, PRIVATE_MODE, dir_fd=parent)
        try:
            with os.fdopen(new, "wb") as file:
                os.fchmod(new, mode)
                file.write(data)
                file.flush()
                os.fsync(new)
            os.rename(temporary, path.name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise
        os.fsync(parent)


def read_file(path: Path, *, bytes_max: int, private: bool = False) -> bytes:
    """Return the content of a regular file.

    Args:
        path: The file itself; a link is refused.
        bytes_max: The largest content accepted, in bytes.
        private: Refuse a file that others may read or write, or that is theirs.

    Raises:
        StorageError: The file is missing, unreadable, larger than ``bytes_max``, no
            regular file, or not private although it should be.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    with _blaming("read", path):
        file = os.open(path, flags)
        try:
            _check_file(path, os.fstat(file), private=private)
            data = _read_at_most(file, bytes_max + 1)
        finally:
            os.close(file)
    if len(data) > bytes_max:
        raise StorageError(f"{path} is larger than bytes_max={bytes_max}")
    return data


def rename_durable(source: Path, target: Path) -> None:
    """Move ``source`` over ``target`` in the same directory, and flush the directory.

    Raises:
        StorageError: A step failed; nothing moved, or only the flush failed.
    """
    with _blaming("rename", source), _opened_directory(target.parent) as parent:
        os.rename(source.name, target.name, src_dir_fd=parent, dst_dir_fd=parent)
        os.fsync(parent)


def remove_file(path: Path) -> None:
    """Remove ``path``, or the link that it is, if it exists.

    Raises:
        StorageError: It could not be removed, for instance because it is a directory.
    """
    with _blaming("remove", path):
        path.unlink(missing_ok=True)


def remove_leftovers(directory: Path) -> None:
    """Remove what writes to ``directory`` left behind when the process was killed.

    Only for a directory that no other process writes to at the same time.

    Raises:
        StorageError: The directory could not be read, or a file not removed.
    """
    pattern = f"{TEMPORARY_PREFIX}*{TEMPORARY_SUFFIX}*"
    with _blaming("clean", directory):
        for leftover in list(directory.glob(pattern)):
            remove_file(leftover)


def check_private_file(path: Path) -> None:
    """Refuse ``path`` unless it is a regular file of ours that nobody else may touch.

    Raises:
        StorageError: It is missing, a link, no regular file, or others have access.
    """
    with _blaming("open", path):
        found = path.lstat()
    _check_file(path, found, private=True)


def ensure_private_directory(path: Path) -> None:
    """Create ``path`` and its missing parents with mode 0700, or check what is there.

    Raises:
        StorageError: ``path`` is a link or no directory, belongs to another user, may
            be written to by others, or could not be created.
    """
    with _blaming("create", path):
        for directory in (*reversed(path.absolute().parents), path):
            if not os.path.lexists(directory):
                with suppress(FileExistsError):
                    directory.mkdir(mode=_DIRECTORY_MODE)
                sync_directory(directory.parent)
        found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise StorageError(
            f"{path} is {_kind(found)}, not a directory",
            hint="Name the directory itself, or move that out of the way.",
        )
    _check_owner(path, found)
    if found.st_mode & 0o022:
        raise StorageError(
            f"others may write to {path}: its mode is {_mode(found)}",
            hint=f"chmod 700 {shlex.quote(str(path))}",
        )


@contextmanager
def _blaming(verb: str, path: Path) -> Iterator[None]:
    """Turn what the system says into a StorageError that names ``path``."""
    try:
        yield
    except OSError as error:
        # Opening without following links is what makes ELOOP mean this.
        link = error.errno == errno.ELOOP
        reason = "it is a symbolic link" if link else error.strerror
        hint = "Put the file itself there." if link else None
        raise StorageError(f"cannot {verb} {path}: {reason}", hint=hint) from error
    except ValueError as error:
        raise StorageError(f"cannot {verb} {str(path)!r}: {error}") from error


@contextmanager
def _opened_directory(path: Path) -> Iterator[int]:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield directory
    finally:
        os.close(directory)


def sync_directory(path: Path) -> None:
    """Flush the names in ``path`` to the disk.

    Raises:
        StorageError: It could not be opened or flushed.
    """
    with _blaming("flush", path), _opened_directory(path) as directory:
        os.fsync(directory)


def _read_at_most(file: int, n: int) -> bytes:
    data = bytearray()
    while len(data) < n and (chunk := os.read(file, min(_CHUNK_BYTES, n - len(data)))):
        data += chunk
    return bytes(data)


def _check_file(path: Path, found: os.stat_result, *, private: bool) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise StorageError(f"{path} is {_kind(found)}, not a regular file")
    if not private:
        return
    _check_owner(path, found)
    if found.st_mode & 0o077:
        raise StorageError(
            f"{path} is private, but others have access: its mode is {_mode(found)}",
            hint=f"chmod 600 {shlex.quote(str(path))}",
        )


def _check_owner(path: Path, found: os.stat_result) -> None:
    if found.st_uid not in (os.geteuid(), 0):
        raise StorageError(
            f"{path} belongs to user {found.st_uid}, not to us (user {os.geteuid()})",
            hint=f"chown {os.geteuid()} {shlex.quote(str(path))}",
        )


def _mode(found: os.stat_result) -> str:
    return f"{stat.S_IMODE(found.st_mode):04o}"


def _kind(found: os.stat_result) -> str:
    kinds = {
        stat.S_IFDIR: "a directory",
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFREG: "a file",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
    }
    return kinds.get(stat.S_IFMT(found.st_mode), "a device")
