"""Which key belongs to which name: pins, revocations, and what they mean.

A pin that is there but cannot be read refuses its name: taking it for nothing would pin
the next key that comes along. What an operator copies to ``trusted`` at run time is
noticed when a name is not known or its key does not fit; what is copied to ``revoked``,
at the next question about any name. A file that is removed by hand keeps its effect
until the node starts again; ``delete_key`` and ``unrevoke`` work at once.

Bounded by ``PINS_MAX`` and ``REVOKED_KEYS_MAX``.

Source: Barrel P2P documentation, "Authentication", "Managing node keys".
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

from barrel_p2p.auth.pin_files import (
    PinFiles,
    PinnedKey,
    RevocationFiles,
    TrustLevel,
)
from barrel_p2p.auth.signing import Fingerprint, fingerprint, is_public_key
from barrel_p2p.auth.verdict import Verdict
from barrel_p2p.core.clock import WallClock
from barrel_p2p.core.names import node_name
from barrel_p2p.errors import InvalidValue, KeyMismatch, RevokedKey, StorageError

__all__ = [
    "LAST_SEEN_STEP_MS",
    "PINS_MAX",
    "REVOKED_KEYS_MAX",
    "Fingerprint",
    "PinnedKey",
    "TrustLevel",
    "TrustMode",
    "TrustStore",
    "Verdict",
    "fingerprint",
]

type TrustMode = Literal["tofu", "strict"]

PINS_MAX: Final = 16_384
"""Pins of one node. A member of the cluster can make up any number of names."""

REVOKED_KEYS_MAX: Final = 64
"""Revoked keys of one name."""

LAST_SEEN_STEP_MS: Final = 3_600_000
"""How much later a node has to be seen again before it is written down."""

_NONE: Final[frozenset[bytes]] = frozenset()
_SETTLED_NS: Final = (
    2_000_000_000  # No copy of a small file, and no clock, takes longer.
)

_log = logging.getLogger("barrel_p2p.auth")


class TrustStore:
    """The pins of one node.

    Reads are for the loop's thread; whatever writes may also run in another thread.

    Args:
        directory: The key directory. ``trusted`` and ``revoked`` are made in it.
        mode: ``tofu`` pins the first key seen for a name; ``strict`` wants every key
            to be here beforehand.
        clock: For the times of pins.

    Raises:
        InvalidValue: ``mode`` is neither.
        StorageError: A directory cannot be made, read, or is open to others.
    """

    def __init__(self, directory: Path, *, mode: str, clock: WallClock) -> None:
        self._mode = _checked_mode(mode)
        self._clock = clock
        self._pin_files = PinFiles(directory / "trusted")
        self._revocation_files = RevocationFiles(directory / "revoked")
        self._pins: dict[str, PinnedKey] = {}
        self._revocations: dict[str, frozenset[bytes]] = {}
        self._revoked_keys: frozenset[bytes] = frozenset()
        self._listeners: list[Callable[[str, bytes | None], None]] = []
        # Two first contacts may be pinned in two threads at once.
        self._writing = threading.Lock()
        # Held for no longer than it takes to change the tables.
        self._replacing = threading.Lock()
        self._pins_written = 0
        self._revoked_changed_ns = -1
        self._undone = 0
        self._look_for_revocations()
        self._load_pins()

    # What a handshake asks.

    def check(self, name: str, key: bytes | None) -> Verdict:
        """What is known of ``name`` with ``key``; None when only the cookie counts.

        Guarantee:
            Never raises. Whatever cannot be read is not taken for absent.
        """
        if self.is_revoked(name, key):
            return Verdict.REVOKED
        if key is None:
            return Verdict.TRUSTED
        try:
            pinned = self._current(name, key)
        except StorageError as error:
            _log.error("the pin of %s cannot be used: %s", name, error)
            return Verdict.UNREADABLE
        if pinned is not None:
            return Verdict.TRUSTED if pinned.key == key else Verdict.MISMATCH
        return Verdict.FIRST_CONTACT if self._mode == "tofu" else Verdict.UNKNOWN

    def pin(self, name: str, key: bytes) -> None:
        """Pin ``key`` for ``name`` at first contact, whatever the mode.

        Raises:
            KeyMismatch: Another key is pinned. It stays.
            RevokedKey: The name or the key is revoked.
            InvalidValue: ``name`` is no node name or ``key`` no valid key.
            StorageError: It could not be stored, or ``PINS_MAX`` is reached.

        Guarantee:
            On return the pin is on the disk and synced. After an error nothing is
            pinned in memory; the next check looks at what the disk holds.
        """
        self._pin_if_new(node_name(name), key, "tofu")

    def is_due(self, name: str) -> bool:
        """Whether ``seen`` would write: not if it did within the last hour."""
        pinned = self._pins.get(name)
        if pinned is None:
            return False
        return abs(self._clock.wall_ms() - pinned.last_seen) >= LAST_SEEN_STEP_MS

    def seen(self, name: str) -> None:
        """Note that ``name`` was admitted now, if ``is_due`` says so.

        It syncs the disk, which is nothing for the thread of a loop.
        """
        with self._writing:
            if not self.is_due(name):
                return
            now_ms = self._clock.wall_ms()
            with self._replacing:
                renewed = replace(self._pins[name], last_seen=now_ms)
                self._pins[name] = renewed
            try:
                self._pin_files.write_metadata(renewed)
            except StorageError as error:
                # Worth a word, but no reason to refuse a peer that proved everything.
                _log.warning("cannot note when %s was last seen: %s", name, error)

    # What an operator asks.

    def store_key(self, node: str, pub: bytes) -> None:
        """Pin ``pub`` for ``node`` for good, in place of whatever is pinned.

        Raises:
            InvalidValue: ``node`` is no node name, or ``pub`` no valid key.
            RevokedKey: The name or the key is revoked; ``unrevoke`` it first.
            StorageError: It could not be stored, or ``PINS_MAX`` is reached.
        """
        name = node_name(node)
        self._notice_revocations()
        with self._writing:
            self._check_key(name, pub)
            now_ms = self._clock.wall_ms()
            self._store(PinnedKey(name, pub, "permanent", now_ms, 0))

    def store_key_if_new(self, node: str, pub: bytes) -> bool:
        """Pin ``pub`` for ``node`` for good, unless something is pinned.

        Returns:
            Whether it was pinned now; False if the same key was pinned already.

        Raises:
            KeyMismatch: Another key is pinned. It stays.
            InvalidValue: ``node`` is no node name, or ``pub`` no valid key.
            RevokedKey: The name or the key is revoked; ``unrevoke`` it first.
            StorageError: It could not be stored, or ``PINS_MAX`` is reached.
        """
        return self._pin_if_new(node_name(node), pub, "permanent")

    def lookup_key(self, node: str) -> bytes | None:
        """The key pinned for ``node``, or None.

        Raises:
            InvalidValue: ``node`` is no node name.
            StorageError: Something is pinned, but cannot be read.
        """
        pinned = self._current(node_name(node), None)
        return None if pinned is None else pinned.key

    def lookup_pin(self, node: str) -> bytes | None:
        """The documentation's other name for ``lookup_key``."""
        return self.lookup_key(node)

    def delete_key(self, node: str) -> None:
        """Forget what is pinned for ``node``, if anything. No session is closed.

        Raises:
            InvalidValue: ``node`` is no node name.
            StorageError: A file could not be removed; the pin may still be there.
        """
        name = node_name(node)
        with self._writing:
            self._remove(name)

    def is_trusted(self, node: str, pub: bytes) -> bool:
        """Whether exactly ``pub`` is pinned for ``node`` and nothing is revoked.

        Raises:
            InvalidValue: ``node`` is no node name.
        """
        return self.check(node_name(node), pub) is Verdict.TRUSTED

    def list_trusted(self) -> list[PinnedKey]:
        """Every pin, by name, with what was copied to the directory since.

        Raises:
            StorageError: The directory cannot be read.
        """
        self._load_pins()
        return [self._pins[name] for name in sorted(self._pins)]

    def set_trust_mode(self, mode: TrustMode) -> None:
        """Choose between ``tofu`` and ``strict``, from the next handshake on.

        Raises:
            InvalidValue: ``mode`` is neither.
        """
        self._mode = _checked_mode(mode)

    def get_trust_mode(self) -> TrustMode:
        """The mode that the next handshake meets."""
        return self._mode

    @staticmethod
    def fingerprint(pub: bytes) -> Fingerprint:
        """SHA-256 of ``pub``; ``.ssh`` is its usual spelling.

        Raises:
            InvalidValue: ``pub`` does not have 32 bytes.
        """
        return fingerprint(pub)

    def revoke(self, name: str) -> None:
        """Refuse ``name``, and the key pinned for it under any name, from now on.

        Raises:
            InvalidValue: ``name`` is no node name.
            StorageError: It could not be stored. If only the pin could not be removed,
                the name is revoked all the same.

        Guarantee:
            On return it is on the disk and synced; listeners were told.
        """
        node = node_name(name)
        with self._writing:
            key = self._key_to_revoke(node)
            keys = self._revocations.get(node, frozenset())
            keys = keys if key is None else keys | {key}
            if len(keys) > REVOKED_KEYS_MAX:
                raise StorageError(
                    f"{len(keys)} revoked keys of {node} exceed "
                    f"REVOKED_KEYS_MAX={REVOKED_KEYS_MAX}"
                )
            self._revocation_files.write(node, keys, self._clock.wall_ms())
            self._add_revocations({node: keys})
        # Before the pin goes: nothing may go wrong between revoking and closing.
        for listener in list(self._listeners):
            listener(node, key)
        with self._writing:
            self._remove(node)

    def unrevoke(self, name: str) -> None:
        """Undo ``revoke``: ``name`` becomes unknown, and its keys usable.

        Raises:
            InvalidValue: ``name`` is no node name.
            StorageError: The file could not be removed; it stays revoked.
        """
        node = node_name(name)
        with self._writing:
            self._revocation_files.remove(node)
            with self._replacing:
                self._undone += 1
                left = {n: keys for n, keys in self._revocations.items() if n != node}
                self._set_revocations(left)

    def is_revoked(self, name: str, key: bytes | None) -> bool:
        """Whether ``name``, or ``key`` under whatever name, is revoked.

        Guarantee:
            What was copied to the directory before is known; listeners were told.
        """
        self._notice_revocations()
        return self._is_known_revoked(name, key)

    def list_revoked(self) -> list[str]:
        """The revoked names, sorted, with what was copied to the directory since."""
        self._notice_revocations()
        return sorted(self._revocations)

    def on_revoked(self, listener: Callable[[str, bytes | None], None]) -> None:
        """Call ``listener(name, key)`` after each revocation; key is None if unknown.

        It runs in the thread that revokes, or that noticed the file.
        """
        self._listeners.append(listener)

    def _current(self, name: str, key: bytes | None) -> PinnedKey | None:
        """What is pinned for ``name``, looked up again if it is not ``key``."""
        known = self._pins.get(name)
        if known is not None and key in (None, known.key):
            return known
        written = self._pins_written
        found = self._pin_files.read(name)
        if found is None or (known is not None and found.key == known.key):
            return known
        if known is not None:
            _log.warning("the pin of %s was replaced on the disk", name)
        self._remember(found, written)
        return found

    def _pin_if_new(self, name: str, key: bytes, level: TrustLevel) -> bool:
        self._notice_revocations()
        with self._writing:
            self._check_key(name, key)
            pinned = self._current(name, key)
            if pinned is None:
                now_ms = self._clock.wall_ms()
                last_seen = now_ms if level == "tofu" else 0
                self._store(PinnedKey(name, key, level, now_ms, last_seen))
                return True
        if pinned.key == key:
            return False
        held, shown = fingerprint(pinned.key), fingerprint(key)
        raise KeyMismatch(
            f"{name} showed the key {shown}, pinned is {held}",
            pinned=held,
            presented=shown,
            hint="Replace the pin if the key was changed on purpose.",
            peer=name,
        )

    def _check_key(self, name: str, key: bytes) -> None:
        fingerprint(key)  # Refuses what has another length.
        if not is_public_key(key):
            raise InvalidValue(f"{key.hex()} is no valid Ed25519 public key")
        if self._is_known_revoked(name, key):
            raise RevokedKey(
                f"{name} or the key {fingerprint(key)} is revoked",
                hint="Undo the revocation first.",
                peer=name,
            )

    def _store(self, pinned: PinnedKey) -> None:
        if pinned.node not in self._pins and len(self._pins) >= PINS_MAX:
            raise StorageError(
                f"the pin of {pinned.node} would exceed PINS_MAX={PINS_MAX}",
                hint="Delete pins of nodes that are gone.",
            )
        self._pin_files.write(pinned)
        with self._replacing:
            self._pins[pinned.node] = pinned
            self._pins_written += 1

    def _remove(self, name: str) -> None:
        self._pin_files.remove(name)
        with self._replacing:
            self._pins.pop(name, None)
            self._pins_written += 1

    def _remember(self, found: PinnedKey, written: int) -> None:
        """Keep what was read when ``written`` pins had been written."""
        with self._replacing:
            if written != self._pins_written:
                return  # By another thread, since the file was read.
            # What does not fit is read from the disk each time: slower, and as right.
            if found.node in self._pins or len(self._pins) < PINS_MAX:
                self._pins[found.node] = found

    def _load_pins(self) -> None:
        for name in self._pin_files.names():
            try:
                self._current(name, None)
            except StorageError as error:
                _log.error("nobody gets in as %s: %s", name, error)

    def _is_known_revoked(self, name: str, key: bytes | None) -> bool:
        return name in self._revocations or key in self._revoked_keys

    def _notice_revocations(self) -> None:
        """Take in what was copied to ``revoked``, and tell listeners of it."""
        try:
            found = self._look_for_revocations()
        except StorageError as error:
            _log.error("nothing new is revoked: %s", error)
            return
        for name, keys in found.items():
            _log.warning("%s was revoked on the disk", name)
            for key in (None, *sorted(keys)):
                for listener in list(self._listeners):
                    listener(name, key)

    def _look_for_revocations(self) -> dict[str, frozenset[bytes]]:
        """Read the directory again if it was changed; what is new since."""
        changed_ns = self._revocation_files.changed_ns()
        if changed_ns == self._revoked_changed_ns:
            return {}
        undone = self._undone
        found = self._revocation_files.read_all()
        # A file that is being copied may have its name now and its keys in a moment.
        settled = abs(time.time_ns() - changed_ns) > _SETTLED_NS
        with self._replacing:
            self._revoked_changed_ns = changed_ns if settled else -1
            if undone != self._undone:
                return {}  # One was undone meanwhile, and may be among them.
            known = self._revocations
            new = {n: ks for n, ks in found.items() if not ks <= known.get(n, _NONE)}
            new |= {n: ks for n, ks in found.items() if n not in known}
            self._merge_revocations(new)
        return new

    def _add_revocations(self, more: dict[str, frozenset[bytes]]) -> None:
        with self._replacing:
            self._merge_revocations(more)

    def _merge_revocations(self, more: dict[str, frozenset[bytes]]) -> None:
        if more:
            known = self._revocations
            merged = {n: ks | known.get(n, _NONE) for n, ks in more.items()}
            self._set_revocations({**known, **merged})

    def _set_revocations(self, revocations: dict[str, frozenset[bytes]]) -> None:
        self._revocations = revocations
        self._revoked_keys = frozenset().union(*revocations.values())

    def _key_to_revoke(self, name: str) -> bytes | None:
        try:
            pinned = self._current(name, None)
        except StorageError as error:
            _log.error("only the name %s is revoked: %s", name, error)
            return None
        return None if pinned is None else pinned.key


def _checked_mode(mode: str) -> TrustMode:
    match mode:
        case "tofu" | "strict":
            return mode
        case _:
            raise InvalidValue(f"trust mode {mode!r} is neither tofu nor strict")
