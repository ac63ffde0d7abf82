"""Every setting has a range; what is outside is refused by key and bound."""

from __future__ import annotations

import contextlib
import dataclasses
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from barrel_p2p.errors import ConfigError
from barrel_p2p.quic.engine import SEED_BYTES, Engine
from barrel_p2p.quic.pump import RawConnection
from barrel_p2p.quic.settings import CONGESTION_CONTROLS, EngineSettings
from tests.endpoints import certificate

NUMBERS = [
    field.name
    for field in dataclasses.fields(EngineSettings)
    if isinstance(field.default, int) and not isinstance(field.default, bool)
] + ["keep_alive_ms"]
FREE = [name for name in NUMBERS if name != "keep_alive_ms"]
FLAGS = [
    field.name
    for field in dataclasses.fields(EngineSettings)
    if isinstance(field.default, bool)
]
RANGE = re.compile(r"^(\w+)=(-?\d+) is outside (-?\d+) to (\d+)$")

# Together these leave every single number free to take any value of its range.
ROOMY = {
    "idle_timeout_ms": 2**31 - 1,
    "send_low": 0,
    "send_high": 4096,
    "send_max": 1 << 30,
    "connection_send_high": 2**31 - 1,
}


def complaint(**values: object) -> str:
    """The text of the ConfigError that these settings must give."""
    with pytest.raises(ConfigError) as raised:
        EngineSettings(**values)  # type: ignore[arg-type]
    return str(raised.value)


def bounds(name: str) -> tuple[int, int]:
    """Lowest and highest value of a number, as its own error tells them."""
    found = RANGE.match(complaint(**{name: -1}))
    assert found is not None
    assert found[1] == name
    return int(found[3]), int(found[4])


def make_engine(settings: EngineSettings) -> Engine:
    """An engine with these settings and no socket."""
    return Engine(
        settings,
        certificate_file=certificate().cert_file,
        key_file=certificate().key_file,
        reset_seed=bytes(SEED_BYTES),
        call_soon=lambda call: None,
        on_error=lambda error: None,
        accept=RawConnection,
    )


def test_the_defaults_are_in_range() -> None:
    settings = EngineSettings()
    for name in NUMBERS:
        if name != "keep_alive_ms":
            lowest, highest = bounds(name)
            assert lowest <= getattr(settings, name) <= highest


@given(
    name=st.sampled_from(NUMBERS),
    beyond=st.integers(1, 2**70) | st.integers(1, 3),
    above=st.booleans(),
)
def test_a_number_outside_its_range_is_refused_by_name_value_and_range(
    name: str, beyond: int, above: bool
) -> None:
    lowest, highest = bounds(name)
    value = highest + beyond if above else lowest - beyond
    text = complaint(**{name: value})
    assert text == f"{name}={value} is outside {lowest} to {highest}"


@given(name=st.sampled_from(FREE), data=st.data())
def test_a_number_inside_its_range_is_kept(name: str, data: st.DataObject) -> None:
    lowest, highest = bounds(name)
    value = data.draw(st.integers(lowest, highest) | st.sampled_from([lowest, highest]))
    values: dict[str, int] = ROOMY | {name: value}
    assume(values["send_low"] < values["send_high"] <= values["send_max"])
    assume(values["send_high"] <= values["connection_send_high"])
    settings = EngineSettings(**values)  # type: ignore[arg-type]
    assert getattr(settings, name) == value


@given(idle=st.integers(100, 10_000), keep=st.integers(0, 10_000))
def test_keep_alive_is_at_most_half_of_the_idle_timeout(idle: int, keep: int) -> None:
    if 2 * keep <= idle:
        settings = EngineSettings(idle_timeout_ms=idle, keep_alive_ms=keep)
        assert settings.keep_alive() == keep
        return
    text = complaint(idle_timeout_ms=idle, keep_alive_ms=keep)
    assert f"keep_alive_ms={keep} " in text
    assert f"idle_timeout_ms={idle}" in text


@given(idle=st.integers(100, 10_000))
def test_keep_alive_is_a_third_of_the_idle_timeout_unless_given(idle: int) -> None:
    assert EngineSettings(idle_timeout_ms=idle).keep_alive() == idle // 3


@given(
    low=st.integers(0, 1 << 16),
    high=st.integers(4096, 1 << 16),
    most=st.integers(4096, 1 << 16),
    whole=st.integers(4096, 1 << 16),
)
def test_send_marks_out_of_order_are_refused_by_both_names(
    low: int, high: int, most: int, whole: int
) -> None:
    values = {
        "send_low": low,
        "send_high": high,
        "send_max": most,
        "connection_send_high": whole,
    }
    if low < high <= most and high <= whole:
        assert EngineSettings(**values).send_low == low  # type: ignore[arg-type]
        return
    text = complaint(**values)
    pairs = [
        ("send_low", "send_high", low >= high),
        ("send_high", "send_max", high > most),
        ("send_high", "connection_send_high", high > whole),
    ]
    below, above, _ = next(entry for entry in pairs if entry[2])
    assert f"{below}={values[below]} " in text
    assert f"{above}={values[above]}" in text


@pytest.mark.parametrize("value", [1.5, "7", True, float("nan")])
def test_a_number_of_another_type_is_refused_by_name(value: object) -> None:
    for name in NUMBERS:
        assert complaint(**{name: value}).startswith(f"{name}={value!r} ")


@pytest.mark.parametrize("value", [1, "yes", None])
def test_a_flag_of_another_type_is_refused_by_name(value: object) -> None:
    for name in FLAGS:
        assert complaint(**{name: value}).startswith(f"{name}={value!r} ")


@pytest.mark.parametrize("value", ["reno2", "", 7])
def test_an_unknown_congestion_control_is_refused_with_those_known(
    value: object,
) -> None:
    text = complaint(congestion=value)
    assert text == f"congestion={value!r} is none of {', '.join(CONGESTION_CONTROLS)}"


@pytest.mark.parametrize("name", CONGESTION_CONTROLS)
def test_every_congestion_control_makes_an_engine(name: str) -> None:
    make_engine(EngineSettings(congestion=name)).close()


@pytest.mark.parametrize("end", [0, 1], ids=["lowest", "highest"])
def test_the_ends_of_every_range_make_an_engine(end: int) -> None:
    """Memory for a large maximum is only reserved, never touched."""
    for name in FREE:
        values: dict[str, int] = ROOMY | {name: bounds(name)[end]}
        if name != "send_low":
            values["send_high"] = min(values["send_high"], values["send_max"])
        else:
            values["send_high"] = values["send_low"] + 1
        values["connection_send_high"] = max(
            values["connection_send_high"], values["send_high"]
        )
        with contextlib.suppress(ConfigError):  # The marks are out of order.
            make_engine(EngineSettings(**values)).close()  # type: ignore[arg-type]


def test_settings_cannot_be_changed_afterwards() -> None:
    settings = EngineSettings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.send_low = 1  # type: ignore[misc]
