"""The files behind the trust store: what they hold, and what is made of damaged ones.

``trusted/<name>.pub`` holds the 32 bytes of a key and works alone, so an operator can
copy it there. ``trusted/<name>.json`` says when and how the pin came about; it counts
only for the key whose fingerprint it holds. ``revoked/<name>.json`` outlives the pin.

A name is a file name as it is: it has no ``/``, starts with no dot, and with a suffix
it is shorter than any file system's limit. Files of other names are left alone.

Bounded by ``RECORD_BYTES_MAX``.

Source: Barrel P2P documentation, "Managing node keys".
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec

from barrel_p2p.auth.signing import KEY_BYTES, fingerprint, is_public_key
from barrel_p2p.core.names import node_name
from barrel_p2p.errors import InvalidValue, StorageError
from barrel_p2p.storage.files import (
    ensure_private_directory,
    read_file,
    remove_file,
    remove_leftovers,
    write_atomic,
)

__all__ = [
    "RECORD_BYTES_MAX",
    "PinFiles",
    "PinnedKey",
    "RevocationFiles",
    "TrustLevel",
]

RECORD_BYTES_MAX: Final = 65_536
"""Size of a file that holds metadata."""

type TrustLevel = Literal["tofu", "permanent"]

_KEY_SUFFIX: Final = ".pub"
_RECORD_SUFFIX: Final = ".json"

_log = logging.getLogger("barrel_p2p.auth")


@dataclass(frozen=True, slots=True)
class PinnedKey:
    """A pin.

    Args:
        node: Node name.
        key: Its public key, 32 bytes.
        level: ``tofu`` if pinned at first contact, ``permanent`` if by an operator.
        added_at: When, in ms since 1970. That of the file if nobody wrote it down.
        last_seen: When the node was last admitted, in ms since 1970; 0 if never.
    """

    node: str
    key: bytes
    level: TrustLevel
    added_at: int
    last_seen: int


class _Metadata(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    fingerprint: str
    level: TrustLevel
    added_at: int
    last_seen: int


class _Revocation(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    revoked_at: int
    keys: list[str]  # in hexadecimal digits


class PinFiles:
    """The directory ``trusted``.

    Args:
        directory: Made with mode 0700 if missing; nobody else writes to it now.

    Raises:
        StorageError: It cannot be made or is open to others.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        ensure_private_directory(directory)
        remove_leftovers(directory)

    def names(self) -> Iterator[str]:
        """The names that something is pinned for.

        Raises:
            StorageError: The directory cannot be read.
        """
        return _names(self._directory, _KEY_SUFFIX)

    def read(self, name: str) -> PinnedKey | None:
        """What is pinned for ``name``; None only if the file is not there.

        Raises:
            StorageError: It is there and cannot be read, or holds no valid key.
        """
        path = self._directory / f"{name}{_KEY_SUFFIX}"
        modified_ms = _modified_ms(path)
        if modified_ms is None:
            return None
        key = read_file(path, bytes_max=KEY_BYTES)
        if not is_public_key(key):
            raise StorageError(
                f"{path} holds {len(key)} bytes that are no Ed25519 public key",
                hint="Put the peer's node.pub there, or remove the file.",
            )
        known = self._metadata(name, key)
        if known is None:
            return PinnedKey(name, key, "permanent", modified_ms, 0)
        return PinnedKey(name, key, known.level, known.added_at, known.last_seen)

    def write(self, pinned: PinnedKey) -> None:
        """Store a pin, synced.

        Raises:
            StorageError: A step failed. What was pinned before still is, or, if only
                the last sync failed, the new pin.
        """
        # The key goes last: without it there is no pin, and without its metadata a pin
        # would pass for an operator's.
        self.write_metadata(pinned)
        write_atomic(self._directory / f"{pinned.node}{_KEY_SUFFIX}", pinned.key)

    def write_metadata(self, pinned: PinnedKey) -> None:
        """Store what is known about a pin, but not the pin.

        Raises:
            StorageError: A step failed.
        """
        record = _Metadata(
            fingerprint(pinned.key).ssh,
            pinned.level,
            pinned.added_at,
            pinned.last_seen,
        )
        write_atomic(self._record_file(pinned.node), msgspec.json.encode(record))

    def remove(self, name: str) -> None:
        """Remove the pin of ``name``, if there is one.

        Raises:
            StorageError: A file could not be removed.
        """
        remove_file(self._directory / f"{name}{_KEY_SUFFIX}")
        remove_file(self._record_file(name))

    def _metadata(self, name: str, key: bytes) -> _Metadata | None:
        path = self._record_file(name)
        try:
            if _modified_ms(path) is None:
                return None
            data = read_file(path, bytes_max=RECORD_BYTES_MAX)
            record = msgspec.json.decode(data, type=_Metadata)
        except (StorageError, msgspec.DecodeError) as error:
            _log.warning("%s is of no use and is ignored: %s", path, error)
            return None
        # An operator has replaced the key, and this is about the last one.
        return record if record.fingerprint == fingerprint(key).ssh else None

    def _record_file(self, name: str) -> Path:
        return self._directory / f"{name}{_RECORD_SUFFIX}"


