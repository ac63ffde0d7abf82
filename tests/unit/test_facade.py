"""The package itself offers what users catch and start from, and costs little."""

from __future__ import annotations

import subprocess
import sys

import pytest

import barrel_p2p
from barrel_p2p import errors

LATE = set(barrel_p2p.__all__) - set(errors.__all__)
WHAT_CAME_ALONG = """
import sys
import barrel_p2p
names = {n for n in sys.modules if n.startswith("barrel_p2p.") or n == "asyncio"}
print(*sorted(names - {"barrel_p2p.errors"}))
"""


def test_every_error_can_be_caught_by_its_short_name() -> None:
    assert set(errors.__all__) <= set(barrel_p2p.__all__)
    assert all(getattr(barrel_p2p, n) is getattr(errors, n) for n in errors.__all__)


def test_every_error_has_a_reason_of_its_own_and_carries_the_hint_as_a_note() -> None:
    leaves = [getattr(errors, name) for name in errors.__all__]
    assert len({error.code for error in leaves}) == len(leaves)
    for error in leaves:
        if "__init__" in vars(error) and error is not errors.BarrelError:
            continue  # It asks for more than a message; its room tests it.
        raised = error("what happened", hint="what to do", peer="a@h")
        assert raised.__notes__ == ["what to do"]
        assert (raised.hint, raised.peer, str(raised)) == (
            "what to do",
            "a@h",
            "what happened",
        )


@pytest.mark.parametrize("name", sorted(LATE))
def test_a_late_name_is_what_its_module_calls_so(name: str) -> None:
    value = getattr(barrel_p2p, name)
    assert getattr(value, "__name__", name) == name  # A constant has none.
    assert type(value).__module__.startswith("barrel_p2p.") or (
        value.__module__.startswith("barrel_p2p.")
    )
    assert vars(barrel_p2p)[name] is value


def test_dir_lists_the_names_that_are_not_imported_yet() -> None:
    assert set(barrel_p2p.__all__) <= set(dir(barrel_p2p))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nodes'"):
        getattr(barrel_p2p, "Nodes")  # noqa: B009 - mypy would refuse the plain form


def test_importing_the_package_brings_neither_asyncio_nor_an_extension() -> None:
    command = [sys.executable, "-c", WHAT_CAME_ALONG]
    came = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert came.split() == []
