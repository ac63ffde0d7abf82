"""A member machine says what it must, once, and declares nobody dead too early."""

from __future__ import annotations

from typing import Any

import pytest

from barrel_p2p.core.effects import CancelTimer, Dial, Effect, Publish, Send, SetTimer
from barrel_p2p.core.inputs import DialFailed, Received, TimerFired
from barrel_p2p.core.members import MemberDead, MemberGone, MemberSuspected, MemberUp
from barrel_p2p.core.peers import NodeDown, PeerDown, PeerUp
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.errors import ConfigError
from barrel_p2p.services.member_inputs import (
    CHECKED_REASONS,
    Allow,
    ChannelUp,
    ClockAhead,
    ComeBack,
    GoAway,
    LeaseSettings,
    Refuse,
    Start,
)
from barrel_p2p.services.member_machine import CHECK_MS, NEWS_GAP_MS, MemberMachine
from barrel_p2p.services.member_messages import Alive, Leases, Leave, Suspect
from barrel_p2p.services.member_table import PAUSE_MS, REMEMBERED_TTLS, VERDICT

WALL = 1_800_000_000_000
TTL = 6_000
SUSPECT = 1_000


class Wall:
    def __init__(self) -> None:
        self.at = WALL

    def wall_ms(self) -> int:
        return self.at


class Bench:
    """One machine, ``me@h`` in life 5, and a hand on its clock."""

    def __init__(self, **settings: int) -> None:
        self.wall = Wall()
        self.now = 1_000_000
        self.machine = MemberMachine(
            "me@h",
            5,
            wall=self.wall,
            rng=SeededRng(1),
            settings=LeaseSettings(**settings),
        )
        self.timers: dict[Any, int] = {}
        self.tell(Start())

    def tell(self, event: object) -> list[Effect]:
        effects = self.machine.handle(event, now_ms=self.now)
        for effect in effects:
            if isinstance(effect, SetTimer):
                self.timers[effect.key] = self.now + effect.delay_ms
            elif isinstance(effect, CancelTimer):
                self.timers.pop(effect.key, None)
        return [e for e in effects if not isinstance(e, SetTimer | CancelTimer)]

    def hear(self, peer: str, message: object) -> list[Effect]:
        return self.tell(Received(peer, message))

    def wait(self, ms: int, *, but: tuple[object, ...] = ()) -> list[Effect]:
        """Let time pass; the effects of all timers that fire meanwhile."""
        until, found = self.now + ms, []
        while True:
            due = [(at, str(k), k) for k, at in self.timers.items() if k not in but]
            if not due or min(due)[0] > until:
                break
            at, _, key = min(due)
            self.now = max(self.now, at)
            del self.timers[key]
            found += self.tell(TimerFired(key))
        self.now = until
        return found

    def lease(self, node: str, creation: int = 1, seq: int = 1, age: int = 0) -> Any:
        return Leases(self.wall.at, ((node, creation, seq, age),))

    def meet(self, *peers: str) -> None:
        """Channels to ``peers`` in life 1, all of them neighbours and members."""
        for peer in peers:
            self.tell(ChannelUp(peer, 1, (peer, 9)))
            self.tell(PeerUp(peer))
            self.hear(peer, self.lease(peer))
        self.wait(200, but=("beat",))


def published(effects: list[Effect]) -> list[object]:
    return [e.event for e in effects if isinstance(e, Publish)]


def sent(effects: list[Effect], kind: type[Any]) -> list[tuple[str, Any]]:
    return [
        (e.to, e.message)
        for e in effects
        if isinstance(e, Send) and type(e.message) is kind
    ]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_node_is_its_own_member_from_the_start() -> None:
    machine = MemberMachine("me@h", 5, wall=Wall(), rng=SeededRng(1))
    effects = machine.handle(Start(), now_ms=0)
    assert effects[0] == Publish(MemberUp("me@h", 5))
    assert machine.members() == ["me@h"]
    assert machine.life("me@h") == 5


