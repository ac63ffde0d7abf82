"""What a supervisor decides, against a plain model of the documented strategies."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.errors import InvalidValue
from barrel_p2p.runtime.restarts import (
    Ended,
    Forget,
    GiveUp,
    Restart,
    Restarts,
    Start,
    StartFailed,
    Stop,
    Strategy,
    as_intended,
)

STRATEGIES: list[Strategy] = ["one_for_one", "one_for_all", "rest_for_one"]
POLICIES: list[Restart] = ["permanent", "transient", "temporary"]
REASONS = ["normal", "shutdown", ("shutdown", "x"), "killed", ("error", "E", "t"), 7]

strategies = st.sampled_from(STRATEGIES)
policies = st.lists(st.sampled_from(POLICIES), min_size=1, max_size=5)
steps = st.lists(
    st.tuples(
        st.integers(0, 5), st.sampled_from(REASONS), st.booleans(), st.integers(0, 40)
    ),
    max_size=25,
)


class Children:
    """Children as a supervisor has them, and what it would do to them."""

    def __init__(self, restarts: Restarts, wanted: list[Restart]) -> None:
        self.restarts = restarts
        self.policies = dict(enumerate(wanted))
        self.running = dict.fromkeys(self.policies, True)
        self.gave_up = False
        for key, policy in self.policies.items():
            restarts.add(key, policy)

    def perform(self, effects: list[Any]) -> list[int]:
        started = []
        for effect in effects:
            match effect:
                case Stop(key):
                    self.running[key] = False
                case Start(key):
                    assert not self.running[key], "started what runs"
                    self.running[key] = True
                    started.append(key)
                case Forget(key):
                    assert not self.running.pop(key), "forgot what runs"
                    del self.policies[key]
                case GiveUp():
                    self.gave_up = True
        return started


@given(strategies, policies, steps, st.integers(0, 4), st.integers(1, 50))
def test_the_decisions_follow_the_strategy_and_the_intensity(
    strategy: Strategy,
    wanted: list[Restart],
    moves: list[tuple[int, Any, bool, int]],
    intensity: int,
    period_ms: int,
) -> None:
    restarts = Restarts(strategy=strategy, intensity=intensity, period_ms=period_ms)
    children = Children(restarts, wanted)
    now_ms = 0
    restarted_ms: list[int] = []
    for key, reason, fails, later_ms in moves:
        now_ms += later_ms
        if not children.running.get(key):
            continue
        policy = children.policies[key]
        before = dict(children.running)
        order = list(children.policies)
        children.running[key] = False
        event = StartFailed(key) if fails else Ended(key, reason)
        effects = restarts.handle(event, now_ms=now_ms)
        started = children.perform(effects)
        stays = policy == "temporary" or (policy == "transient" and as_intended(reason))
        if stays and not fails:
            assert started == []
            assert {k: v for k, v in before.items() if k != key} == {
                k: v for k, v in children.running.items() if k != key
            }
            continue
        restarted_ms.append(now_ms)
        recent = [at for at in restarted_ms if now_ms - at <= period_ms]
        assert children.gave_up == (len(recent) > intensity)
        if children.gave_up:
            assert effects == [GiveUp()]
            return
        group = {
            "one_for_one": [key],
            "one_for_all": order,
            "rest_for_one": order[order.index(key) :],
        }[strategy]
        again = [k for k in group if children.policies.get(k)]
        assert started == again
        stops = [effect.key for effect in effects if isinstance(effect, Stop)]
        assert stops == [k for k in reversed(group) if k != key]
        for other in set(order) - set(group):
            assert children.running[other] == before[other]


def test_the_child_that_ended_restarts_even_among_temporary_ones() -> None:
    restarts = Restarts(strategy="one_for_all", intensity=1, period_ms=1_000)
    restarts.add(1, "temporary")
    restarts.add(2, "permanent")
    assert restarts.handle(Ended(2, "normal"), now_ms=0) == [
        Stop(1),
        Forget(1),
        Start(2),
    ]
    assert restarts.handle(Ended(1, "killed"), now_ms=0) == []


def test_the_last_allowed_restart_is_made_and_the_next_is_not() -> None:
    restarts = Restarts(strategy="one_for_one", intensity=2, period_ms=100)
    restarts.add(1, "permanent")
    assert restarts.handle(Ended(1, "x"), now_ms=0) == [Start(1)]
    assert restarts.handle(StartFailed(1), now_ms=0) == [Start(1)]
    assert restarts.handle(Ended(1, "x"), now_ms=101) == [Start(1)]
    assert restarts.handle(Ended(1, "x"), now_ms=101) == [Start(1)]
    assert restarts.handle(Ended(1, "x"), now_ms=201) == [GiveUp()]


def test_a_transient_child_is_kept_or_forgotten_as_told() -> None:
    for keep, effects in ((True, []), (False, [Forget(1)])):
        restarts = Restarts(strategy="one_for_one", intensity=1, period_ms=1, keep=keep)
        restarts.add(1, "transient")
        assert restarts.handle(Ended(1, ("shutdown", 1)), now_ms=0) == effects


@pytest.mark.parametrize(("intensity", "period_ms"), [(-1, 1), (10_001, 1), (1, 0)])
def test_numbers_out_of_range_are_refused(intensity: int, period_ms: int) -> None:
    with pytest.raises(InvalidValue):
        Restarts(strategy="one_for_one", intensity=intensity, period_ms=period_ms)
