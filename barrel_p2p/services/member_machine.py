"""Who is a member, who is suspected, and who is dead: decided by each node for itself.

A lease is a number that its node counts up once a period. While it grows, the node is a
member; when it grew is told by our own clock, so no foreign one is ever trusted. A lost
channel is a hint, not a verdict: we dial, then say SUSPECT to all, and whoever has a
channel to the suspect, or is it, answers ALIVE with a higher number. Silence for
``suspect_ms`` is the verdict. A lease that ran out is a hint as well, for leases travel
one hop a period and their way may have become longer: it is asked for in the same way,
but only a higher number is an answer.

Neighbours of a dead node may hold channels that have not noticed, and refute for it.
The last of them loses its channel too, says SUSPECT, and nobody is left to refute.

A node that was stopped itself, and finds its timers late, has nobody to blame: it gives
all others their time anew.

Bounded by ``MEMBERS_MAX`` and ``REFUSED_NAMES_MAX``. A member can lie about others, and
so take one life of a node away; what it cannot do is to make us keep more.

Source: Das, Gupta, Motivala, "SWIM", DSN 2002 (suspicion and its refutation by number);
Dadgar, Phillips, Currey, "Lifeguard", DSN 2018 (a slow node doubts itself first).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from barrel_p2p.core.clock import WallClock
from barrel_p2p.core.effects import CancelTimer, Dial, Effect, Publish, Send, SetTimer
from barrel_p2p.core.inputs import DialFailed, Dialled, Received, TimerFired
from barrel_p2p.core.members import MemberUp
from barrel_p2p.core.peers import NodeDown, PeerDown, PeerUp
from barrel_p2p.core.rng import Rng
from barrel_p2p.services.member_inputs import (
    CHECKED_REASONS,
    Allow,
    ChannelUp,
    ClockAhead,
    ComeBack,
    GoAway,
    LeaseSettings,
    MemberStats,
    Refuse,
    Start,
)
from barrel_p2p.services.member_messages import (
    LEASES_PER_FRAME_MAX,
    SEQ_MAX,
    Alive,
    Lease,
    Leases,
    Leave,
    Suspect,
)
from barrel_p2p.services.member_table import (
    PAUSE_MS,
    VERDICT,
    Member,
    MemberTable,
    State,
)

__all__ = [
    "CHECK_MS",
    "NEWS_GAP_MS",
    "REFUSED_NAMES_MAX",
    "SEQ_STEP_MAX",
    "MemberMachine",
]

REFUSED_NAMES_MAX: Final = 4_096
"""Names whose leases this node was told to refuse."""

CHECK_MS: Final = 100
"""Milliseconds that a lost channel's node has to be dialled again unsuspected."""

NEWS_GAP_MS: Final = 50
"""News is passed on at once, and then together with all that comes so soon after it."""

SEQ_STEP_MAX: Final = 1 << 20
"""Greatest step of one lease. No node comes so far while it is remembered."""

_BEAT: Final = "beat"
_NEWS: Final = "news"
_NO_CHANNEL: Final = (0, None)


