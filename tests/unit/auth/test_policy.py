"""Who gets in without a key."""

from __future__ import annotations

from pathlib import Path

import pytest

from barrel_p2p.auth.machine import Mode
from barrel_p2p.auth.policy import CookieOnly, mode_chooser
from barrel_p2p.auth.trust import TrustStore
from barrel_p2p.core.clock import SystemClock
from barrel_p2p.errors import ConfigError
from tests.handshakes import key_pair

NOBODY = CookieOnly([])


def test_an_exact_pattern_matches_that_name_only() -> None:
    """AUT-29, AUT-35: only the exact name, given as text."""
    patterns = CookieOnly(["Probe@Host"])
    assert patterns.matches("probe@host")
    for name in ("probe@host2", "probe2@host", "aprobe@host", "probe@hos"):
        assert not patterns.matches(name)


def test_a_star_stands_for_a_whole_part() -> None:
    """AUT-31: *@host matches any name on that host only."""
    by_host, by_name = CookieOnly(["*@host"]), CookieOnly(["probe@*"])
    assert by_host.matches("anybody@host")
    assert not by_host.matches("anybody@host.example")
    assert by_name.matches("probe@anywhere")
    assert not by_name.matches("probe2@anywhere")
    assert CookieOnly(["*@*"]).matches("any@where")


def test_a_name_that_is_not_listed_matches_no_mixed_list() -> None:
    """AUT-32."""
    patterns = CookieOnly(["a@h", "*@trusted", "probe@*"])
    assert patterns
    for name in ("b@h", "a@trusted2", "probes@x"):
        assert not patterns.matches(name)


def test_an_empty_list_matches_nothing() -> None:
    """AUT-33."""
    assert not NOBODY
    assert not NOBODY.matches("a@h")


@pytest.mark.parametrize(
    "pattern",
    ["", "*", "probe", "pro*@h", "probe@h*", "@h", "a@", "a@b@c", "a b@h", "../x@h"],
)
def test_what_is_no_pattern_is_refused_and_named(pattern: str) -> None:
    with pytest.raises(ConfigError, match="cookie_only_nodes"):
        CookieOnly(["a@h", pattern])


def test_one_pattern_is_no_list_and_there_are_not_too_many() -> None:
    with pytest.raises(ConfigError, match="is a list"):
        CookieOnly("a@h")
    with pytest.raises(ConfigError, match="at most 1024"):
        CookieOnly([f"a@h{n}" for n in range(1_025)])
    with pytest.raises(ConfigError, match="no text"):
        CookieOnly([3])  # type: ignore[list-item]


def test_a_pinned_name_proves_its_key_whatever_the_patterns_say(
    tmp_path: Path,
) -> None:
    trust = TrustStore(tmp_path, mode="tofu", clock=SystemClock())
    trust.pin("pinned@h", key_pair().public_key)
    (tmp_path / "trusted" / "damaged@h.pub").write_bytes(b"?")
    mode_of = mode_chooser(
        CookieOnly(["*@h"]), auth_enabled=True, lookup_pin=trust.lookup_pin
    )
    assert mode_of("probe@h") is Mode.COOKIE
    assert mode_of("other@elsewhere") is Mode.IDENTITY
    assert mode_of("pinned@h") is Mode.IDENTITY
    assert mode_of("damaged@h") is Mode.IDENTITY


def test_with_auth_off_nobody_proves_a_key() -> None:
    mode_of = mode_chooser(NOBODY, auth_enabled=False, lookup_pin=lambda _: bytes(32))
    assert mode_of("a@h") is Mode.COOKIE
