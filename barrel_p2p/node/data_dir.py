"""What one node keeps on disk, and that only one process at a time keeps it.

The directory is for its owner alone. A lock on ``lock`` lasts as long as the process,
however that ends, and the file names its process. ``creation`` tells one life of the
node from the next: it grows with every start, also when the clock went back, and is on
the disk before anybody can have heard of it.

Source: Erlang/OTP, distribution protocol (creation); XDG Base Directory Specification.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, final

import filelock

from barrel_p2p.core.clock import WallClock
from barrel_p2p.errors import ConfigError, Conflict, NotStarted, StorageError
from barrel_p2p.storage.files import (
    ensure_private_directory,
    read_file,
    remove_leftovers,
    write_atomic,
)

__all__ = [
    "CREATION_EPOCH_S",
    "CREATION_MAX",
    "SOCKET_PATH_BYTES_MAX",
    "DataDir",
    "next_creation",
    "socket_path",
]

CREATION_EPOCH_S = 1_700_000_000
CREATION_MAX = 2**32 - 1
# A Unix socket's path has 108 bytes, and some clients append to it.
SOCKET_PATH_BYTES_MAX = 100

_LOCK_BYTES_MAX = 64
_CREATION_BYTES_MAX = 16
_PRIVATE_MODE = 0o600


def next_creation(stored: int | None, *, wall_ms: int) -> int:
    """The creation of the life that starts now.

    Args:
        stored: That of the life before, or None for the first.
        wall_ms: The wall clock. Where it went back, the count goes on by one.

    Returns:
        1 to ``CREATION_MAX``, more than ``stored``.

    Raises:
        StorageError: There is no such number left.
    """
    floor = 1 if stored is None else stored + 1
    creation = max(floor, wall_ms // 1_000 - CREATION_EPOCH_S)
    if creation > CREATION_MAX:
        raise StorageError(
            f"creation {creation} exceeds CREATION_MAX={CREATION_MAX}",
            hint="set the clock, and start the node under another name",
        )
    return creation


def socket_path(directory: Path, environment: Mapping[str, str] | None = None) -> Path:
    """Where the node whose data is in ``directory`` takes commands from this host.

    Args:
        directory: Absolute. Whether a node runs there does not matter.
        environment: As for ``DataDir.control_socket``.

    Raises:
        ConfigError: As for ``DataDir.control_socket``.
    """
    near = directory / "ctl.sock"
    if len(os.fsencode(near)) <= SOCKET_PATH_BYTES_MAX:
        return near
    environment = os.environ if environment is None else environment
    runtime = Path(environment.get("XDG_RUNTIME_DIR", ""))
    mark = hashlib.sha256(os.fsencode(directory)).hexdigest()[:16]
    far = runtime / f"barrel_p2p-{mark}.sock"
    if runtime.is_absolute() and len(os.fsencode(far)) <= SOCKET_PATH_BYTES_MAX:
        return far
    raise ConfigError(
        f"the path of a control socket in {directory} exceeds "
        f"SOCKET_PATH_BYTES_MAX={SOCKET_PATH_BYTES_MAX}",
        hint="choose a shorter data_dir, or set XDG_RUNTIME_DIR",
    )


@final
class DataDir:
    """The locked directory of one node: ``with DataDir.open(...) as directory``.

    Args:
        path: Absolute; exists, is private and is locked by ``lock``.
        lock: Held until ``close``.
        creation: Of this life, and on the disk already.
    """

    def __init__(
        self, path: Path, *, lock: filelock.BaseFileLock, creation: int
    ) -> None:
        self._path = path
        self._lock = lock
        self._creation = creation

    @classmethod
    def open(cls, path: Path, *, clock: WallClock) -> Self:
        """Make the directory if need be, lock it and begin a new life in it.

        Args:
            path: Where; a relative one stays what it is now, wherever the process goes.
            clock: Read once, for the creation.

        Raises:
            Conflict: Another process, or another node of this one, has it; the text
                names the process. Nothing was changed.
            StorageError: It cannot be made, others have access to it, or what it
                holds is not valid. The lock is not held.
        """
        path = path.absolute()
        ensure_private_directory(path)
        _check_mode(path)
        lock = _locked(path)
        try:
            remove_leftovers(path)
            creation = next_creation(
                _stored_creation(path / "creation"), wall_ms=clock.wall_ms()
            )
            write_atomic(path / "creation", f"{creation}\n".encode("ascii"))
        except BaseException:
            lock.release()
            raise
        return cls(path, lock=lock, creation=creation)

    def close(self) -> None:
        """Let another process have the directory. Twice does no harm."""
        self._lock.release()

    def __enter__(self) -> Self:
        if not self._lock.is_locked:
            raise NotStarted(f"the data directory {self._path} is closed")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The directory, absolute."""
        return self._path

    @property
    def creation(self) -> int:
        """Of this life: 1 to ``CREATION_MAX``, more than that of any life before."""
        return self._creation

    @property
    def keys(self) -> Path:
        """Key pair, pins and revoked keys, unless ``auth_key_dir`` says otherwise."""
        return self._path / "keys"

    @property
    def quic(self) -> Path:
        """The transport's certificate, unless ``quic_cert_dir`` says otherwise."""
        return self._path / "quic"

    @property
    def reminders(self) -> Path:
        """The store of reminders, unless ``reminder_data_dir`` says otherwise."""
        return self._path / "reminders"

    @property
    def maps(self) -> Path:
        """Stores of maps, unless ``barrel_p2p_map_data_dir`` says otherwise."""
        return self._path / "maps"

    @property
    def backups(self) -> Path:
        """What a rotation of keys put aside."""
        return self._path / "backups"

    @property
    def reset_seed(self) -> Path:
        """The secret behind stateless resets."""
        return self._path / "reset_seed"

    @property
    def hlc_bound(self) -> Path:
        """What the hybrid clock of the next life starts from."""
        return self._path / "hlc_bound"

    @property
    def peers(self) -> Path:
        """Peers to try at the next start."""
        return self._path / "peers.json"

    def resolve(self, path: str) -> Path:
        """``path`` where it is absolute, else under this directory."""
        return self._path / path

    def control_socket(self, environment: Mapping[str, str] | None = None) -> Path:
        """Where the node takes commands from this host.

        Args:
            environment: Where ``XDG_RUNTIME_DIR`` is looked for when the path in this
                directory exceeds ``SOCKET_PATH_BYTES_MAX`` bytes; None is the
                process's own.

        Raises:
            ConfigError: That is needed, and not set or too long itself.
        """
        return socket_path(self._path, environment)


