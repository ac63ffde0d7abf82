"""The registry: who may write what, what of it is shown, and what is told of it.

The map's key is (name, node), so that each node has one instance of a name and nobody
else writes it. Its value says in which life of the node it was written, and what::

    (creation, pid, meta)    the process to be found
    (creation, reason)       it is down; a tombstone follows after ``GRAVE_MS``

So the reason of an end travels in the entry itself, and no two messages have to meet.

Death is no write. What a dead node registered is hidden here, by everybody for himself,
and shown again if the verdict was wrong; when the node is gone it is dropped without a
tombstone, and not taken again from those who drop it later.

A node's own entries are true at home: whatever comes from elsewhere under one of its
keys (an echo of an earlier life, a forgery, a tombstone) is overwritten by what is so.

Bounded by ``SERVICES_MAX``, ``SERVICES_PER_NODE_MAX``, ``TOMBSTONES_MAX``,
``GRAVES_MAX``, ``CLAIMS_MAX`` and ``STRANGERS_MAX``.

Source: Barrel P2P documentation, "Service registry".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from barrel_p2p.core.effects import Publish, SetTimer
from barrel_p2p.core.inputs import TimerFired
from barrel_p2p.core.members import MemberDead, MemberGone, MemberSuspected, MemberUp
from barrel_p2p.core.ormap import OrMap
from barrel_p2p.core.rng import Rng
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import AlreadyRegistered, Busy, ClockDrift, InvalidValue
from barrel_p2p.services.registry_index import (
    SERVICES_PER_NODE_MAX,
    Held,
    ServiceIndex,
    Slot,
    slot_of,
)
from barrel_p2p.services.registry_inputs import (
    CLAIMS_MAX,
    GRAVE_MS,
    GRAVES_MAX,
    HIDDEN_MS,
    META_BYTES_MAX,
    REFUSE_MS,
    STRANGERS_MAX,
    TOMBSTONES_MAX,
    CatchUp,
    Changed,
    PidDown,
    Register,
    RegistryEffect,
    RegistryStats,
    Tell,
    Unregister,
    Unwatch,
    Watch,
)
from barrel_p2p.services.service_events import (
    ServiceDown,
    ServiceEntry,
    ServiceRegistered,
    ServiceUnregistered,
)
from barrel_p2p.wire.crdt_ingest import entry_bytes
from barrel_p2p.wire.terms import decode, encode

__all__ = ["RegistryMachine"]

_SWEEP: Final = "sweep"
_SWEEP_MS: Final = 10_000
_CLAIM: Final = "claim"
_CLAIM_MS: Final = 1_000  # Two nodes of one name must not quarrel any faster.
_CATCH_UP: Final = "catch_up"
_CATCH_UP_MS: Final = 500
_JUST_MS: Final = 200  # Tombstones so young may still be on their way.
_CREATION_MAX: Final = (1 << 32) - 1
_LIVE_FIELDS: Final = 3
_DOWN_FIELDS: Final = 2


class RegistryMachine:
    """The registry of one node. It owns the map and decides what stands in it.

    Args:
        entries: The map, which others only merge into.
        creation: This life of the node.
        rng: Picks among instances.

    Attributes:
        node: This node's name.
        index: What is held and shown.
        stats: What it has counted.
    """

    def __init__(self, entries: OrMap, creation: int, *, rng: Rng) -> None:
        self.node = entries.node
        self.entries = entries
        self.index = ServiceIndex()
        self.stats = RegistryStats()
        self._creation = creation
        self._rng = rng
        self._lives: dict[str, int] = {self.node: creation}
        self._slots_of: dict[Pid, dict[Slot, None]] = {}
        self._graves: dict[Slot, tuple[object, int]] = {}  # own; name, when to bury
        self._hidden: dict[str, str] = {}  # dead and not gone -> why
        self._strangers: dict[str, int] = {}  # until when they are refused
        self._claims: dict[Slot, object] = {}  # names of ours that others wrote to
        self._armed: dict[str, None] = {}  # timers
        self._out: list[RegistryEffect] = []
        self._inputs: dict[type, Callable[[Any, int], None]] = {
            Register: self._on_register,
            Unregister: self._on_unregister,
            PidDown: self._on_pid_down,
            Changed: self._on_changed,
            MemberUp: self._on_member_up,
            MemberDead: self._on_member_dead,
            MemberGone: self._on_member_gone,
            MemberSuspected: self._on_member_suspected,
            TimerFired: self._on_timer,
        }
        self._timers: dict[object, Callable[[int], None]] = {
            _SWEEP: self._sweep,
            _CLAIM: self._claim,
            _CATCH_UP: self._catch_up,
        }

    def handle(self, event: object, *, now_ms: int) -> list[RegistryEffect]:
        """Take one input and return what is to be done about it, in order.

        Raises:
            AlreadyRegistered: Another process has the name on this node.
            InvalidValue: The metadata is no mapping, or larger than
                ``META_BYTES_MAX``.
            NotEncodable: The name is no key term, or the metadata no term.
            Busy: This node has ``SERVICES_PER_NODE_MAX`` services.

        After an error nothing has changed.
        """
        out = self._out = []
        self._inputs[type(event)](event, now_ms)
        return out

    # Looking up.

    def lookup(self, name: object) -> list[ServiceEntry]:
        """All instances of ``name``, this node's first."""
        shown = self.index.shown(slot_of(name))
        found = [held.entry for held in shown if held.entry is not None]
        found.sort(key=lambda entry: entry.node != self.node)
        return found

    def whereis(self, name: object, *, but: Pid | None = None) -> ServiceEntry | None:
        """This node's instance of ``name``, or any other; each is as likely.

        Args:
            name: A key term.
            but: A process that is not wanted.
        """
        slot = slot_of(name)
        own = self.index.get(self.node, slot)
        if own is not None and own.shown and not _is(own, but):
            return own.entry
        shown = self.index.shown(slot)
        if but is not None:
            shown = [held for held in shown if not _is(held, but)]
        if not shown:
            return None
        return shown[self._rng.below(len(shown)) if len(shown) > 1 else 0].entry

    def own(self, name: object) -> ServiceEntry | None:
        """This node's instance of ``name``."""
        held = self.index.get(self.node, slot_of(name))
        return None if held is None else held.entry

    # What others may write.

    def may_write(self, key: object, node: str) -> bool:
        """Whether ``node`` may write ``key``: only its own, and only while we care."""
        if not (type(key) is tuple and len(key) == 2 and key[1] == node):
            return False
        return node not in self._strangers or node in self._lives

    def takes(self, key: Any, value: object) -> bool:
        """Whether ``value`` says something about the service ``key``."""
        if type(value) is not tuple or len(value) not in (_LIVE_FIELDS, _DOWN_FIELDS):
            return False
        creation = value[0]
        if type(creation) is not int or not 1 <= creation <= _CREATION_MAX:
            return False
        if len(value) == _LIVE_FIELDS:
            if type(value[1]) is not Pid or type(value[2]) is not dict:
                return False
            if value[2] and len(encode(value[2])) > META_BYTES_MAX:
                return False
        elif len(encode(value[1])) > META_BYTES_MAX:
            return False
        name, node = key
        life = self._lives.get(node)
        if life is not None and creation < life and node != self.node:
            return False  # A life that is over. Its end is known, its services are too.
        if node == self.node:
            full = len(self._claims) >= CLAIMS_MAX
        else:
            known = self.index.get(node, slot_of(name)) is not None
            full = not known and self.index.is_full(node)
        if full:
            self.stats.refused += 1
        return not full

    # This node's services.

    def _on_register(self, event: Register, now_ms: int) -> None:
        name, pid = event.name, event.pid
        slot, meta = slot_of(name), _checked_meta(name, event.meta)
        held = self.index.get(self.node, slot)
        entry = None if held is None else held.entry
        if entry is not None:
            if entry.pid != pid:
                raise AlreadyRegistered(
                    f"the service {name!r} of {self.node} is {entry.pid!r}",
                    hint="unregister it first, or choose another name",
                )
            if entry.meta == meta:
                return
        elif self.index.is_full(self.node):
            raise Busy(
                f"{self.node} has SERVICES_PER_NODE_MAX={SERVICES_PER_NODE_MAX}"
                " services"
            )
        key, value = (name, self.node), (self._creation, pid, meta)
        entry_bytes(key, value)  # Raises if it could not travel.
        delta = self.entries.add(key, value)
        self._graves.pop(slot, None)
        slots = self._slots_of.get(pid)
        if slots is None:
            self._slots_of[pid] = {slot: None}
            self._out.append(Watch(pid))
        else:
            slots[slot] = None
        self._out.append(Tell(delta))
        made = ServiceEntry(name, pid, self.node, meta)
        self._set(slot, name, self.node, self._creation, made, now_ms)

    def _on_unregister(self, event: Unregister, now_ms: int) -> None:
        slot = slot_of(event.name)
        held = self.index.get(self.node, slot)
        if held is None or held.entry is None:
            return
        self._bury(event.name)
        pid = held.entry.pid
        slots = self._slots_of[pid]
        del slots[slot]
        if not slots:
            del self._slots_of[pid]
            self._out.append(Unwatch(pid))
        self._drop(held)

    def _on_pid_down(self, event: PidDown, now_ms: int) -> None:
        for slot in self._slots_of.pop(event.pid, {}):
            held = self.index.get(self.node, slot)
            assert held is not None
            self._write(held.name, (self._creation, event.reason))
            if len(self._graves) >= GRAVES_MAX:
                oldest = next(iter(self._graves))
                self._bury(self._graves.pop(oldest)[0])
            self._graves[slot] = (held.name, now_ms + GRAVE_MS)
            self._drop(held, down=True, reason=event.reason)
        self._arm(_SWEEP, _SWEEP_MS)

    def _write(self, name: object, value: object) -> None:
        try:
            delta = self.entries.add((name, self.node), value)
        except ClockDrift:
            # Our wall clock was set back so far that no stamp of it can follow. Here
            # it is so all the same; the others hear of it when the clock is right.
            self._claim_later(slot_of(name), name)
        else:
            self._out.append(Tell(delta))

    def _bury(self, name: object) -> None:
        try:
            delta = self.entries.remove((name, self.node))
        except ClockDrift:
            self._claim_later(slot_of(name), name)
            return
        self._out.append(Tell(delta))
        self._forget_tombstones()

    def _claim_later(self, slot: Slot, name: object) -> None:
        self._claims[slot] = name
        self._arm(_CLAIM, _CLAIM_MS)

    def _claim(self, now_ms: int) -> None:
        """Others wrote to names of ours: say again what is so."""
        claims, self._claims = self._claims, {}
        for slot, name in claims.items():
            self.stats.reasserted += 1
            own = self.index.get(self.node, slot)
            if own is not None and own.entry is not None:
                self._write(name, (self._creation, own.entry.pid, own.entry.meta))
            else:
                self._bury(name)
        if claims:
            self._arm(_CLAIM, _CLAIM_MS)

    # What others wrote.

    def _on_changed(self, event: Changed, now_ms: int) -> None:
        for change in event.changes:
            after = change.after
            key: Any = after.key
            name, node = key
            if node == self.node:
                # Where nothing of ours is, a tombstone is right, whoever wrote it.
                if not (after.is_tombstone and self.own(name) is None):
                    self._claims[slot_of(name)] = name
                continue
            slot = slot_of(name)
            if after.is_tombstone:
                held = self.index.get(node, slot)
                if held is not None:
                    self._drop(held)
                continue
            self._on_value(slot, name, node, after.value, now_ms)
        if self._claims and _CLAIM not in self._armed:
            self._claim(now_ms)
        self._forget_tombstones()

    def _on_value(
        self, slot: Slot, name: object, node: str, value: Any, now_ms: int
    ) -> None:
        creation = value[0]
        if len(value) == _LIVE_FIELDS:
            entry = ServiceEntry(name, value[1], node, value[2])
            self._set(slot, name, node, creation, entry, now_ms)
            return
        held = self.index.get(node, slot)
        if held is not None:
            self._drop(held, down=True, reason=value[1])
        # It is held without being shown, to be dropped with its node.
        held = Held(slot, name, node, creation, None)
        held.since_ms = now_ms
        self.index.hold(held)

    def _set(
        self,
        slot: Slot,
        name: object,
        node: str,
        creation: int,
        entry: ServiceEntry,
        now_ms: int,
    ) -> None:
        old = self.index.get(node, slot)
        was = old.entry if old is not None and old.shown else None
        held = Held(slot, name, node, creation, entry)
        held.since_ms = now_ms
        self.index.hold(held)
        if self._lives.get(node) == creation:
            self.index.show(held)
        else:
            self._arm(_SWEEP, _SWEEP_MS)
        if was is not None and not held.shown:
            self.stats.down += 1
            self._out.append(Publish(ServiceDown(name, node, "nodedown")))
        elif was is not None and was.pid != entry.pid:
            self.stats.unregistered += 1
            self._out.append(Publish(ServiceUnregistered(name, node)))
            was = None
        if was is None and held.shown:
            self.stats.registered += 1
            self._out.append(Publish(ServiceRegistered(name, node)))

    def _drop(self, held: Held, *, down: bool = False, reason: object = None) -> None:
        shown = held.shown
        self.index.release(held)
        if not shown:
            return
        if down:
            self.stats.down += 1
            self._out.append(Publish(ServiceDown(held.name, held.node, reason)))
        else:
            self.stats.unregistered += 1
            self._out.append(Publish(ServiceUnregistered(held.name, held.node)))

    # Who is there.

    def _on_member_up(self, event: MemberUp, now_ms: int) -> None:
        node, creation = event.node, event.creation
        if node == self.node:
            return
        self._lives[node] = creation
        self._hidden.pop(node, None)
        if self._strangers.pop(node, None) is not None:
            self._arm(_CATCH_UP, _CATCH_UP_MS)
        for held in self.index.of(node):
            if held.creation < creation:
                self._purge(held)
            elif held.creation == creation and held.entry is not None:
                self.index.show(held)
                self.stats.registered += 1
                self._out.append(Publish(ServiceRegistered(held.name, node)))

    def _on_member_dead(self, event: MemberDead, now_ms: int) -> None:
        node = event.node
        if node == self.node or self._lives.get(node) != event.creation:
            return
        del self._lives[node]
        self._hidden[node] = event.reason
        reason = "left" if event.reason == "left" else "nodedown"
        for held in self.index.of(node):
            if held.shown:
                self.index.hide(held, now_ms)
                self.stats.down += 1
                self._out.append(Publish(ServiceDown(held.name, node, reason)))

    def _on_member_gone(self, event: MemberGone, now_ms: int) -> None:
        node = event.node
        if node == self.node or self._lives.get(node) == event.creation:
            return
        for held in self.index.of(node):
            if held.creation <= event.creation:
                self._purge(held)
        # Of a later life that is here there may be entries before its lease.
        if self._hidden.pop(node, "") != "restarted" and node not in self._lives:
            self._refuse(node, now_ms)

    def _on_member_suspected(self, event: MemberSuspected, now_ms: int) -> None:
        # A suspect still serves.
        pass

    def _purge(self, held: Held) -> None:
        self.stats.purged += 1
        self.entries.forget((held.name, held.node))
        self._drop(held)

    def _refuse(self, node: str, now_ms: int) -> None:
        if len(self._strangers) >= STRANGERS_MAX:
            del self._strangers[next(iter(self._strangers))]
        self._strangers[node] = now_ms + REFUSE_MS
        self._arm(_SWEEP, _SWEEP_MS)

    # Time.

    def _on_timer(self, event: TimerFired, now_ms: int) -> None:
        key = event.key
        self._armed.pop(str(key), None)
        self._timers[key](now_ms)

    def _arm(self, key: str, delay_ms: int) -> None:
        if key not in self._armed:
            self._armed[key] = None
            self._out.append(SetTimer(key, delay_ms))

    def _catch_up(self, now_ms: int) -> None:
        self._out.append(CatchUp())

    def _sweep(self, now_ms: int) -> None:
        for slot, (name, due_ms) in list(self._graves.items()):
            if due_ms <= now_ms:
                del self._graves[slot]
                self._bury(name)
        for node, until_ms in list(self._strangers.items()):
            if until_ms <= now_ms:
                del self._strangers[node]
        unknown = [
            node
            for node in self.index.nodes()
            if node not in self._lives and node not in self._hidden
        ]
        for node in unknown:
            self._sweep_unknown(node, now_ms)
        if self._graves or self._strangers or unknown:
            self._arm(_SWEEP, _SWEEP_MS)

    def _sweep_unknown(self, node: str, now_ms: int) -> None:
        """Drop what nobody answers for, so that two nodes cannot keep it for ever."""
        all_held = self.index.of(node)
        if max(held.since_ms for held in all_held) + HIDDEN_MS <= now_ms:
            for held in all_held:
                self._purge(held)
            self._refuse(node, now_ms)

    def _forget_tombstones(self) -> None:
        if self.entries.tombstones <= TOMBSTONES_MAX:
            return
        clock = self.entries.clock
        now_ms = clock.now().wall_ms
        for cutoff_ms in (now_ms - _JUST_MS, now_ms, now_ms + clock.max_drift_ms + 1):
            self.entries.gc_tombstones(max(cutoff_ms, 0))
            if self.entries.tombstones <= TOMBSTONES_MAX // 2:
                return


def _is(held: Held, pid: Pid | None) -> bool:
    return pid is not None and held.entry is not None and held.entry.pid == pid


def _checked_meta(name: object, meta: object) -> dict[Any, Any]:
    if not isinstance(meta, Mapping):
        raise InvalidValue(
            f"metadata of service {name!r} is a mapping, not a {type(meta).__name__}"
        )
    if not meta:
        return {}
    encoded = encode(dict(meta))
    if len(encoded) > META_BYTES_MAX:
        raise InvalidValue(
            f"metadata of service {name!r} takes {len(encoded)} bytes, more than"
            f" META_BYTES_MAX={META_BYTES_MAX}"
        )
    # A copy to its depth, and what others will get: nobody changes it under our hands.
    copied = decode(encoded)
    assert isinstance(copied, dict)
    return copied