class MemberMachine:
    """The leases of one cluster as one node sees them.

    Args:
        node: This node's name.
        creation: This life of it.
        wall: Our wall clock, told to peers and compared with theirs.
        rng: Sets the phase of the heartbeat.
        settings: The periods.

    Attributes:
        seq: The number of this node's lease.
        heard: How often a peer has told its leases.
        stats: What it has counted.
    """

    def __init__(
        self,
        node: str,
        creation: int,
        *,
        wall: WallClock,
        rng: Rng,
        settings: LeaseSettings | None = None,
    ) -> None:
        self.node = node
        self.creation = creation
        self.settings = settings or LeaseSettings()
        self.seq = 1
        self.heard = 0
        self.stats = MemberStats()
        self._wall = wall
        self._rng = rng
        self._left = False
        self._table = MemberTable(self.settings, self.stats)
        self._members = self._table.members
        self._peers: dict[str, None] = {}
        self._channels: dict[str, tuple[int, tuple[str, int] | None]] = {}
        self._checks: dict[str, int] = {}  # node -> tag of its dial
        self._tag = 0
        self._grown: dict[str, None] = {}  # to be told with the next heartbeat
        self._news: dict[str, str] = {}  # node -> who told us; to be told before that
        self._news_from_ms = -NEWS_GAP_MS  # when the last ones were told
        self._news_timer = False
        self._beat_due_ms = 0
        self._ahead: dict[str, None] = {}  # peers whose clocks are wrong
        self._refused: dict[str, None] = {}
        self._out: list[Effect] = []
        self._inputs: dict[type, Callable[[Any, int], None]] = {
            Received: self._on_received,
            TimerFired: self._on_timer,
            ChannelUp: self._on_channel_up,
            NodeDown: self._on_node_down,
            PeerUp: self._on_peer_up,
            PeerDown: self._on_peer_down,
            Dialled: self._on_dialled,
            DialFailed: self._on_dial_failed,
            Start: self._on_start,
            GoAway: self._on_go_away,
            ComeBack: self._on_come_back,
            Refuse: self._on_refuse,
            Allow: self._on_allow,
        }
        self._messages: dict[type, Callable[[str, Any, int], None]] = {
            Leases: self._on_leases,
            Suspect: self._on_suspect,
            Alive: self._on_alive,
            Leave: self._on_leave,
        }

    def handle(self, event: object, *, now_ms: int) -> list[Effect]:
        """Take one input and return what is to be done about it, in order."""
        self._out = self._table.out = []
        self._inputs[type(event)](event, now_ms)
        return self._out

    def __len__(self) -> int:
        return len(self._members)

    def members(self) -> list[str]:
        """This node and all that are neither dead nor unknown, sorted."""
        found = [n for n, m in self._members.items() if m.state <= State.SUSPECT]
        found.append(self.node)
        return sorted(found)

    def suspects(self) -> list[str]:
        """Members that have yet to refute, sorted."""
        return sorted(n for n, m in self._members.items() if m.state is State.SUSPECT)

    def life(self, node: str) -> int | None:
        """The creation of a member; None if ``node`` is none."""
        if node == self.node:
            return self.creation
        member = self._members.get(node)
        if member is None or member.state > State.SUSPECT:
            return None
        return member.creation

    def is_dead(self, node: str) -> bool:
        """Whether ``node`` was a member, and is still remembered as one that died."""
        member = self._members.get(node)
        return member is not None and member.state > State.SUSPECT

    # What happens around us.

    def _on_start(self, event: Start, now_ms: int) -> None:
        self._out.append(Publish(MemberUp(self.node, self.creation)))
        self._arm_beat(now_ms, self._rng.jitter(self.settings.heartbeat_ms))

    def _on_peer_up(self, event: PeerUp, now_ms: int) -> None:
        # A higher number undoes whatever verdict on us the peer has kept.
        self._left = False
        self._count_up()
        self._peers[event.node] = None
        table = [self._own_lease()]
        suspicions = []
        for node, member in self._members.items():
            age_ms = max(now_ms - member.renewed_ms, 0)
            if member.state <= State.SUSPECT and age_ms < self.settings.ttl_ms:
                table.append((node, member.creation, member.seq, age_ms))
            if member.state is State.SUSPECT and node != event.node:
                suspicions.append(self._suspicion(node, member))
        self._tell(table, (event.node,))
        # It may have had no peer when they were flooded.
        self._out.extend(Send(event.node, suspicion) for suspicion in suspicions)

    def _on_peer_down(self, event: PeerDown, now_ms: int) -> None:
        self._peers.pop(event.node, None)

    def _on_channel_up(self, event: ChannelUp, now_ms: int) -> None:
        node, creation = event.node, event.creation
        self._channels[node] = (creation, event.address)
        if self._checks.pop(node, None) is not None:
            self._out.append(CancelTimer(("check", node)))
        member = self._members.get(node)
        if member is None or node in self._refused or node in self._ahead:
            return
        if creation > member.creation:
            self._table.replace(node, member, now_ms)
        elif (
            creation == member.creation
            and member.state in (State.SUSPECT, State.DEAD)
            and not self._left
            # Whoever left, or said nothing, has to speak for itself.
            and member.reason == "unreachable"
        ):
            self._vouch(node, member, now_ms)

    def _on_node_down(self, event: NodeDown, now_ms: int) -> None:
        node = event.node
        self._ahead.pop(node, None)
        creation, address = self._channels.pop(node, _NO_CHANNEL)
        member = self._members.get(node)
        if (
            self._left
            or event.reason not in CHECKED_REASONS
            or member is None
            or member.creation != creation
            or member.state is not State.ALIVE
        ):
            return
        self._tag += 1
        self._checks[node] = self._tag
        self._out.append(SetTimer(("check", node), CHECK_MS))
        self._out.append(Dial(node, address, self._tag))

    def _on_dialled(self, event: Dialled, now_ms: int) -> None:
        # ChannelUp came first and has said all that there is to say.
        pass

    def _on_dial_failed(self, event: DialFailed, now_ms: int) -> None:
        node = event.node
        if self._checks.get(node) == event.tag:
            del self._checks[node]
            self._out.append(CancelTimer(("check", node)))
            self._unreached(node, now_ms)

    def _on_go_away(self, event: GoAway, now_ms: int) -> None:
        self._count_up()
        self._left = True
        for node in self._checks:
            self._out.append(CancelTimer(("check", node)))
        self._checks.clear()
        self._flood(Leave(self.node, self.creation, self.seq))
        if event.alone:
            self._news.clear()
            self._grown.clear()
            self._table.part(now_ms)

    def _on_come_back(self, event: ComeBack, now_ms: int) -> None:
        self._left = False

    def _on_refuse(self, event: Refuse, now_ms: int) -> None:
        node = event.node
        if node == self.node or len(self._refused) >= REFUSED_NAMES_MAX:
            self.stats.ignored += 1
            return
        self._refused[node] = None
        member = self._members.get(node)
        if member is not None and member.state <= State.SUSPECT:
            self._table.dead(node, member, "revoked", now_ms)

    def _on_allow(self, event: Allow, now_ms: int) -> None:
        self._refused.pop(event.node, None)

    # Timers.

    def _on_timer(self, event: TimerFired, now_ms: int) -> None:
        key = event.key
        if key == _BEAT:
            self._on_beat(now_ms)
        elif key == VERDICT:
            for node, member in self._table.timer_fired(now_ms):
                self._suspect(node, member, now_ms, lapsed=True)
        elif key == _NEWS:
            self._news_timer = False
            self._tell_news(now_ms)
        elif isinstance(key, tuple) and self._checks.pop(key[1], None) is not None:
            # The dial goes on: reaching the node later refutes the suspicion.
            self._unreached(key[1], now_ms)

    def _on_beat(self, now_ms: int) -> None:
        if now_ms - self._beat_due_ms > PAUSE_MS:
            self._table.paused(now_ms)
        self._count_up()
        if self._peers and not self._left:
            leases = [self._own_lease()]
            for node in self._grown:
                member = self._members.get(node)
                if member is not None and member.state <= State.SUSPECT:
                    # Its age is not told, or hops would add up to a lease's end.
                    leases.append((node, member.creation, member.seq, 0))
            self._tell(leases, self._peers)
        self._grown.clear()
        self._arm_beat(now_ms, self.settings.heartbeat_ms)

    def _arm_beat(self, now_ms: int, delay_ms: int) -> None:
        self._beat_due_ms = now_ms + delay_ms
        self._out.append(SetTimer(_BEAT, delay_ms))

    # What peers say.

    def _on_received(self, event: Received, now_ms: int) -> None:
        self._messages[type(event.message)](event.peer, event.message, now_ms)

    def _on_leases(self, peer: str, message: Leases, now_ms: int) -> None:
        if self._left:
            return  # Sent before the peer had heard that we left.
        self.heard += 1
        ahead_ms = message.wall_ms - self._wall.wall_ms()
        skewed = ahead_ms > self.settings.skew_ms
        if skewed:
            self.stats.skewed += 1
            if peer in self._channels and peer not in self._ahead:
                self._ahead[peer] = None
                self._out.append(Publish(ClockAhead(peer, ahead_ms)))
        else:
            self._ahead.pop(peer, None)
        for node, creation, seq, age_ms in message.leases:
            if node == self.node:
                self._on_own_lease(creation, seq)
            elif not (skewed and node == peer):
                self._grow(node, creation, seq, age_ms, peer, now_ms)
        if self._news:
            self._spread_news(now_ms)

    def _on_suspect(self, peer: str, message: Suspect, now_ms: int) -> None:
        node, creation, seq = message.node, message.creation, message.seq
        if node == self.node:
            self._defend(peer, creation, seq)
            return
        member = self._members.get(node)
        if (
            member is None
            or member.creation != creation
            or member.state > State.SUSPECT
            or node in self._refused
        ):
            return
        if seq < member.seq:
            self._out.append(Send(peer, Alive(node, creation, member.seq)))
            return
        if self._too_far(member.seq, seq):
            return
        raised = seq > member.seq
        member.seq = seq
        if member.state is State.ALIVE:
            near = self._channels.get(node, _NO_CHANNEL)[0] == creation
            if near and not message.lapsed and node not in self._ahead:
                self._vouch(node, member, now_ms)
                return
            if near and node not in self._peers:
                self._out.append(Send(node, message))
            reason = "expired" if message.lapsed else "unreachable"
            self._table.suspect(node, member, message.by, reason, now_ms)
        elif not raised:
            return
        self._flood(message, but=peer)

    def _on_alive(self, peer: str, message: Alive, now_ms: int) -> None:
        node, creation, seq = message.node, message.creation, message.seq
        if node == self.node:
            before = self.seq
            self._on_own_lease(creation, seq)
            if self.seq > before:
                self._flood(message, but=peer)
            return
        if self._left or node not in self._members:
            return  # Only LEASES makes members: it tells the peer's clock.
        if node == peer and peer in self._ahead:
            return
        if self._grow(node, creation, seq, 0, peer, now_ms):
            self._news.pop(node, None)
            self._grown.pop(node, None)
            self._flood(message, but=peer)

    def _on_leave(self, peer: str, message: Leave, now_ms: int) -> None:
        node, creation, seq = message.node, message.creation, message.seq
        if node == self.node:
            self._defend(peer, creation, seq)
            return
        member = self._members.get(node)
        if member is None:
            # Its lease may be on its way here by another path.
            member = self._table.add(node, creation, seq, now_ms)
            if member is None:
                return
            self._table.remember(node, member, now_ms)
        elif creation > member.creation:
            self._table.replace(node, member, now_ms)
            member.creation, member.seq = creation, seq
        else:
            raised = creation == member.creation and seq > member.seq
            living = member.state <= State.SUSPECT
            if creation < member.creation or seq < member.seq:
                return
            if not (raised or living) or self._too_far(member.seq, seq):
                return
            member.seq = seq
            if living:
                self._table.dead(node, member, "left", now_ms)
            member.reason = "left"
        self._flood(message, but=peer)

    def _on_own_lease(self, creation: int, seq: int) -> None:
        """Someone knows a lease of ours: ours must not be lower."""
        if creation > self.creation:
            self.stats.impostors += 1
        elif (
            creation == self.creation
            and seq > self.seq
            and not self._left
            and not self._too_far(self.seq, seq)
        ):
            self.seq = seq

    def _grow(
        self, node: str, creation: int, seq: int, age_ms: int, peer: str, now_ms: int
    ) -> bool:
        """Take one lease; whether it tells of life that we did not know of."""
        member = self._members.get(node)
        if node in self._refused:
            return False
        fresh = age_ms < self.settings.ttl_ms
        renewed_ms = now_ms - age_ms
        if member is None:
            member = self._table.add(node, creation, seq, renewed_ms) if fresh else None
            if member is None:
                return False
        elif creation == member.creation:
            if seq <= member.seq or self._too_far(member.seq, seq):
                return False
            member.seq = seq
            member.renewed_ms = max(member.renewed_ms, renewed_ms)
            if member.state is State.ALIVE:
                self._grown[node] = None
                return True
        elif creation < member.creation:
            return False
        else:
            self._table.replace(node, member, now_ms)
            member.creation, member.seq = creation, seq
            member.renewed_ms = renewed_ms
        if fresh:
            self._table.live(node, member, now_ms)
            self._news[node] = peer
        return fresh

    # What we say.

    def _unreached(self, node: str, now_ms: int) -> None:
        """The channel was lost, and no other has come up in time."""
        member = self._members.get(node)
        if member is not None and member.state is State.ALIVE:
            self._suspect(node, member, now_ms, lapsed=False)

    def _suspect(self, node: str, member: Member, now_ms: int, *, lapsed: bool) -> None:
        reason = "expired" if lapsed else "unreachable"
        self._table.suspect(node, member, self.node, reason, now_ms)
        suspicion = self._suspicion(node, member)
        self._flood(suspicion)
        if node in self._channels and node not in self._peers:
            self._out.append(Send(node, suspicion))

    def _suspicion(self, node: str, member: Member) -> Suspect:
        lapsed = member.reason == "expired"
        return Suspect(node, member.creation, member.seq, self.node, lapsed)

    def _vouch(self, node: str, member: Member, now_ms: int) -> None:
        """We have a channel to it, so it lives. Say so to all."""
        member.seq = min(member.seq + 1, SEQ_MAX)
        member.renewed_ms = now_ms
        if member.state is not State.ALIVE:
            self._table.live(node, member, now_ms)
        self._flood(Alive(node, member.creation, member.seq))

    def _defend(self, peer: str, creation: int, seq: int) -> None:
        """Somebody says that we are suspected, or that we left."""
        self._on_own_lease(creation, seq)
        if creation == self.creation and not self._left:
            self._count_up()
            self.stats.refutations += 1
            defence = Alive(self.node, self.creation, self.seq)
            self._flood(defence)
            if peer not in self._peers:
                self._out.append(Send(peer, defence))

    def _spread_news(self, now_ms: int) -> None:
        if self._news_timer:
            return
        wait_ms = self._news_from_ms + NEWS_GAP_MS - now_ms
        if wait_ms <= 0:
            self._tell_news(now_ms)
        else:
            self._news_timer = True
            self._out.append(SetTimer(_NEWS, wait_ms))

    def _tell_news(self, now_ms: int) -> None:
        news, self._news = self._news, {}
        leases = []
        for node in news:
            member = self._members.get(node)
            if member is not None and member.state <= State.SUSPECT:
                age_ms = max(now_ms - member.renewed_ms, 0)
                if age_ms < self.settings.ttl_ms:
                    leases.append((node, member.creation, member.seq, age_ms))
        if not leases:
            return
        self._news_from_ms = now_ms
        # The one who told us of all this has nothing to learn from it.
        tellers = set(news.values())
        only = tellers.pop() if len(tellers) == 1 else None
        self._tell(leases, [peer for peer in self._peers if peer != only])

    def _tell(self, leases: list[Lease], peers: Iterable[str]) -> None:
        to = list(peers)
        wall_ms = max(self._wall.wall_ms(), 0)
        for at in range(0, len(leases), LEASES_PER_FRAME_MAX):
            message = Leases(wall_ms, tuple(leases[at : at + LEASES_PER_FRAME_MAX]))
            self._out.extend(Send(peer, message) for peer in to)

    def _flood(
        self, message: Suspect | Alive | Leave, *, but: str | None = None
    ) -> None:
        self._out.extend(Send(peer, message) for peer in self._peers if peer != but)

    def _own_lease(self) -> Lease:
        return (self.node, self.creation, self.seq, 0)

    def _count_up(self) -> None:
        self.seq = min(self.seq + 1, SEQ_MAX)

    def _too_far(self, known: int, seq: int) -> bool:
        if seq - known <= SEQ_STEP_MAX:
            return False
        self.stats.ignored += 1
        return True
