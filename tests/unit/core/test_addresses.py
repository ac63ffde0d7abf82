"""Atoms, pids and references are immutable values with checked contents."""

from __future__ import annotations

import copy

import pytest

from barrel_p2p.core.terms import Atom, Pid, Ref
from barrel_p2p.errors import InvalidValue

NODES_WRONG = [
    "",
    "a",
    "a@",
    "@h",
    "a@h@i",
    "A@h",
    "a@H",
    ".a@h",
    "-a@h",
    "a.@h",
    "a@.h",
    "a@-h",
    "a@h.",
    "a b@h",
    "a/b@h",
    "é@h",
    "a\0@h",
    "a" * 199 + "@h",
]
NODES_RIGHT = ["a@h", "_@_", "a.b-c_9@x.y-z", "a-@h-", "9@0", "a" * 198 + "@h"]


def test_an_atom_equals_atoms_of_its_name_only() -> None:
    assert Atom("ok") == Atom("ok")
    assert hash(Atom("ok")) == hash(Atom("ok"))
    assert Atom("ok") != Atom("no")
    assert Atom("ok") != "ok"
    assert Atom("ok") != b"ok"
    assert {Atom("ok"): 1, "ok": 2}[Atom("ok")] == 1


def test_an_atom_shows_its_name() -> None:
    assert str(Atom("ok")) == "ok"
    assert repr(Atom("o k")) == "Atom('o k')"
    assert Atom("ok").name == "ok"


@pytest.mark.parametrize("name", ["undefined", "true", "false"])
def test_names_of_values_are_no_atoms(name: str) -> None:
    with pytest.raises(InvalidValue, match=repr(name)):
        Atom(name)


@pytest.mark.parametrize("name", ["", "nil", "None", "é" * 255, "a\0b", "True"])
def test_any_other_short_name_is_an_atom(name: str) -> None:
    assert Atom(name).name == name


@pytest.mark.parametrize("name", ["x" * 256, "\ud800", b"ok", None, 1, Atom("ok")])
def test_what_utf8_cannot_carry_is_no_atom(name: str) -> None:
    with pytest.raises(InvalidValue):
        Atom(name)


def test_a_subclass_of_str_is_no_name() -> None:
    class Name(str):
        __slots__ = ()

    with pytest.raises(InvalidValue, match="Name"):
        Atom(Name("ok"))


@pytest.mark.parametrize("node", NODES_WRONG)
def test_a_pid_needs_a_node_name(node: str) -> None:
    with pytest.raises(InvalidValue):
        Pid(node, 1, 1)
    with pytest.raises(InvalidValue):
        Ref(node, 1, (1,))


@pytest.mark.parametrize("node", NODES_RIGHT)
def test_a_node_name_is_kept_as_it_is(node: str) -> None:
    assert Pid(node, 1, 1).node == node
    assert Ref(node, 1, (1,)).node == node


@pytest.mark.parametrize(
    "number", [-1, 2**64, True, 1.0, "1", None, pytest.param(10**5_000, id="huge")]
)
def test_a_pid_s_id_has_64_bits(number: int) -> None:
    with pytest.raises(InvalidValue, match="id"):
        Pid("a@h", number, 1)


@pytest.mark.parametrize("number", [-1, 2**32, True, None])
def test_a_creation_has_32_bits(number: int) -> None:
    with pytest.raises(InvalidValue, match="creation"):
        Pid("a@h", 1, number)
    with pytest.raises(InvalidValue, match="creation"):
        Ref("a@h", number, (1,))


@pytest.mark.parametrize("words", [(), (1,) * 6, [1], (2**32,), (-1,), (True,), None])
def test_a_reference_has_1_to_5_words_of_32_bits(words: tuple[int, ...]) -> None:
    with pytest.raises(InvalidValue, match="word"):
        Ref("a@h", 1, words)


def test_addresses_differ_in_every_field() -> None:
    pids = {Pid(n, i, c) for n in ("a@h", "b@h") for i in (1, 2**63) for c in (1, 2)}
    words = [(1,), (2,), (1, 0), (1, 2, 3, 4, 5)]
    refs = {Ref(n, c, w) for n in ("a@h", "b@h") for c in (1, 2) for w in words}
    assert (len(pids), len(refs), len(pids | refs)) == (8, 16, 24)


def test_addresses_show_their_fields() -> None:
    assert repr(Pid("a@h", 7, 1)) == "Pid(node='a@h', id=7, creation=1)"
    assert repr(Ref("a@h", 1, (7,))) == "Ref(node='a@h', creation=1, words=(7,))"


def test_addresses_can_be_matched() -> None:
    match Pid("a@h", 7, 1), Ref("b@h", 2, (3, 4)), Atom("ok"):
        case Pid(node, number, creation), Ref(_, _, words), Atom(name):
            assert (node, number, creation, words, name) == ("a@h", 7, 1, (3, 4), "ok")
        case _:
            pytest.fail("no match")


@pytest.mark.parametrize("value", [Atom("ok"), Pid("a@h", 7, 1), Ref("a@h", 1, (7,))])
def test_addresses_cannot_be_changed(value: object) -> None:
    for field in ("name", "node", "id", "creation", "words", "new"):
        with pytest.raises(AttributeError):
            setattr(value, field, 1)
    assert copy.deepcopy([value]) == [value]


@pytest.mark.parametrize("cls", [Atom, Pid, Ref])
def test_addresses_cannot_be_subclassed(cls: type) -> None:
    # The codec recognises exact types, so that no foreign method ever runs inside it.
    with pytest.raises(TypeError):
        type("Sub", (cls,), {})
    with pytest.raises(InvalidValue):
        cls()
