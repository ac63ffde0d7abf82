"""A class that is quickly made takes and refuses what it did, and makes what it did."""

from __future__ import annotations

import copy
import gc
import pickle
import sys
import weakref
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.records import FIELDS_MAX, quickly_made
from barrel_p2p.errors import InvalidValue
from tests.models.records import made_as_usual


@quickly_made
@dataclass(frozen=True, slots=True)
class Frozen:
    one: object
    two: object
    three: object = 3


@quickly_made
@dataclass(slots=True)
class Open:
    one: object
    two: object = "two"


class Based:
    __slots__ = ()


@quickly_made
@dataclass(frozen=True, slots=True)
class Derived(Based):
    one: object


@quickly_made
@dataclass(frozen=True, slots=True)
class Empty:
    pass


@quickly_made
class Row(NamedTuple):
    one: object
    two: object
    three: object = 3


@quickly_made
class Single(NamedTuple):
    one: object


CLASSES = [Frozen, Open, Derived, Empty, Row, Single]
VALUES = st.one_of(st.none(), st.integers(), st.text(max_size=3), st.lists(st.none()))
NAMES = st.sampled_from(["one", "two", "three", "four", "self", ""])


def outcome(make: object) -> tuple[type, object]:
    try:
        made = make()  # type: ignore[operator]
    except TypeError as error:
        return TypeError, str(error)
    return type(made), made


@given(
    st.sampled_from(CLASSES),
    st.lists(VALUES, max_size=5),
    st.dictionaries(NAMES, VALUES, max_size=4),
)
def test_a_call_agrees_with_the_model(
    cls: type, values: list[object], named: dict[str, object]
) -> None:
    # A name that is equal, but not the same object, is the same name.
    strange = {(name + "x")[:-1]: value for name, value in named.items()}
    expected = outcome(lambda: made_as_usual(cls, *values, **named))
    assert outcome(lambda: cls(*values, **named)) == expected
    assert outcome(lambda: cls(*values, **strange)) == expected


@pytest.mark.parametrize("cls", [Frozen, Open, Row])
def test_a_field_is_not_given_twice(cls: type) -> None:
    with pytest.raises(TypeError, match="multiple values for argument 'one'"):
        cls(1, one=2)


def test_values_are_kept_once_each_and_let_go() -> None:
    class Value:
        pass

    for make in (
        lambda value: Frozen(value, value),
        lambda value: Row(two=value, one=None),
        lambda value: Open(value),
    ):
        value = Value()
        count = sys.getrefcount(value)
        made = [make(value) for _ in range(100)]
        assert sys.getrefcount(value) in (count + 100, count + 200)
        del made
        assert sys.getrefcount(value) == count


def test_the_collector_finds_a_cycle_through_a_field() -> None:
    class Value:
        holder: object

    for cls in (Derived, Single):
        value = Value()
        value.holder = cls(value)
        gone = weakref.ref(value)
        del value
        gc.collect()
        assert gone() is None


def test_what_can_be_in_no_cycle_is_not_looked_at() -> None:
    plain = (1, "a", Row(b"x", None), (1, 2))
    for cls in (Frozen, Row):
        assert not gc.is_tracked(cls(plain, cls("a", 2.0)))
    # Filled later, or by what is: an open one, a list, a dict that is still empty.
    values: tuple[object, ...] = ([], {}, Open(1), ([],), ({},), (Row([], 1),), gc)
    for value in values:
        for cls in (Frozen, Row):
            assert gc.is_tracked(cls(1, value)), value
    assert gc.is_tracked(Open(1))


def test_the_collector_finds_a_cycle_through_a_tuple_of_a_field() -> None:
    class Value:
        holder: object

    for cls in (Frozen, Row):
        value = Value()
        value.holder = cls(1, (cls(2, (value, 3)),))
        gone = weakref.ref(value)
        del value
        gc.collect()
        assert gone() is None


def test_copies_and_pickles_are_equal() -> None:
    for made in (Frozen(1, [2]), Open(1), Row(1, 2), Empty()):
        assert copy.copy(made) == copy.deepcopy(made) == made
        assert pickle.loads(pickle.dumps(made)) == made
    assert replace(Frozen(1, 2), two=5) == Frozen(1, 5)
    assert Row(1, 2)._replace(three=0) == (1, 2, 0)
    assert hash(Frozen(1, 2)) == hash(Frozen(one=1, two=2, three=3))
    assert hash(Row(1, 2)) == hash((1, 2, 3))
    with pytest.raises(AttributeError):
        Frozen(1, 2).one = 2  # type: ignore[misc]


def test_a_subclass_is_made_as_before() -> None:
    class Later(Open):
        def __init__(self) -> None:
            super().__init__("first")

    assert (Later().one, Later().two) == ("first", "two")


def test_a_class_that_takes_more_than_its_fields_is_refused() -> None:
    @dataclass(frozen=True, slots=True)
    class Checked:
        one: int

        def __post_init__(self) -> None:
            pass

    @dataclass(frozen=True, slots=True)
    class Made:
        one: list[int] = field(default_factory=list)

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Named:
        one: int

    @dataclass(frozen=True)
    class Loose:
        one: int

    class Plain:
        pass

    wide = NamedTuple("wide", [(f"f{i}", int) for i in range(FIELDS_MAX + 1)])  # type: ignore[misc]
    for cls in (Checked, Made, Named, Loose, Plain, tuple, type, wide):
        with pytest.raises(InvalidValue, match="cannot be quickly made"):
            quickly_made(cls)
