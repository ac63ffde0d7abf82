"""The lazy side: messages that were announced and have not come, and whom to ask.

Every id remembers its first ``ANNOUNCERS_MAX`` announcers. They are asked in turn: the
first once the push had its time, the next ones after the shorter ``retry_ms``. Each of
these waits has one of two lengths, so two queues are always in order, and one timer
does for all.

A link that is cut parts a whole branch of the tree from a message, and all who are
announced it there would ask at the same time. One answer is enough for the branch, and
any other brings second copies. So the first to ask are those nearest to where the
message began, and each link farther away is ``STEP_MS`` later; that wait has a heap,
which holds nothing while the tree is whole.

Bounded by ``MISSING_MAX``, and by ``MISSING_PEER_MAX`` for what one peer announces.

Source: Leitao, Pereira, Rodrigues, "Epidemic Broadcast Trees", SRDS 2007, 3.7.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container, Sequence
from heapq import heappop, heappush
from typing import Final, final

__all__ = [
    "ANNOUNCERS_MAX",
    "GRAFT_TRIES_MAX",
    "LAGS_WAITED",
    "LAG_MS_MAX",
    "MISSING_MAX",
    "MISSING_PEER_MAX",
    "STEPS_MAX",
    "STEP_MS",
    "Missing",
    "Wanted",
]

ANNOUNCERS_MAX: Final = 8
"""Peers remembered for one id."""

GRAFT_TRIES_MAX: Final = 10
"""Times that one id is asked for; a later announcement begins anew."""

LAGS_WAITED: Final = 3
"""While pushes come, but late, an announced message has so many of their delays."""

LAG_MS_MAX: Final = 10_000
"""But it never waits longer than this for that reason."""

STEP_MS: Final = 50
"""How much later who is one link farther from the origin asks."""

STEPS_MAX: Final = 20
"""Links more than these make nobody wait longer."""

MISSING_MAX: Final = 1 << 18
"""Ids waited for."""

MISSING_PEER_MAX: Final = 1 << 16
"""Of those, the ones that the same peer was the first to announce."""

_SKIPPED_A_CALL: Final = 2


@final
class Wanted:
    """One id that was announced.

    Attributes:
        announcers: Who has it, in the order in which they said so.
        hops: What each of them said.
        since_ms: When the first of them did.
        due_ms: When to ask next.
        tries: How often it was asked for.
        turn: Position of the announcer whose turn it is.
    """

    __slots__ = ("announcers", "due_ms", "hops", "since_ms", "tries", "turn")

    def __init__(self, peer: str, hops: int, now_ms: int, due_ms: int) -> None:
        self.announcers = [peer]
        self.hops = [hops]
        self.since_ms = now_ms
        self.due_ms = due_ms
        self.tries = 0
        self.turn = 0

    def nearest(self) -> tuple[str, int]:
        """The announcer with the fewest hops, the first of those, and its hops."""
        hops = min(self.hops)
        return self.announcers[self.hops.index(hops)], hops


class Missing:
    """All of them.

    Args:
        first_ms: How long the push has.
        retry_ms: How long an announcer has that was asked, before the next one is.

    Attributes:
        refused: Announcements that found no room.
        given_up: Ids that nobody sent.
    """

    def __init__(self, first_ms: int, retry_ms: int) -> None:
        self._first_ms = first_ms
        self._retry_ms = retry_ms
        self._wanted: dict[bytes, Wanted] = {}
        self._firsts: deque[tuple[int, bytes]] = deque()  # due, id; some are stale
        self._retries: deque[tuple[int, bytes]] = deque()
        self._steps: list[tuple[int, bytes]] = []
        self._of_peer: dict[str, int] = {}
        self._lag_ms = 0  # how late pushes are behind announcements, of late the most
        self._came_ms = 0
        self.refused = 0
        self.given_up = 0

    def __len__(self) -> int:
        return len(self._wanted)

    def announced(
        self,
        message_id: bytes,
        peer: str,
        hops: int,
        now_ms: int,
        *,
        soon: bool = False,
    ) -> None:
        """``peer`` has the message, which has not come; ``soon``: no push is likely."""
        wanted = self._wanted.get(message_id)
        if wanted is not None:
            if (
                len(wanted.announcers) < ANNOUNCERS_MAX
                and peer not in wanted.announcers
            ):
                wanted.announcers.append(peer)
                wanted.hops.append(hops)
            return
        count = self._of_peer.get(peer, 0)
        if count >= MISSING_PEER_MAX or len(self._wanted) >= MISSING_MAX:
            self.refused += 1
            return
        self._of_peer[peer] = count + 1
        due_ms = now_ms + (self._retry_ms if soon else self._first_ms)
        self._wanted[message_id] = Wanted(peer, hops, now_ms, due_ms)
        (self._retries if soon else self._firsts).append((due_ms, message_id))
        # What has come meanwhile leaves the queue bit by bit, not all when time is up.
        for _ in range(_SKIPPED_A_CALL):
            if not self._is_stale(self._firsts):
                break
            self._firsts.popleft()

    def asked_now(self, message_id: bytes, peer: str, now_ms: int) -> bool:
        """Ask ``peer`` at once; returns whether nobody was asked for it before.

        The answer has ``first_ms``: it comes from somebody whose queue was full.
        """
        wanted = self._wanted.get(message_id)
        if wanted is None or wanted.tries > 0:
            return False
        wanted.tries = 1
        if peer in wanted.announcers:
            wanted.turn = wanted.announcers.index(peer) + 1
        wanted.due_ms = now_ms + self._first_ms
        self._firsts.append((wanted.due_ms, message_id))
        return True

    def came(self, message_id: bytes, now_ms: int) -> Wanted | None:
        """The message is here; returns what was known about it."""
        wanted = self._forget(message_id)
        if wanted is not None and wanted.tries == 0:
            late_ms = now_ms - wanted.since_ms
            self._lag_ms = max(late_ms, (7 * self._lag_ms + late_ms) // 8)
            self._came_ms = now_ms
        return wanted

    def hurry(self, now_ms: int) -> None:
        """Ask in ``retry_ms`` for whatever still has time: who pushed it has gone."""
        due_ms = now_ms + self._retry_ms
        for was_ms, message_id in self._firsts:
            wanted = self._wanted.get(message_id)
            if wanted is not None and wanted.due_ms == was_ms and was_ms > due_ms:
                wanted.due_ms = due_ms
                self._retries.append((due_ms, message_id))

    def next_ms(self) -> int | None:
        """When somebody is to be asked; None while nothing is missing."""
        heads = []
        for queue in (self._firsts, self._retries):
            while self._is_stale(queue):
                queue.popleft()
            if queue:
                heads.append(queue[0][0])
        while self._is_stale(self._steps):
            heappop(self._steps)
        if self._steps:
            heads.append(self._steps[0][0])
        return min(heads, default=None)

    def due(self, now_ms: int, links: Container[str]) -> dict[str, list[bytes]]:
        """Whom to ask for what, now. They are taken to have been asked.

        Args:
            now_ms: Monotonic time.
            links: Our peers, who are asked before others.
        """
        asked: dict[str, list[bytes]] = {}
        for queue in (self._firsts, self._retries):
            while queue and (queue[0][0] <= now_ms or self._is_stale(queue)):
                due_ms, message_id = queue.popleft()
                wanted = self._wanted.get(message_id)
                if wanted is None or wanted.due_ms != due_ms:
                    continue
                if wanted.tries >= GRAFT_TRIES_MAX:
                    self.given_up += 1
                    self._forget(message_id)
                    continue
                if wanted.tries == 0 and self._may_still_come(wanted, now_ms):
                    wanted.due_ms = now_ms + self._retry_ms
                    self._retries.append((wanted.due_ms, message_id))
                    continue
                late_ms = STEP_MS * min(min(wanted.hops) - 1, STEPS_MAX)
                if queue is self._firsts and wanted.tries == 0 and late_ms > 0:
                    wanted.due_ms = now_ms + late_ms
                    heappush(self._steps, (wanted.due_ms, message_id))
                    continue
                self._ask(message_id, wanted, now_ms, links, asked)
        while self._steps and (
            self._steps[0][0] <= now_ms or self._is_stale(self._steps)
        ):
            due_ms, message_id = heappop(self._steps)
            wanted = self._wanted.get(message_id)
            if wanted is not None and wanted.due_ms == due_ms:
                self._ask(message_id, wanted, now_ms, links, asked)
        return asked

    def _ask(
        self,
        message_id: bytes,
        wanted: Wanted,
        now_ms: int,
        links: Container[str],
        asked: dict[str, list[bytes]],
    ) -> None:
        peer = _next_announcer(wanted, asked, links)
        wanted.tries += 1
        wanted.due_ms = now_ms + self._retry_ms
        self._retries.append((wanted.due_ms, message_id))
        asked.setdefault(peer, []).append(message_id)

    def _may_still_come(self, wanted: Wanted, now_ms: int) -> bool:
        """Whether the push is likely to be under way, behind others that are late.

        To ask for it would load a node that is behind with a second copy of everything.
        """
        if now_ms - self._came_ms >= self._retry_ms:
            return False
        waited_ms = now_ms - wanted.since_ms
        return waited_ms < min(LAGS_WAITED * self._lag_ms, LAG_MS_MAX)

    def _forget(self, message_id: bytes) -> Wanted | None:
        wanted = self._wanted.pop(message_id, None)
        if wanted is not None:
            self._uncount(wanted)
        return wanted

    def _is_stale(self, queue: Sequence[tuple[int, bytes]]) -> bool:
        if not queue:
            return False
        due_ms, message_id = queue[0]
        wanted = self._wanted.get(message_id)
        return wanted is None or wanted.due_ms != due_ms

    def _uncount(self, wanted: Wanted) -> None:
        first = wanted.announcers[0]
        count = self._of_peer[first] - 1
        if count:
            self._of_peer[first] = count
        else:
            del self._of_peer[first]


def _next_announcer(
    wanted: Wanted, asked: Container[str], links: Container[str]
) -> str:
    """Whose turn it is; at first whoever is asked for something anyway.

    Each peer that is asked becomes eager, so fewer of them are fewer duplicates.
    """
    announcers = wanted.announcers
    if wanted.tries == 0:
        for peer in announcers:
            if peer in asked:
                return peer
    count = len(announcers)
    turns = [(wanted.turn + i) % count for i in range(count)]
    turn = next((i for i in turns if announcers[i] in links), wanted.turn % count)
    wanted.turn = turn + 1
    return announcers[turn]
