"""The passive view does what the model does, and draws the same of chance."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.names import Address
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.membership.passive import SPARES_MAX, PassiveView
from barrel_p2p.membership.settings import Settings
from tests.models.passive import PassiveModel

# Few names, so that they meet in the view, among the spares and in the tables.
NAMES = [f"n{i}@h" for i in range(7)]
NAME = st.sampled_from(NAMES)
ADDRESS = st.builds(Address, NAME, st.just("h"), st.sampled_from([0, 1, 2]))
ADDRESSES = st.lists(ADDRESS, max_size=9).map(tuple)
SOME = st.lists(NAME, max_size=4)
TIMED = ("met", "failed", "refused", "drop_aged")
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("hear_all"), ADDRESSES, st.integers(0, 9), SOME, SOME, SOME),
        st.tuples(st.just("add"), ADDRESS, SOME),
        st.tuples(st.sampled_from(["met", "renew"]), ADDRESS),
        st.tuples(st.sampled_from(["failed", "refused", "pop", "prove"]), NAME),
        st.tuples(st.just("sample"), st.integers(0, 9), NAME),
        st.tuples(st.sampled_from(["eligible", "first_free_ms"]), SOME),
        st.tuples(st.sampled_from(["drop_aged", "take_spare", "clear"])),
    ),
    max_size=80,
)


class _Both:
    """The view and its model, with chance of the same seed."""

    def __init__(self, settings: Settings) -> None:
        self.views: list[Any] = [
            PassiveView(settings, SeededRng(7)),
            PassiveModel(settings, SeededRng(7)),
        ]
        self.now_ms = 0

    def agree_on(self, what: str, *values: object, **named: object) -> Any:
        found = [getattr(view, what)(*values, **named) for view in self.views]
        shown = [_shown(each) for each in found]
        assert shown[0] == shown[1]
        return found[0]

    def step(self, step: tuple[Any, ...]) -> None:
        now_ms = self.now_ms
        match step:
            case "hear_all", addresses, count, barred, expiring, up:
                self.agree_on(
                    "hear_all",
                    addresses,
                    count,
                    now_ms,
                    barred=(dict.fromkeys(barred), {"n0@h": None}),
                    expiring=({n: now_ms + at for at, n in enumerate(expiring)}, {}),
                    up=dict.fromkeys(up),
                    first_out=up,
                )
            case "prove", name:
                self._prove(name)
            case "add", address, first_out:
                self.agree_on("add", address, now_ms, first_out=first_out)
            case "sample", count, without:
                self.agree_on("sample", count, without=without)
            case "eligible", unfit:
                self.agree_on("eligible", now_ms, unfit)
            case "first_free_ms", unfit:
                self.agree_on("first_free_ms", unfit, enough_ms=now_ms + 100)
            case what, *values:
                timed = (now_ms,) if what in TIMED else ()
                self.agree_on(what, *values, *timed)

    def _prove(self, name: str) -> None:
        for view in self.views:
            entry = view.get(name)
            if entry is not None:
                entry.proven, entry.last_seen_ms = True, self.now_ms


def _shown(value: object) -> object:
    if isinstance(value, list):
        return [_shown(each) for each in value]
    if hasattr(value, "last_seen_ms"):
        fields = ("address", "last_seen_ms", "proven", "fail_count", "refusals")
        return [getattr(value, name) for name in (*fields, "backoff_until_ms")]
    return value


@given(size=st.integers(1, 6), steps=STEPS, passed_ms=st.integers(0, 400))
def test_the_view_agrees_with_the_model(
    size: int, steps: list[tuple[Any, ...]], passed_ms: int
) -> None:
    both = _Both(
        Settings(
            passive_size=size,
            passive_max_age_ms=3_000,
            max_fail_count=3,
            base_backoff_ms=100,
        )
    )
    for step in steps:
        both.step(step)
        both.now_ms += passed_ms
        both.agree_on("names")
        both.agree_on("entries")
        for name in NAMES[:3]:
            both.agree_on("get", name)
            both.agree_on("__contains__", name)
        both.agree_on("__len__")


@given(st.lists(st.integers(0, SPARES_MAX + 40), min_size=300, max_size=700))
def test_spares_agree_with_the_model_when_there_are_too_many(
    numbers: list[int],
) -> None:
    both = _Both(Settings(passive_size=2))
    for number in numbers:
        both.agree_on("add", Address(f"n{number}@h", "h", 1), 0)
    for _ in range(SPARES_MAX + 1):
        both.agree_on("take_spare")


def test_what_is_no_address_is_refused() -> None:
    passive: Any = PassiveView(Settings(), SeededRng(1))
    for wrong in (None, "n0@h", ("n0@h",), ["n0@h", "h", 1]):
        for call in (passive.renew, lambda it: passive.met(it, 0)):
            with pytest.raises(TypeError, match="no address"):
                call(wrong)
