"""A seed replays every draw, and no draw leaves its bound."""

from __future__ import annotations

import pytest

from barrel_p2p.core.rng import Rng, SeededRng
from barrel_p2p.errors import InvalidValue


def draws(rng: Rng) -> list[object]:
    return [rng.below(1_000), rng.sample(range(50), 5), rng.jitter(10_000)]


def test_equal_seeds_draw_equally_and_others_do_not() -> None:
    assert draws(SeededRng(7)) == draws(SeededRng(7)) != draws(SeededRng(8))


def test_a_seed_draws_the_same_on_every_python() -> None:
    assert draws(SeededRng(7)) == [331, [9, 25, 41, 3, 4], 8_779]


def test_every_draw_is_within_its_bound_and_reaches_both_ends() -> None:
    rng = SeededRng(1)
    assert {rng.below(3) for _ in range(200)} == {0, 1, 2}
    assert {rng.jitter(2) for _ in range(200)} == {0, 1, 2}
    assert {rng.jitter(0), rng.below(1)} == {0}


def test_a_sample_has_no_position_twice_and_never_more_than_there_are() -> None:
    rng = SeededRng(1)
    assert sorted(rng.sample("abc", 9)) == ["a", "b", "c"]
    assert sorted(rng.sample("aab", 3)) == ["a", "a", "b"]
    assert rng.sample("abc", 0) == rng.sample("", 5) == []


def test_bounds_that_leave_nothing_to_draw_are_refused() -> None:
    rng = SeededRng(1)
    with pytest.raises(InvalidValue, match=r"below\(0\)"):
        rng.below(0)
    with pytest.raises(InvalidValue, match="-1 items"):
        rng.sample("abc", -1)
    with pytest.raises(InvalidValue, match="-1 ms"):
        rng.jitter(-1)
