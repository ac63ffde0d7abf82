"""Typed messages: frozen dataclasses that travel by a name both ends agreed on.

On the wire a message is a tuple, ``(MESSAGE_TAG, name, field, value, field, ...)``. The
receiver looks the name up among the classes that its own code has marked with
``@message``, so bytes become values of known classes and nothing else. Fields that the
receiver does not know are ignored, missing ones get their default, and a name nobody
marked becomes an ``UnknownMessage``: both sides can be upgraded one after the other.

Bounded by ``MESSAGE_NAME_CHARS_MAX`` and by the limits of terms.

Source: docs/reference/wire.md, "Typed messages".
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final, dataclass_transform, overload

import msgspec

from barrel_p2p.core.terms import Atom, Pid, Ref
from barrel_p2p.errors import Conflict, InvalidValue, NotEncodable
from barrel_p2p.runtime.checks import Checker, checker_of, convert, hints_of
from barrel_p2p.wire.limits import TERM_DEPTH_MAX
from barrel_p2p.wire.terms import decode

__all__ = [
    "MESSAGE_NAME_CHARS_MAX",
    "MESSAGE_TAG",
    "UnknownMessage",
    "lift",
    "lower",
    "message",
    "read",
]

MESSAGE_TAG: Final = Atom("$message")
"""The first element of a message on the wire. No tuple of a user may begin with it."""

_TAG_BYTES: Final = b"$message"

MESSAGE_NAME_CHARS_MAX: Final = 128
"""Characters of a message's name."""

_SCALARS: Final = frozenset({str, int, float, bytes, bool, type(None), Atom, Pid, Ref})


@dataclasses.dataclass(frozen=True, slots=True)
class UnknownMessage:
    """A typed message whose name nothing in this program is marked with.

    Args:
        name: The name.
        fields: Its fields, unchecked.
    """

    name: str
    fields: Mapping[str, Any]

    def __hash__(self) -> int:
        return hash((self.name, *self.fields))


class _Kind:
    """A marked class: its name, its fields, how it is made from a peer's."""

    __slots__ = ("_checkers", "_cls", "_whole", "fields", "name")

    def __init__(self, cls: type, name: str, fields: tuple[str, ...]) -> None:
        self.name = name
        self.fields = fields
        self._cls = cls
        # Annotations are looked at when the first one comes: by then the module that
        # wrote them is complete.
        self._whole: bool | None = None
        self._checkers: dict[str, Checker | None] = {}

    def make(self, fields: dict[str, Any]) -> Any:
        """The message with these fields.

        Raises:
            msgspec.ValidationError: A field is missing or of another type.
        """
        if self._whole is None:
            self._prepare()
        if self._whole:
            return convert(fields, self._cls)
        known = {
            name: fields[name] if checker is None else checker(fields[name])
            for name, checker in self._checkers.items()
            if name in fields
        }
        return self._cls(**known)

    def _prepare(self) -> None:
        try:
            convert({}, self._cls)
        except msgspec.ValidationError:
            pass
        except (TypeError, NameError):
            # Such as a union of two messages, which values tell apart but JSON cannot.
            module = sys.modules.get(self._cls.__module__)
            hints = hints_of(
                {one.name: one.type for one in dataclasses.fields(self._cls)},
                vars(module) if module is not None else {},
            )
            self._checkers = {name: checker_of(hint) for name, hint in hints.items()}
            self._whole = False
            return
        self._whole = True


_by_name: dict[str, _Kind] = {}
_by_class: dict[type, _Kind] = {}


@overload
def message[T](cls: type[T], /) -> type[T]: ...
@overload
def message[T](*, name: str | None = None) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True)
def message(cls: Any = None, /, *, name: str | None = None) -> Any:
    """Let instances of the class travel. It becomes a frozen dataclass with slots.

    What arrives is checked against the annotations of its fields before anyone sees it.
    A ``__post_init__`` may refuse values by raising ``ValueError``; it runs while a
    peer's bytes are being read, so it must not send or wait.

    Args:
        cls: A class with annotated fields; or a frozen dataclass or ``msgspec.Struct``,
            which stays as it is.
        name: What it travels by, 1 to ``MESSAGE_NAME_CHARS_MAX`` characters; else the
            name of the class.

    Raises:
        Conflict: Another class travels by that name.
        InvalidValue: The name is too long, or the class is not frozen.
    """
    if cls is None:
        return lambda late: _marked(late, name)
    return _marked(cls, name)


def _marked(cls: type, name: str | None) -> type:
    name = cls.__name__ if name is None else name
    if not 0 < len(name) <= MESSAGE_NAME_CHARS_MAX:
        raise InvalidValue(
            f"the name of a message has 1 to {MESSAGE_NAME_CHARS_MAX} characters, "
            f"not {len(name)}"
        )
    made, fields = _fields_of(cls)
    holder = _by_name.get(name)
    if holder is not None:
        before = holder._cls
        # The same class again is a module that was reloaded.
        if (before.__module__, before.__qualname__) != (
            made.__module__,
            made.__qualname__,
        ):
            raise Conflict(
                f"{made.__qualname__} of {made.__module__} and {before.__qualname__} "
                f"of {before.__module__} would both travel as {name!r}",
                hint='give one of them another: @message(name="...")',
            )
    kind = _Kind(made, name, fields)
    made.__barrel_message__ = name  # type: ignore[attr-defined]
    _by_name[name] = _by_class[made] = kind
    return made


