"""One life of each node that we have heard of: living, suspected, dead, or gone.

The states of a name, and what moves it from one to the next::

    (unknown) -> ALIVE <-> SUSPECT -> DEAD -> GONE -> (unknown)

A dead life is hidden and a gone one only remembered; a higher number brings back both.
There is one timer, for the next deadline of any of them.

Bounded by ``MEMBERS_MAX`` names. When there is no room, the gone make some.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, final

from barrel_p2p.core.effects import Effect, Publish, SetTimer
from barrel_p2p.core.members import MemberDead, MemberGone, MemberSuspected, MemberUp
from barrel_p2p.services.member_inputs import LeaseSettings, MemberStats

__all__ = [
    "MEMBERS_MAX",
    "PAUSE_MS",
    "REMEMBERED_TTLS",
    "VERDICT",
    "Member",
    "MemberTable",
    "State",
]

MEMBERS_MAX: Final = 16_384
"""Names that a node keeps: members, the dead, and the gone that it still remembers."""

PAUSE_MS: Final = 500
"""A timer that is so late says that this node was stopped, not that others were."""

REMEMBERED_TTLS: Final = 10
"""Lease times for which the gone are remembered, so that no late echo revives them."""

VERDICT: Final = "verdict"
"""The timer's key."""

_GRAIN_MS: Final = 20  # Verdicts that fall due together are made together.
_NEVER: Final = 1 << 62


class State(IntEnum):
    """Where a life stands. What is at most SUSPECT is a member."""

    ALIVE = 0
    SUSPECT = 1
    DEAD = 2
    GONE = 3


@final
class Member:
    """What we know of one name.

    Attributes:
        creation: Its latest life.
        seq: The highest number of that life's lease.
        renewed_ms: When that number grew, by our clock.
        state: Where that life stands.
        reason: Why it is dead, or will be if it does not refute.
        deadline_ms: When the state has to be looked at.
    """

    __slots__ = ("creation", "deadline_ms", "reason", "renewed_ms", "seq", "state")

    def __init__(self, creation: int, seq: int, renewed_ms: int) -> None:
        self.creation = creation
        self.seq = seq
        self.renewed_ms = renewed_ms
        self.state = State.GONE
        self.reason = ""
        self.deadline_ms = _NEVER