def test_a_new_peer_is_told_every_lease_with_its_age(bench: Bench) -> None:
    bench.meet("a@h")
    bench.hear("a@h", Leases(WALL, (("b@h", 7, 40, 1_500),)))
    bench.wait(200, but=("beat",))
    [(to, told)] = sent(bench.tell(PeerUp("c@h")), Leases)
    assert to == "c@h"
    assert told.wall_ms == WALL
    seq = bench.machine.seq
    ages = {node: age for node, _, _, age in told.leases}
    assert told.leases[0] == ("me@h", 5, seq, 0)
    assert ages == {"me@h": 0, "a@h": 400, "b@h": 1_700}


def test_a_new_peer_is_told_whom_this_node_suspects(bench: Bench) -> None:
    """It may have had no peer when the suspicion was flooded."""
    bench.meet("a@h")
    bench.hear("a@h", Leases(WALL, (("b@h", 7, 40, 0), ("d@h", 2, 9, 0))))
    bench.hear("a@h", Suspect("b@h", 7, 41, "a@h", False))
    bench.hear("a@h", Suspect("d@h", 2, 9, "a@h", True))
    assert sent(bench.tell(PeerUp("c@h")), Suspect) == [
        ("c@h", Suspect("b@h", 7, 41, "me@h", False)),
        ("c@h", Suspect("d@h", 2, 9, "me@h", True)),
    ]
    assert sent(bench.tell(PeerUp("b@h")), Suspect) == [
        ("b@h", Suspect("d@h", 2, 9, "me@h", True)),
    ]
    bench.hear("a@h", Alive("d@h", 2, 10))
    bench.wait(SUSPECT)
    assert bench.machine.is_dead("b@h")
    assert sent(bench.tell(PeerUp("e@h")), Suspect) == []


def test_the_receiver_adds_the_age_that_it_was_told(bench: Bench) -> None:
    """A lease that was told as old runs out as early as it does at the teller."""
    bench.meet("a@h")
    bench.hear("a@h", Leases(WALL, (("b@h", 1, 1, 4_000),)))
    assert bench.machine.members() == ["a@h", "b@h", "me@h"]
    suspicions = []
    for _ in range(11):
        bench.hear("a@h", bench.lease("a@h", seq=bench.now))
        suspicions += sent(bench.wait(200), Suspect)
    assert [s.node for _, s in suspicions] == ["b@h"]
    bench.wait(SUSPECT)
    assert bench.machine.is_dead("b@h")


def test_a_lease_that_ran_out_at_its_teller_makes_no_member(bench: Bench) -> None:
    bench.meet("a@h")
    assert bench.hear("a@h", bench.lease("b@h", age=TTL)) == []
    assert bench.machine.life("b@h") is None