def _fields_of(cls: Any) -> tuple[type, tuple[str, ...]]:
    if issubclass(cls, msgspec.Struct):
        if not cls.__struct_config__.frozen:
            raise InvalidValue(f"{cls.__name__} is not frozen", hint="frozen=True")
        return cls, cls.__struct_fields__
    if "__dataclass_fields__" in vars(cls):
        if not cls.__dataclass_params__.frozen:
            raise InvalidValue(f"{cls.__name__} is not frozen", hint="frozen=True")
        made = cls
    else:
        made = dataclasses.dataclass(frozen=True, slots=True)(cls)
    for one in dataclasses.fields(made):
        if not one.init:
            raise InvalidValue(
                f"{cls.__name__}.{one.name} is init=False: it could not be sent"
            )
    return made, tuple([one.name for one in dataclasses.fields(made)])


def lower(value: object) -> object:
    """``value`` with terms in place of typed messages; itself if there are none.

    Raises:
        NotEncodable: It is nested too deeply, or has a tuple that begins with
            ``MESSAGE_TAG``.
    """
    return _lower(value, TERM_DEPTH_MAX)


def _lower(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _SCALARS:
        return value
    if depth == 0:
        raise NotEncodable(f"more than {TERM_DEPTH_MAX} containers in each other")
    marked = _by_class.get(kind)
    if marked is not None:
        fields = {name: getattr(value, name) for name in marked.fields}
        return _term(marked.name, fields, depth)
    if kind is UnknownMessage:
        return _term(value.name, value.fields, depth)
    if kind is tuple and value and value[0] == MESSAGE_TAG:
        raise NotEncodable(f"tuples that begin with {MESSAGE_TAG!r} are reserved")
    return _mapped(value, lambda one: _lower(one, depth - 1))


def _mapped(value: Any, change: Callable[[Any], Any]) -> Any:
    # The container with its elements changed; itself if none was, or if it is none.
    kind = type(value)
    if kind is tuple or kind is list or kind is set or kind is frozenset:
        before = list(value)
    elif kind is dict:
        before = [*value, *value.values()]
    else:
        return value
    after = [change(one) for one in before]
    if all(a is b for a, b in zip(after, before, strict=True)):
        return value
    if kind is dict:
        return dict(zip(after[: len(value)], after[len(value) :], strict=True))
    return kind(after)


def _term(name: str, fields: Mapping[str, Any], depth: int) -> tuple[Any, ...]:
    parts: list[Any] = [MESSAGE_TAG, name]
    for field, value in fields.items():
        parts.append(field)
        parts.append(_lower(value, depth - 1))
    return tuple(parts)


def lift(term: object, peer: str) -> object:
    """``term`` with typed messages in place of the tuples that stand for them.

    Args:
        term: From a peer, its depth already bounded by the decoder.
        peer: Its node.

    Raises:
        InvalidValue: A message lacks a field, or has one of another type, or its tuple
            has another form.
    """
    try:
        return _lift(term)
    except msgspec.ValidationError as error:
        raise InvalidValue(f"a message of {peer}: {error}", peer=peer) from None
    except (TypeError, ValueError, RecursionError) as error:
        # A value that cannot be a key, or a field that a constructor refused.
        raise InvalidValue(f"a message of {peer}: {error}", peer=peer) from error


def read(data: bytes, peer: str) -> object:
    """The value of an encoded term, its typed messages lifted.

    Args:
        data: From a peer.
        peer: Its node.

    Raises:
        WireError: It is no term.
        InvalidValue: As for ``lift``.
    """
    term = decode(data)
    # No typed message is encoded without these bytes, and looking for them is quick.
    return lift(term, peer) if _TAG_BYTES in data else term


def _lift(term: Any) -> Any:
    kind = type(term)
    if kind in _SCALARS:
        return term
    if kind is tuple and term and type(term[0]) is Atom and term[0] == MESSAGE_TAG:
        return _message(term)
    return _mapped(term, _lift)


def _message(term: tuple[Any, ...]) -> Any:
    if len(term) < 2 or len(term) % 2 or type(term[1]) is not str:
        raise msgspec.ValidationError("a tag without a name and pairs behind it")
    name = term[1]
    if len(name) > MESSAGE_NAME_CHARS_MAX:
        raise msgspec.ValidationError(f"a name of {len(name)} characters")
    fields: dict[str, Any] = {}
    for i in range(2, len(term), 2):
        field = term[i]
        if type(field) is not str or field in fields:
            raise msgspec.ValidationError(
                f"{name}: field {field!r:.80} is bad or twice"
            )
        fields[field] = _lift(term[i + 1])
    kind = _by_name.get(name)
    if kind is None:
        return UnknownMessage(name, fields)
    try:
        return kind.make(fields)
    except msgspec.ValidationError as error:
        raise msgspec.ValidationError(f"{name}: {error}") from None