class RevocationFiles:
    """The directory ``revoked``.

    Args:
        directory: Made with mode 0700 if missing; nobody else writes to it now.

    Raises:
        StorageError: It cannot be made or is open to others.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        ensure_private_directory(directory)
        remove_leftovers(directory)

    def read_all(self) -> dict[str, frozenset[bytes]]:
        """Every revoked name with its revoked keys.

        A damaged file still revokes its name.

        Raises:
            StorageError: The directory cannot be read.
        """
        return {n: self._keys(n) for n in _names(self._directory, _RECORD_SUFFIX)}

    def changed_ns(self) -> int:
        """When a file was last put here or taken away, in ns of the wall clock.

        Raises:
            StorageError: The directory cannot be looked at.
        """
        try:
            return self._directory.stat().st_mtime_ns
        except OSError as error:
            text = f"cannot look at {self._directory}: {error.strerror}"
            raise StorageError(text) from error

    def write(self, name: str, keys: frozenset[bytes], now_ms: int) -> None:
        """Store a revocation, synced.

        Raises:
            StorageError: A step failed; nothing changed, or only the sync failed.
        """
        record = _Revocation(now_ms, sorted(key.hex() for key in keys))
        write_atomic(self._file(name), msgspec.json.encode(record))

    def remove(self, name: str) -> None:
        """Remove the revocation of ``name``, if there is one.

        Raises:
            StorageError: The file could not be removed.
        """
        remove_file(self._file(name))

    def _keys(self, name: str) -> frozenset[bytes]:
        try:
            data = read_file(self._file(name), bytes_max=RECORD_BYTES_MAX)
            record = msgspec.json.decode(data, type=_Revocation)
            return frozenset(bytes.fromhex(key) for key in record.keys)
        except (StorageError, ValueError) as error:
            _log.error("%s is damaged; only the name is revoked: %s", name, error)
            return frozenset()

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}{_RECORD_SUFFIX}"


def _names(directory: Path, suffix: str) -> Iterator[str]:
    try:
        found = sorted(path.name for path in directory.iterdir())
    except OSError as error:
        raise StorageError(f"cannot list {directory}: {error.strerror}") from error
    for file_name in found:
        name = file_name.removesuffix(suffix)
        if name == file_name:
            continue
        if _is_node_name(name):
            yield name
        else:
            _log.warning("%s: %r is no node name; ignored", directory, name)


def _is_node_name(text: str) -> bool:
    try:
        return node_name(text) == text
    except InvalidValue:
        return False


def _modified_ms(path: Path) -> int | None:
    """When ``path`` was written; None only if it is not there."""
    try:
        return path.lstat().st_mtime_ns // 1_000_000
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"cannot look at {path}: {error.strerror}") from error
