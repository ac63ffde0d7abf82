"""The passive view, plainly: dicts, which keep the order in which nodes were met."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from barrel_p2p.core.names import Address
from barrel_p2p.core.rng import Rng
from barrel_p2p.membership.passive import BACKOFF_MS_MAX, SPARES_MAX
from barrel_p2p.membership.settings import Settings

__all__ = ["EntryModel", "PassiveModel"]

_REFUSED_MS: Final = 500
_REFUSALS_COUNTED: Final = 7
_DOUBLINGS_MAX: Final = 20


@dataclass(eq=False)
class EntryModel:
    """A replacement, and this node's own experience with it."""

    address: Address
    last_seen_ms: int
    proven: bool = False
    fail_count: int = 0
    refusals: int = 0
    backoff_until_ms: int = 0


class PassiveModel:
    """The passive view as dicts, and what is heard one by one."""

    def __init__(self, settings: Settings, rng: Rng) -> None:
        self._settings = settings
        self._rng = rng
        self._entries: dict[str, EntryModel] = {}
        self._may_have_failed = False  # False: no entry has a `fail_count`
        self._spares: dict[str, Address] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def get(self, name: str) -> EntryModel | None:
        return self._entries.get(name)

    def names(self) -> list[str]:
        return list(self._entries)

    def add(
        self, address: Address, now_ms: int, *, first_out: Iterable[str] = ()
    ) -> EntryModel | None:
        if self.renew(address):
            return None
        if len(self._entries) >= self._settings.passive_size:
            self._drop_one(first_out)
        self._entries[address.name] = entry = EntryModel(address, now_ms)
        return entry

    def renew(self, address: Address) -> bool:
        entry = self._entries.get(address.name)
        if entry is None:
            return False
        if not entry.proven or entry.fail_count:
            entry.address = address
        return True

    def hear_all(
        self,
        addresses: tuple[Address, ...],
        count: int,
        now_ms: int,
        *,
        barred: tuple[Mapping[str, object], ...],
        expiring: tuple[Mapping[str, int], ...],
        up: Mapping[str, object],
        first_out: Iterable[str] = (),
    ) -> int:
        found = 0
        for address in addresses[:count]:
            name = address.name
            if (
                self.renew(address)
                or any(name in table for table in barred)
                or any(now_ms < table.get(name, now_ms) for table in expiring)
            ):
                continue
            entry = self.add(address, now_ms, first_out=first_out)
            assert entry is not None
            entry.proven = name in up
            found += 1
        return found

    def met(self, address: Address, now_ms: int) -> EntryModel:
        entry = self._entries.get(address.name) or self.add(address, now_ms)
        assert entry is not None
        entry.address = address if address.port else entry.address
        entry.proven = True
        entry.last_seen_ms = now_ms
        entry.fail_count = 0
        return entry

    def pop(self, name: str) -> None:
        self._entries.pop(name, None)

    def clear(self) -> None:
        self._entries.clear()
        self._spares.clear()

    def take_spare(self) -> Address | None:
        return self._spares.popitem()[1] if self._spares else None

    def failed(self, name: str, now_ms: int) -> bool:
        entry = self._entries.get(name)
        if entry is None:
            return False
        entry.fail_count += 1
        self._may_have_failed = True
        if not entry.proven or entry.fail_count >= self._settings.max_fail_count:
            del self._entries[name]
            return True
        doubled = self._settings.base_backoff_ms << min(
            entry.fail_count, _DOUBLINGS_MAX
        )
        wait = min(doubled, BACKOFF_MS_MAX)
        entry.backoff_until_ms = now_ms + wait + self._rng.jitter(wait // 8)
        return False

    def refused(self, name: str, now_ms: int) -> None:
        entry = self._entries.get(name)
        if entry is None:
            return
        entry.refusals = min(entry.refusals + 1, _REFUSALS_COUNTED)
        wait = _REFUSED_MS << (entry.refusals - 1)
        entry.backoff_until_ms = now_ms + wait + self._rng.jitter(wait // 2)

    def eligible(self, now_ms: int, unfit: Container[str]) -> list[EntryModel]:
        return [
            entry
            for name, entry in self._entries.items()
            if entry.backoff_until_ms <= now_ms and name not in unfit
        ]

    def first_free_ms(self, unfit: Container[str], *, enough_ms: int) -> int | None:
        first_ms = None
        for name, entry in self._entries.items():
            free_ms = entry.backoff_until_ms
            if (first_ms is None or free_ms < first_ms) and name not in unfit:
                first_ms = free_ms
                if free_ms <= enough_ms:
                    break
        return first_ms

    def entries(self) -> list[EntryModel]:
        return list(self._entries.values())

    def sample(self, count: int, *, without: str = "") -> list[Address]:
        entries = self._entries
        if self._may_have_failed:
            known = [name for name, entry in entries.items() if not entry.fail_count]
            self._may_have_failed = len(known) < len(entries)
        else:
            known = list(entries)
        if without in entries and without in known:
            known.remove(without)
        return [entries[name].address for name in self._rng.sample(known, count)]

    def drop_aged(self, now_ms: int) -> int:
        oldest = now_ms - self._settings.passive_max_age_ms
        aged = [n for n, entry in self._entries.items() if entry.last_seen_ms < oldest]
        for name in aged:
            del self._entries[name]
        return len(aged)

    def _drop_one(self, first_out: Iterable[str]) -> None:
        entries = self._entries
        for name in first_out:
            if name in entries:
                break
        else:
            names = list(entries)
            name = names[self._rng.below(len(names))]
        dropped = entries.pop(name)
        if dropped.fail_count:
            return
        spares = self._spares
        spares.pop(name, None)
        spares[name] = dropped.address
        if len(spares) > SPARES_MAX:
            del spares[next(iter(spares))]
