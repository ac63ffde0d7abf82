"""The simulator's chance draws what the model draws, from every seed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.errors import InvalidValue
from barrel_p2p.testing.overlay.chance import SimRng
from tests.models.chance import SimRngModel

EDGES = [1, 2, 3, (1 << 48) - 1, 1 << 48, (1 << 48) + 1, 1 << 63, 1 << 64, 1 << 128]
DRAWS = st.lists(
    st.one_of(
        st.tuples(st.just("below"), st.sampled_from(EDGES) | st.integers(-1, 1 << 50)),
        st.tuples(st.just("jitter"), st.integers(-1, 1 << 40)),
        st.tuples(st.just("happens"), st.floats(0, 1)),
        st.tuples(
            st.just("sample"), st.tuples(st.lists(st.integers()), st.integers(-1, 9))
        ),
    ),
    max_size=40,
)


def drawn(rng: SimRng | SimRngModel, what: str, value: object) -> object:
    try:
        if what == "sample":
            return rng.sample(*value)  # type: ignore[misc]
        return getattr(rng, what)(value)
    except InvalidValue as error:
        return str(error)


@given(st.integers(), DRAWS)
def test_chance_agrees_with_the_model(
    seed: int, draws: list[tuple[str, object]]
) -> None:
    rng, model = SimRng(seed), SimRngModel(seed)
    for what, value in draws:
        assert drawn(rng, what, value) == drawn(model, what, value)


def test_a_sample_leaves_what_it_was_taken_from() -> None:
    for seq in ([1, 2, 3], (1, 2, 3), range(1, 4)):
        assert sorted(SimRng(1).sample(seq, 3)) == [1, 2, 3]
        assert list(seq) == [1, 2, 3]


def test_an_edge_of_exactness_is_no_edge_of_chance() -> None:
    rng = SimRng(5)
    with pytest.raises(InvalidValue, match="below"):
        rng.below(0)
    assert all(0 <= rng.below(n) < n for n in EDGES for _ in range(100))
