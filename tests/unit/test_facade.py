"""The package itself offers what users catch."""

from __future__ import annotations

import barrel_p2p
from barrel_p2p import errors


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