def test_only_a_higher_number_renews_a_lease(bench: Bench) -> None:
    bench.meet("a@h")
    bench.hear("a@h", bench.lease("b@h", seq=7))
    for _ in range(TTL // 500):
        bench.wait(500)
        bench.wall.at += 500
        bench.hear("a@h", bench.lease("b@h", seq=7))
        bench.hear("a@h", bench.lease("a@h", seq=bench.now))
    bench.wait(SUSPECT + 50)
    assert bench.machine.members() == ["a@h", "me@h"]


def test_a_heartbeat_tells_what_grew_once_to_every_peer(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    bench.wait(2_000)
    bench.hear("a@h", bench.lease("a@h", seq=9))
    told = sent(bench.wait(2_000), Leases)
    assert [to for to, _ in told] == ["a@h", "b@h"]
    assert told[0][1] is told[1][1]
    seq = bench.machine.seq
    assert told[0][1].leases == (("me@h", 5, seq, 0), ("a@h", 1, 9, 0))
    [(_, silent), _] = sent(bench.wait(2_000), Leases)
    assert silent.leases == (("me@h", 5, seq + 1, 0),)


def test_a_new_member_is_passed_on_at_once_but_not_back(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    effects = bench.hear("a@h", bench.lease("c@h", 3, 8))
    assert published(effects) == [MemberUp("c@h", 3)]
    assert sent(effects, Leases) == [("b@h", Leases(WALL, (("c@h", 3, 8, 0),)))]


def test_news_that_follow_closely_travel_together(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    bench.hear("a@h", bench.lease("c@h"))
    assert sent(bench.hear("a@h", bench.lease("d@h")), Leases) == []
    assert sent(bench.hear("a@h", bench.lease("e@h")), Leases) == []
    [(to, told)] = sent(bench.wait(NEWS_GAP_MS), Leases)
    assert to == "b@h"
    assert [node for node, *_ in told.leases] == ["d@h", "e@h"]


def test_a_lost_channel_is_dialled_before_anybody_is_told(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    effects = bench.tell(NodeDown("a@h", "unreachable"))
    assert effects == [Dial("a@h", ("a@h", 9), 1)]
    effects = bench.wait(CHECK_MS)
    assert published(effects) == [MemberSuspected("a@h", 1, "me@h")]
    suspicion = Suspect("a@h", 1, 1, "me@h", False)
    assert sent(effects, Suspect) == [("a@h", suspicion), ("b@h", suspicion)]
    assert published(bench.wait(SUSPECT + 20)) == [MemberDead("a@h", 1, "unreachable")]


def test_a_dial_that_fails_ends_the_wait_for_it(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    bench.tell(PeerDown("a@h", "unreachable"))
    bench.tell(NodeDown("a@h", "unreachable"))
    effects = bench.tell(DialFailed("a@h", 1, "nodedown"))
    assert published(effects) == [MemberSuspected("a@h", 1, "me@h")]
    assert ("check", "a@h") not in bench.timers


def test_the_failure_of_an_earlier_dial_says_nothing(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    bench.tell(NodeDown("a@h", "unreachable"))
    bench.tell(ChannelUp("a@h", 1))
    bench.tell(NodeDown("a@h", "unreachable"))
    assert bench.tell(DialFailed("a@h", 1, "nodedown")) == []


def test_a_node_that_is_reached_again_is_never_suspected(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    bench.tell(NodeDown("a@h", "idle_timeout"))
    assert bench.tell(ChannelUp("a@h", 1)) == []
    assert published(bench.wait(CHECK_MS + SUSPECT)) == []


@pytest.mark.parametrize("reason", ["disconnect", "superseded", "busy", "idle"])
def test_an_intended_end_of_a_channel_is_no_hint(bench: Bench, reason: str) -> None:
    bench.meet("a@h", "b@h")
    assert reason not in CHECKED_REASONS
    assert bench.tell(NodeDown("a@h", reason)) == []


def test_who_holds_a_channel_to_the_suspect_refutes_for_it(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    effects = bench.hear("b@h", Suspect("a@h", 1, 4, "b@h", False))
    alive = Alive("a@h", 1, 5)
    assert effects == [Send("a@h", alive), Send("b@h", alive)]


def test_no_channel_is_an_answer_to_a_lease_that_ran_out(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    effects = bench.hear("b@h", Suspect("a@h", 1, 4, "b@h", True))
    assert published(effects) == [MemberSuspected("a@h", 1, "b@h")]
    assert [to for to, _ in sent(effects, Suspect)] == ["a@h"]


def test_who_knows_a_higher_number_answers_the_one_who_doubts(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    bench.hear("a@h", bench.lease("c@h", 2, 30))
    effects = bench.hear("b@h", Suspect("c@h", 2, 29, "b@h", True))
    assert effects == [Send("b@h", Alive("c@h", 2, 30))]
    assert bench.machine.suspects() == []


def test_a_suspicion_is_passed_on_once(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    bench.hear("a@h", bench.lease("c@h", 2, 30))
    suspicion = Suspect("c@h", 2, 30, "z@h", False)
    assert sent(bench.hear("b@h", suspicion), Suspect) == [("a@h", suspicion)]
    assert bench.hear("a@h", suspicion) == []
    assert bench.hear("b@h", suspicion) == []


def test_a_suspected_node_refutes_with_a_higher_number(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    seq = bench.machine.seq
    effects = bench.hear("a@h", Suspect("me@h", 5, seq + 3, "b@h", False))
    alive = Alive("me@h", 5, seq + 4)
    assert effects == [Send("a@h", alive), Send("b@h", alive)]
    assert bench.machine.stats.refutations == 1


def test_an_old_life_of_ours_may_be_suspected(bench: Bench) -> None:
    bench.meet("a@h")
    assert bench.hear("a@h", Suspect("me@h", 4, 9, "b@h", False)) == []


def test_alive_ends_a_suspicion_and_is_passed_on_once(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    bench.hear("a@h", bench.lease("c@h", 2, 30))
    bench.hear("b@h", Suspect("c@h", 2, 30, "b@h", False))
    alive = Alive("c@h", 2, 31)
    assert bench.hear("b@h", alive) == [Send("a@h", alive)]
    assert bench.hear("a@h", alive) == []
    assert bench.machine.suspects() == []
    assert published(bench.wait(SUSPECT + 100)) == []


def test_a_wrong_verdict_is_undone_by_a_higher_number(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    bench.hear("a@h", bench.lease("c@h", 2, 30))
    bench.hear("b@h", Suspect("c@h", 2, 30, "b@h", False))
    assert MemberDead("c@h", 2, "unreachable") in published(bench.wait(SUSPECT + 20))
    assert bench.hear("a@h", bench.lease("c@h", 2, 30)) == []
    effects = bench.hear("a@h", bench.lease("c@h", 2, 31))
    assert published(effects) == [MemberUp("c@h", 2)]
    assert MemberGone("c@h", 2) not in published(bench.wait(TTL - 500))


def test_a_channel_to_a_dead_node_undoes_the_verdict(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    bench.tell(NodeDown("a@h", "unreachable"))
    bench.wait(CHECK_MS + SUSPECT + 20)
    effects = bench.tell(ChannelUp("a@h", 1))
    assert published(effects) == [MemberUp("a@h", 1)]
    assert sent(effects, Alive)[0] == ("a@h", Alive("a@h", 1, 2))


def test_a_channel_to_a_node_that_left_undoes_nothing(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    effects = bench.hear("a@h", Leave("a@h", 1, 9))
    assert published(effects) == [MemberDead("a@h", 1, "left")]
    assert sent(effects, Leave) == [("b@h", Leave("a@h", 1, 9))]
    bench.tell(NodeDown("a@h", "disconnect"))
    assert bench.tell(ChannelUp("a@h", 1)) == []
    assert published(bench.hear("a@h", bench.lease("a@h", 1, 10))) == [
        MemberUp("a@h", 1)
    ]


def test_leave_overtakes_the_lease_that_it_ends(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    bench.hear("a@h", Leave("c@h", 1, 9))
    assert published(bench.hear("b@h", bench.lease("c@h", 1, 9))) == []


def test_the_dead_are_hidden_then_gone_then_forgotten(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    bench.hear("a@h", Leave("b@h", 1, 9))
    assert bench.machine.is_dead("b@h")
    bench.tell(NodeDown("a@h", "disconnect"))
    bench.tell(PeerDown("a@h", "disconnected"))
    assert published(bench.wait(TTL - 100))[-1:] != [MemberGone("b@h", 1)]
    assert MemberGone("b@h", 1) in published(bench.wait(200))
    # A late echo of what was known then.
    assert bench.hear("a@h", bench.lease("b@h", 1, 9)) == []
    bench.wait(REMEMBERED_TTLS * TTL + 100)
    assert not bench.machine.is_dead("b@h")


def test_a_later_life_ends_the_earlier_one_for_good(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    effects = bench.hear("b@h", bench.lease("a@h", 2, 1))
    assert published(effects) == [
        MemberDead("a@h", 1, "restarted"),
        MemberGone("a@h", 1),
        MemberUp("a@h", 2),
    ]
    assert bench.hear("b@h", bench.lease("a@h", 1, 99)) == []
    assert bench.machine.life("a@h") == 2


def test_a_channel_to_a_later_life_ends_the_earlier_one(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    bench.tell(NodeDown("a@h", "superseded"))
    effects = bench.tell(ChannelUp("a@h", 2))
    assert published(effects) == [
        MemberDead("a@h", 1, "restarted"),
        MemberGone("a@h", 1),
    ]


def test_leaving_says_so_and_joining_again_takes_it_back(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    seq = bench.machine.seq + 1
    leave = Leave("me@h", 5, seq)
    effects = bench.tell(GoAway())
    assert effects[:2] == [Send("a@h", leave), Send("b@h", leave)]
    assert bench.hear("a@h", Suspect("me@h", 5, seq, "a@h", False)) == []
    assert bench.tell(NodeDown("b@h", "unreachable")) == []
    [(_, told)] = sent(bench.tell(PeerUp("a@h")), Leases)
    assert told.leases[0] == ("me@h", 5, seq + 1, 0)


def test_whoever_has_left_is_the_only_member_it_knows(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    bench.hear("a@h", Suspect("b@h", 1, 1, "a@h", True))
    assert bench.machine.suspects() == ["b@h"]
    effects = bench.tell(GoAway())
    assert published(effects) == [
        MemberDead("a@h", 1, "left"),
        MemberDead("b@h", 1, "left"),
    ]
    assert bench.machine.members() == ["me@h"]
    # What was under way brings nobody back.
    late = Leases(WALL, (("a@h", 1, 9, 0), ("c@h", 1, 1, 0)))
    assert bench.hear("a@h", late) == []
    assert bench.hear("a@h", Alive("b@h", 1, 9)) == []
    assert published(bench.tell(ChannelUp("b@h", 1))) == []
    assert bench.machine.members() == ["me@h"]


@pytest.mark.parametrize("begin", [ComeBack(), PeerUp("a@h")])
def test_the_same_leases_bring_all_back_after_joining_again(
    bench: Bench, begin: object
) -> None:
    bench.meet("a@h", "b@h")
    seqs = {name: bench.machine._members[name].seq for name in ("a@h", "b@h")}
    bench.tell(GoAway())
    bench.tell(begin)
    told = Leases(WALL, tuple((name, 1, seq, 0) for name, seq in seqs.items()))
    assert published(bench.hear("a@h", told)) == [
        MemberUp("a@h", 1),
        MemberUp("b@h", 1),
    ]
    assert bench.machine.members() == ["a@h", "b@h", "me@h"]


def test_a_node_that_stops_holds_nobody_for_dead(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    assert published(bench.tell(GoAway(alone=False))) == []
    assert bench.machine.members() == ["a@h", "b@h", "me@h"]


def test_an_echo_of_our_leave_is_refuted_once_we_are_back(bench: Bench) -> None:
    bench.meet("a@h")
    bench.tell(GoAway())
    left = bench.machine.seq
    bench.tell(PeerUp("a@h"))
    assert sent(bench.hear("a@h", Leave("me@h", 5, left)), Alive)


def test_a_peer_whose_clock_is_ahead_is_named_once_and_no_member() -> None:
    """A node an hour ahead is refused and named, and keeps no dead node alive (C9)."""
    bench = Bench()
    bench.meet("a@h")
    bench.tell(ChannelUp("x@h", 1))
    bench.tell(PeerUp("x@h"))
    ahead = Leases(WALL + 3_600_000, (("x@h", 1, 1, 0), ("y@h", 1, 1, 0)))
    effects = bench.hear("x@h", ahead)
    assert published(effects) == [
        ClockAhead("x@h", 3_600_000),
        MemberUp("y@h", 1),
    ]
    assert published(bench.hear("x@h", ahead)) == []
    assert bench.machine.stats.skewed == 2
    bench.hear("x@h", Suspect("y@h", 1, 1, "x@h", True))
    dead = []
    for _ in range(30):
        dead += published(bench.wait(100))
        bench.hear("x@h", Leases(bench.wall.at + 3_600_000, (("y@h", 1, 1, 0),)))
    assert MemberDead("y@h", 1, "expired") in dead


def test_a_clock_within_the_skew_or_behind_is_a_member_s(bench: Bench) -> None:
    bench.meet("a@h")
    for node, off in (("b@h", 5_000), ("c@h", -86_400_000)):
        bench.hear(node, Leases(WALL + off, ((node, 1, 1, 0),)))
    assert bench.machine.members() == ["a@h", "b@h", "c@h", "me@h"]


def test_a_node_that_was_stopped_declares_nobody_dead(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    bench.now += 60_000  # Nothing was heard, because nothing was run.
    for key in ("beat", VERDICT):
        del bench.timers[key]
        assert published(bench.tell(TimerFired(key))) == []
    assert bench.machine.stats.pauses >= 1
    assert bench.machine.members() == ["a@h", "b@h", "me@h"]
    assert published(bench.wait(TTL - 1)) == []
    told = published(bench.wait(SUSPECT + 100))
    assert MemberDead("a@h", 1, "expired") in told


def test_a_stop_shorter_than_a_lease_is_seen_by_the_late_heartbeat(
    bench: Bench,
) -> None:
    """No verdict was due meanwhile, and yet nobody could have been heard."""
    bench.meet("a@h", "b@h")
    bench.wait(1)
    bench.now += 4_500
    del bench.timers["beat"]
    bench.tell(TimerFired("beat"))
    assert bench.machine.stats.pauses == 1
    assert published(bench.wait(TTL - 100)) == []


def test_a_suspicion_that_a_stop_interrupted_starts_anew(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    bench.tell(NodeDown("a@h", "unreachable"))
    bench.wait(CHECK_MS, but=("beat",))
    bench.now += SUSPECT + PAUSE_MS + 100
    del bench.timers[VERDICT]
    assert published(bench.tell(TimerFired(VERDICT))) == []
    assert published(bench.wait(SUSPECT - 50, but=("beat",))) == []
    dead = published(bench.wait(100, but=("beat",)))
    assert dead == [MemberDead("a@h", 1, "unreachable")]


def test_this_node_never_expires_here(bench: Bench) -> None:
    """Even after a stop longer than its lease, and alone."""
    bench.wait(10 * TTL)
    bench.now += 100 * TTL
    bench.wait(10 * TTL)
    assert bench.machine.members() == ["me@h"]


def test_a_refused_node_is_dead_until_it_is_allowed(bench: Bench) -> None:
    bench.meet("a@h", "b@h")
    assert published(bench.tell(Refuse("a@h"))) == [MemberDead("a@h", 1, "revoked")]
    assert bench.hear("b@h", bench.lease("a@h", 1, 50)) == []
    assert bench.hear("b@h", bench.lease("a@h", 2, 1)) == []
    bench.tell(Allow("a@h"))
    assert published(bench.hear("b@h", bench.lease("a@h", 1, 51))) == [
        MemberUp("a@h", 1)
    ]


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="member_ttl_ms=3000"):
        LeaseSettings(heartbeat_ms=2_000, ttl_ms=3_000)
    with pytest.raises(ConfigError):
        LeaseSettings(suspect_ms=0)