def _check_mode(path: Path) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise StorageError(
            f"others have access to the data directory {path}: its mode is {mode:04o}",
            hint=f"chmod 700 {shlex.quote(str(path))}",
        )


def _locked(directory: Path) -> filelock.BaseFileLock:
    path = directory / "lock"
    lock = filelock.FileLock(path, timeout=0, mode=_PRIVATE_MODE, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout as error:
        raise Conflict(
            f"the data directory {directory} is in use by {_holder(path)}",
            hint="stop that process, or give each node a data_dir of its own",
        ) from error
    except OSError as error:
        raise StorageError(f"cannot lock {path}: {error.strerror}") from error
    try:
        _write_holder(path)
    except BaseException:
        lock.release()
        raise
    return lock


def _write_holder(path: Path) -> None:
    # In place: a new file under this name would not be the one that is locked.
    try:
        file = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.write(file, f"{os.getpid()}\n".encode("ascii"))
        finally:
            os.close(file)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def _holder(path: Path) -> str:
    """Who holds the lock, as far as the file says; it may be a moment behind."""
    try:
        text = read_file(path, bytes_max=_LOCK_BYTES_MAX).strip()
    except StorageError:
        text = b""
    return f"process {int(text)}" if text.isdigit() else "another process"


def _stored_creation(path: Path) -> int | None:
    if not os.path.lexists(path):
        return None
    text = read_file(path, bytes_max=_CREATION_BYTES_MAX).strip()
    if not text.isdigit() or int(text) > CREATION_MAX:
        raise StorageError(
            f"{path} holds {text!r}, which is no creation",
            hint=(
                f"if this host's clock is right, remove {path}: the next start counts "
                "from the clock"
            ),
        )
    return int(text)
