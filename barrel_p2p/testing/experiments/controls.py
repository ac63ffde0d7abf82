"""Defects to plant, so that every experiment is known to fail when it should.

Each takes one thing away from a real machine, from inside: a machine has no settings
that would make it wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypedDict

from barrel_p2p.broadcast.machine import Plumtree
from barrel_p2p.core.effects import Effect, Machine
from barrel_p2p.membership.machine import HyParView
from barrel_p2p.replica.machine import ReplicaMachine

__all__ = ["CONTROLS", "Control", "Planted", "planted"]

type Control = Literal[
    "", "textbook", "no repair", "no walks", "flood", "no graft", "no sync"
]


class Planted(TypedDict, total=False):
    """What ``Cluster`` is to put in the place of the real machines."""

    wrap_membership: Callable[[HyParView], Machine]
    wrap_broadcast: Callable[[Plumtree], Machine]
    wrap_replica: Callable[[ReplicaMachine], Machine]


def planted(control: Control) -> Planted:
    """How to build a cluster with that defect; the empty one is none."""
    return CONTROLS[control]


def _textbook(machine: HyParView) -> Machine:
    """HyParView as published: no swaps, nobody remembered, contacts only when alone."""
    _replace(machine._promotion, swap=_nothing, probe=_nothing)
    joining = machine._joining
    contact = machine._timers["contact"]
    has_begun = False

    def contact_when_alone() -> None:
        nonlocal has_begun
        if has_begun and joining._links.active:
            return
        joining._links.remembered.clear()
        if joining._links.active:
            joining._join_all()
        else:
            contact()
        has_begun = True

    machine._timers["contact"] = contact_when_alone
    return machine


def _no_repair(machine: HyParView) -> Machine:
    """A peer that is lost is not replaced, and nobody is contacted again."""
    _textbook(machine)
    _replace(machine._promotion, fill=_nothing)
    machine._timers["contact"] = _nothing
    return _FirstContact(machine)


def _no_walks(machine: HyParView) -> Machine:
    """Nobody learns of others: neither newcomers nor shuffles go any further."""
    _textbook(machine)
    _replace(machine._shuffling, _begin=_nothing)
    _replace(machine._joining, _introduce=_nothing, _reply=_bare_reply(machine))
    return machine


def _flood(machine: Plumtree) -> Machine:
    """No second copy makes anybody lazy, so every link carries every broadcast."""
    _replace(machine, _on_duplicate=_no_effects)
    return machine


def _no_graft(machine: Plumtree) -> Machine:
    """What was announced and did not come is not asked for."""
    _replace(machine, _graft=_nothing)
    return machine


def _no_sync(machine: ReplicaMachine) -> Machine:
    """What gossip did not bring is not asked for."""
    _replace(machine.rounds, want=_nothing)
    return machine


CONTROLS: Mapping[Control, Planted] = {
    "": {},
    "textbook": {"wrap_membership": _textbook},
    "no repair": {"wrap_membership": _no_repair},
    "no walks": {"wrap_membership": _no_walks},
    "flood": {"wrap_broadcast": _flood},
    "no graft": {"wrap_broadcast": _no_graft},
    "no sync": {"wrap_replica": _no_sync},
}


class _FirstContact:
    """Lets the first contact timer pass, so that a node joins once."""

    def __init__(self, machine: HyParView) -> None:
        self._machine = machine
        self._contact: Callable[[], None] | None = machine._joining._join_all

    def handle(self, event: object, *, now_ms: int) -> list[Effect]:
        if self._contact is not None:
            self._machine._timers["contact"] = self._once
        return self._machine.handle(event, now_ms=now_ms)

    def _once(self) -> None:
        contact, self._contact = self._contact, None
        self._machine._timers["contact"] = _nothing
        if contact is not None:
            contact()


def _bare_reply(machine: HyParView) -> Callable[..., None]:
    joining = machine._joining
    reply = type(joining)._reply

    def without_others(*arguments: object, **_: object) -> None:
        sample = joining._links.sample
        _replace(joining._links, sample=_nobody)
        reply(joining, *arguments)  # type: ignore[arg-type]
        _replace(joining._links, sample=sample)

    return without_others


def _replace(part: object, **methods: Callable[..., object]) -> None:
    vars(part).update(methods)


def _nothing(*_: object, **__: object) -> None:
    pass


def _no_effects(*_: object) -> list[Effect]:
    return []


def _nobody(*_: object, **__: object) -> tuple[()]:
    return ()
