"""Every public name of the product explains itself, compiled ones included."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import barrel_p2p

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(barrel_p2p.__path__, "barrel_p2p.")
    if not info.name.rpartition(".")[2].startswith("_")
)


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_has_a_docstring(name: str) -> None:
    module = importlib.import_module(name)
    assert inspect.getdoc(module), f"{name} has no docstring"
    assert undocumented(module) == []


@pytest.mark.parametrize("name", MODULES)
def test_every_listed_name_exists(name: str) -> None:
    module = importlib.import_module(name)
    listed = getattr(module, "__all__", [])
    assert [n for n in listed if not hasattr(module, n)] == []


def undocumented(module: ModuleType) -> list[str]:
    """Public classes, functions, methods and properties without a docstring."""
    missing: list[str] = []
    for name in getattr(module, "__all__", []):
        value = getattr(module, name)
        if inspect.isclass(value):
            missing += [f"{name}.{member}" for member in _bare_members(value)]
        if (inspect.isclass(value) or callable(value)) and not _has_doc(value):
            missing.append(name)
    return missing


def _bare_members(cls: type) -> list[str]:
    members = {n: v for n, v in vars(cls).items() if not n.startswith("_")}
    return [n for n, v in members.items() if _is_callable(v) and not _has_doc(v)]


def _is_callable(value: object) -> bool:
    wrapped = isinstance(value, classmethod | staticmethod | property)
    # A member descriptor is a field: its class documents it.
    return wrapped or (inspect.isroutine(value) and not inspect.isdatadescriptor(value))


def _has_doc(value: object) -> bool:
    return bool((getattr(value, "__doc__", None) or "").strip())