class MemberTable:
    """All lives but our own, and the verdicts on them.

    Args:
        settings: The periods.
        stats: What is counted here too.

    Attributes:
        out: Where effects go. The machine's list of the moment.
    """

    def __init__(self, settings: LeaseSettings, stats: MemberStats) -> None:
        self.out: list[Effect] = []
        self.members: dict[str, Member] = {}
        self._settings = settings
        self._stats = stats
        self._gone: dict[str, None] = {}
        self._due_ms = _NEVER

    def add(self, node: str, creation: int, seq: int, renewed_ms: int) -> Member | None:
        """A record in state GONE for an unknown name; None if there is no room."""
        if len(self.members) >= MEMBERS_MAX:
            if not self._gone:
                self._stats.refused += 1
                return None
            oldest = next(iter(self._gone))
            del self._gone[oldest], self.members[oldest]
        member = self.members[node] = Member(creation, seq, renewed_ms)
        return member

    def live(self, node: str, member: Member, now_ms: int) -> None:
        """A lease has begun, has come back, or has outlived a suspicion."""
        before, member.state = member.state, State.ALIVE
        self._set_deadline(member, member.renewed_ms + self._settings.ttl_ms, now_ms)
        if before is State.SUSPECT:
            self._stats.refutations += 1
            return
        self._gone.pop(node, None)
        if before is State.DEAD:
            self._stats.revivals += 1
        self.out.append(Publish(MemberUp(node, member.creation)))

    def suspect(
        self, node: str, member: Member, by: str, reason: str, now_ms: int
    ) -> None:
        """Give a living one ``suspect_ms`` to refute."""
        self._stats.suspicions += 1
        member.state = State.SUSPECT
        member.reason = reason
        self._set_deadline(member, now_ms + self._settings.suspect_ms, now_ms)
        self.out.append(Publish(MemberSuspected(node, member.creation, by)))

    def dead(self, node: str, member: Member, reason: str, now_ms: int) -> None:
        """The verdict on a member."""
        self._stats.deaths += 1
        member.state = State.DEAD
        member.reason = reason
        self._set_deadline(member, now_ms + self._settings.ttl_ms, now_ms)
        self.out.append(Publish(MemberDead(node, member.creation, reason)))

    def part(self, now_ms: int) -> None:
        """Hold all members for dead: this node is of another cluster now."""
        for node, member in list(self.members.items()):
            if member.state <= State.SUSPECT:
                # When it is back in theirs, the number that it knows will be news.
                member.seq = max(member.seq - 1, 0)
                self.dead(node, member, "left", now_ms)

    def remember(self, node: str, member: Member, now_ms: int) -> None:
        """Keep a life that is over, against late echoes."""
        member.state = State.GONE
        self._gone[node] = None
        span_ms = REMEMBERED_TTLS * self._settings.ttl_ms
        self._set_deadline(member, now_ms + span_ms, now_ms)

    def replace(self, node: str, member: Member, now_ms: int) -> None:
        """End whatever life it is for good, because a later one is here."""
        if member.state <= State.SUSPECT:
            self.dead(node, member, "restarted", now_ms)
        if member.state is State.DEAD:
            self.out.append(Publish(MemberGone(node, member.creation)))
            self.remember(node, member, now_ms)

    def timer_fired(self, now_ms: int) -> list[tuple[str, Member]]:
        """Make the verdicts that are due, and return whose leases have run out."""
        due_ms, self._due_ms = self._due_ms, _NEVER
        if now_ms - due_ms > PAUSE_MS:
            self.paused(now_ms)
            return []
        lapsed = []
        for node, member in list(self.members.items()):
            if member.deadline_ms > now_ms:
                continue
            if member.state is not State.ALIVE:
                self._expire(node, member, now_ms)
            elif member.renewed_ms + self._settings.ttl_ms > now_ms:
                member.deadline_ms = member.renewed_ms + self._settings.ttl_ms
            else:
                member.deadline_ms = _NEVER
                lapsed.append((node, member))
        self._arm_next(now_ms)
        return lapsed

    def paused(self, now_ms: int) -> None:
        """Give all others their time anew: it was this node that heard nothing."""
        self._stats.pauses += 1
        for member in self.members.values():
            if member.state is State.ALIVE:
                member.deadline_ms = now_ms + self._settings.ttl_ms
            elif member.state is State.SUSPECT:
                member.deadline_ms = now_ms + self._settings.suspect_ms
        self._arm_next(now_ms)

    def _expire(self, node: str, member: Member, now_ms: int) -> None:
        if member.state is State.SUSPECT:
            self.dead(node, member, member.reason, now_ms)
        elif member.state is State.DEAD:
            self.out.append(Publish(MemberGone(node, member.creation)))
            self.remember(node, member, now_ms)
        else:
            del self.members[node]
            self._gone.pop(node, None)

    def _set_deadline(self, member: Member, at_ms: int, now_ms: int) -> None:
        member.deadline_ms = at_ms
        if at_ms < self._due_ms:
            self._arm(at_ms, now_ms)

    def _arm_next(self, now_ms: int) -> None:
        soonest = min((m.deadline_ms for m in self.members.values()), default=_NEVER)
        if soonest < _NEVER:
            self._arm(soonest, now_ms)

    def _arm(self, at_ms: int, now_ms: int) -> None:
        at_ms = max(-(-at_ms // _GRAIN_MS) * _GRAIN_MS, now_ms)
        self._due_ms = at_ms
        self.out.append(SetTimer(VERDICT, at_ms - now_ms))
