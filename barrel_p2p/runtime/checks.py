"""Arguments and fields, held against their annotations before they are used.

A fixed set of plain types is compared as it is; everything else goes through
``msgspec.convert``, which knows containers, unions, literals and dataclasses. Nothing
is imported or called by a name that came from a peer.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, Final, Union

import msgspec

from barrel_p2p.core.terms import Atom, Pid, Ref
from barrel_p2p.errors import InvalidValue

__all__ = ["Arguments", "Checker", "checker_of", "convert", "hints_of"]

type Checker = Callable[[Any], Any]

_NATIVE: Final = (bytes, bytearray)  # So that text is never taken for base64.
_PLAIN: Final = frozenset(
    {str, int, float, bytes, bool, list, dict, tuple, set, frozenset, Atom, Pid, Ref}
    | {type(None)}
)
_POSITIONAL: Final = (
    inspect.Parameter.POSITIONAL_ONLY,
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
)


def convert(value: Any, hint: Any) -> Any:
    """``value`` as a ``hint``. Text is never taken for bytes, nor a number for text.

    Raises:
        msgspec.ValidationError: It is of another type.
        TypeError: ``hint`` is a kind of annotation that msgspec does not know.
    """
    return msgspec.convert(value, hint, builtin_types=_NATIVE)


def hints_of(annotations: dict[str, Any], namespace: dict[str, Any]) -> dict[str, Any]:
    """What each annotation stands for; ``Any`` where that cannot be found out.

    Args:
        annotations: Name to annotation, as text or as it is.
        namespace: The globals of the module that wrote them.
    """
    found: dict[str, Any] = {}
    for name, annotation in annotations.items():
        holder = types.SimpleNamespace(__annotations__={name: annotation})
        try:
            found.update(typing.get_type_hints(holder, globalns=namespace))
        except (NameError, TypeError, AttributeError, SyntaxError):
            found[name] = Any  # Only imported for type checkers, say.
    return found


def checker_of(hint: Any) -> Checker | None:
    """What turns a value from a peer into one of type ``hint``, or None for anything.

    The checker raises ``msgspec.ValidationError``.
    """
    if hint is Any or hint is object or isinstance(hint, typing.TypeVar):
        return None
    origin = typing.get_origin(hint)
    if origin is Union or origin is types.UnionType:
        return _union(hint)
    try:
        convert(None, hint)
    except msgspec.ValidationError:
        pass
    except TypeError:
        return None  # A kind of annotation that says nothing about values.
    return _Convert(hint)


class _Convert:
    __slots__ = ("_hint",)

    def __init__(self, hint: Any) -> None:
        self._hint = hint

    def __call__(self, value: Any) -> Any:
        return convert(value, self._hint)


def _union(hint: Any) -> Checker | None:
    try:
        convert(None, hint)
    except msgspec.ValidationError:
        return _Convert(hint)
    except TypeError:
        pass  # Several classes, which msgspec cannot tell apart; their instances can.
    else:
        return _Convert(hint)
    arms = [checker_of(arm) for arm in typing.get_args(hint)]
    if any(arm is None for arm in arms):
        return None
    classes = tuple(arm for arm in typing.get_args(hint) if isinstance(arm, type))

    def one_of(value: Any) -> Any:
        if type(value) in classes:
            return value
        for arm in arms:
            try:
                return arm(value) if arm is not None else value
            except msgspec.ValidationError:
                continue
        raise msgspec.ValidationError(
            f"Expected `{hint}`, got `{type(value).__name__}`"
        )

    return one_of


class Arguments:
    """The arguments a function takes, and the check of those that came.

    Args:
        function: The function.
        skip: Leading parameters that the caller does not give, such as ``self``.
        title: What an error calls it.
    """

    __slots__ = (
        "_checkers",
        "_function",
        "_last",
        "_least",
        "_quick",
        "_signature",
        "_title",
    )

    def __init__(self, function: Callable[..., Any], *, skip: int, title: str) -> None:
        signature = inspect.signature(function)
        self._signature = signature.replace(
            parameters=list(signature.parameters.values())[skip:]
        )
        self._function = function
        self._title = title
        # Annotations are looked at when the first arguments come: by then the module
        # that wrote them is complete.
        self._checkers: dict[str, Checker | None] | None = None
        self._least = 1  # With nothing in _quick, no number of arguments fits.
        self._quick: tuple[frozenset[type] | None, ...] = ()
        self._last: list[type] | None = None  # The types that fitted last.

    def _prepare(self) -> dict[str, Checker | None]:
        parameters = list(self._signature.parameters.values())
        hints = hints_of(
            {
                one.name: one.annotation
                for one in parameters
                if one.annotation is not inspect.Parameter.empty
            },
            getattr(inspect.unwrap(self._function), "__globals__", {}),
        )
        self._least, self._quick = _quick_plan(parameters, hints)
        return {name: checker_of(hint) for name, hint in hints.items()}

    def check(self, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, converted where that is harmless.

        Raises:
            InvalidValue: They do not fit the signature, or one is of another type.
        """
        if type(args) is not tuple or type(kwargs) is not dict:
            raise InvalidValue(f"{self._title}: arguments are a tuple and a dict")
        if kwargs:
            return self._bind(args, kwargs)
        kinds = [type(value) for value in args]
        if kinds == self._last or self._fits(kinds):
            return args, kwargs
        return self._bind(args, kwargs)

    def _fits(self, kinds: list[type]) -> bool:
        if not self._least <= len(kinds) <= len(self._quick):
            return False
        for kind, fitting in zip(kinds, self._quick, strict=False):
            if fitting is not None and kind not in fitting:
                return False
        self._last = kinds
        return True

    def _bind(
        self, args: tuple[Any, ...], kwargs: dict[Any, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self._checkers is None:
            self._checkers = self._prepare()
        if not all(type(name) is str for name in kwargs):
            raise InvalidValue(f"{self._title}: names of arguments are text")
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise InvalidValue(f"{self._title}: {error}") from None
        for name, value in bound.arguments.items():
            bound.arguments[name] = self._converted(name, value, self._checkers)
        return bound.args, bound.kwargs

    def _converted(
        self, name: str, value: Any, checkers: dict[str, Checker | None]
    ) -> Any:
        checker = checkers.get(name)
        if checker is None:
            return value
        kind = self._signature.parameters[name].kind
        try:
            if kind is inspect.Parameter.VAR_POSITIONAL:
                return tuple([checker(one) for one in value])
            if kind is inspect.Parameter.VAR_KEYWORD:
                return {key: checker(one) for key, one in value.items()}
            return checker(value)
        except msgspec.ValidationError as error:
            raise InvalidValue(f"{self._title}: argument {name}: {error}") from None


def _quick_plan(
    parameters: list[inspect.Parameter], hints: dict[str, Any]
) -> tuple[int, tuple[frozenset[type] | None, ...]]:
    # How many positional arguments are needed, and for each the exact types that need
    # no further look; None is any type at all.
    if any(
        one.kind is inspect.Parameter.KEYWORD_ONLY
        and one.default is inspect.Parameter.empty
        for one in parameters
    ):
        return 1, ()  # No number of positional arguments fits.
    positional = [one for one in parameters if one.kind in _POSITIONAL]
    least = sum(one.default is inspect.Parameter.empty for one in positional)
    return least, tuple(_quick(hints.get(one.name, Any)) for one in positional)


def _quick(hint: Any) -> frozenset[type] | None:
    return None if checker_of(hint) is None else frozenset(_types_of(hint))


def _types_of(hint: Any) -> tuple[type, ...]:
    origin = typing.get_origin(hint)
    arms = (
        typing.get_args(hint)
        if origin is Union or origin is types.UnionType
        else (hint,)
    )
    return tuple(
        arm for arm in arms if arm in _PLAIN or hasattr(arm, "__barrel_message__")
    )
