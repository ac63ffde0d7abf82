"""A filter lets pass what it says, and is refused when it says nothing sensible."""

from __future__ import annotations

import re
from typing import Any

import pytest

from barrel_p2p.core.terms import Atom
from barrel_p2p.errors import InvalidValue, NotEncodable
from barrel_p2p.services.service_events import PATTERN_CHARS_MAX, service_filter

NAMES: list[Any] = ["user_1", b"user_2", b"\xff", 7, ("user_3", 1), Atom("user_4")]


def passed(**arguments: Any) -> list[Any]:
    wants = service_filter(**arguments)
    return [name for name in NAMES if wants(name)]


def test_without_an_argument_all_pass() -> None:
    assert passed() == NAMES


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_a_name_lets_itself_pass_alone(name: object) -> None:
    assert passed(name=name) == [name]


@pytest.mark.parametrize("pattern", ["^user_", re.compile("USER", re.IGNORECASE)])
def test_a_pattern_is_for_names_that_are_text(pattern: object) -> None:
    assert passed(pattern=pattern) == ["user_1", b"user_2"]


def test_a_function_decides_by_itself() -> None:
    assert passed(matches=lambda name: name == 7) == [7]


@pytest.mark.parametrize(
    "arguments",
    [
        {"name": "a", "pattern": "a"},
        {"pattern": "a", "matches": bool},
        {"pattern": "("},
        {"pattern": "a" * (PATTERN_CHARS_MAX + 1)},
        {"pattern": re.compile(b"a")},
    ],
    ids=repr,
)
def test_what_is_no_filter_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        service_filter(**arguments)


def test_a_name_has_to_be_a_key_term() -> None:
    with pytest.raises(NotEncodable):
        service_filter(1.5)
