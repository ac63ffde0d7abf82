"""The agenda makes the calls of the model, whatever is added when."""

from __future__ import annotations

from typing import Protocol

from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.errors import InvalidValue
from barrel_p2p.testing.overlay.schedule import Call, Schedule
from tests.models.schedule import ScheduleModel

# A call adds further ones this much later; below 0 is the past, which is refused.
DELAYS = st.integers(-1, 6)
STEPS = st.lists(
    st.tuples(DELAYS, st.lists(st.tuples(DELAYS, st.lists(DELAYS, max_size=2)))),
    max_size=30,
)

type Told = list[tuple[object, ...]]


class Agenda(Protocol):
    @property
    def now_ms(self) -> int: ...
    @property
    def events(self) -> int: ...
    def at(self, when_ms: int, call: Call, a: object, b: object) -> None: ...
    def run_until(self, end_ms: int) -> int: ...
    def __len__(self) -> int: ...


def told_by(
    agenda: Agenda, steps: list[tuple[int, list[tuple[int, list[int]]]]]
) -> Told:
    told: Told = []

    def add(delay_ms: int, a: object, b: object) -> None:
        try:
            agenda.at(agenda.now_ms + delay_ms, call, a, b)
        except InvalidValue as error:
            told.append(("refused", str(error)))

    def call(a: object, b: object) -> None:
        told.append((agenda.now_ms, a))
        for number, (delay_ms, later) in enumerate(b):  # type: ignore[arg-type, var-annotated]
            add(delay_ms, (a, number), [(each, []) for each in later])

    for number, (delay_ms, later) in enumerate(steps):
        add(delay_ms, number, later)
        if number % 5 == 4:
            told.append(("made", agenda.run_until(agenda.now_ms + 3)))
            told.append((agenda.now_ms, agenda.events, len(agenda)))
    told.append(("made", agenda.run_until(agenda.now_ms + 100), len(agenda)))
    return told


@given(STEPS)
def test_the_agenda_agrees_with_the_model(
    steps: list[tuple[int, list[tuple[int, list[int]]]]],
) -> None:
    assert told_by(Schedule(), steps) == told_by(ScheduleModel(), steps)
