"""Every refusal is an exception of its own, which says what to do next."""

from __future__ import annotations

import pytest

from barrel_p2p.auth.failures import CODES, failure
from barrel_p2p.errors import AuthError, BarrelError, PeerError, UnavailableError

NOT_OF_ONE_CLASS = {
    *("pin_failed", "malformed", "duplicate", "draining", "busy", "self_connect")
}


@pytest.mark.parametrize("code", sorted(CODES))
@pytest.mark.parametrize("by_peer", [False, True])
def test_a_code_has_its_exception(code: str, by_peer: bool) -> None:
    error = failure(code, "what happened", "b@h", by_peer=by_peer)
    assert type(error) is CODES[code]
    assert error.peer == "b@h"
    assert "b@h" in str(error)
    assert "what happened" in str(error)
    assert ("refused us" in str(error)) == by_peer
    if code not in NOT_OF_ONE_CLASS:
        assert error.code == code


def test_an_unknown_code_is_quoted_in_a_plain_auth_error() -> None:
    error = failure("brand_new", "no", None, by_peer=True)
    assert type(error) is AuthError
    assert str(error) == "the peer refused us: no (brand_new)"


def test_whose_fault_it_is_decides_the_branch() -> None:
    blamed = {code: failure(code, "", "b@h") for code in CODES}
    assert isinstance(blamed["auth_stream_timeout"], TimeoutError)
    for code in ("duplicate", "draining", "busy", "nodedown"):
        assert isinstance(blamed[code], UnavailableError)
    for code in ("untrusted_key", "version", "malformed", "cookie"):
        assert isinstance(blamed[code], PeerError)
    assert all(isinstance(error, BarrelError) for error in blamed.values())
