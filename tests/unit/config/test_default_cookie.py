"""The cookie that everybody knows opens no node to strangers."""

from __future__ import annotations

import pytest

from barrel_p2p.config import Config
from barrel_p2p.errors import ConfigError

SECRET = "long and random"


def test_a_cookie_of_one_s_own_is_nothing_to_warn_of() -> None:
    assert Config(dist_cookie=SECRET, bind_host="0.0.0.0").warnings() == ()


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.9.9.9", "::1", "[::1]", "localhost", "LOCALHOST"]
)
def test_the_default_cookie_on_loopback_is_a_warning(host: str) -> None:
    (warning,) = Config(bind_host=host).warnings()
    assert "dist_cookie is the default" in warning
    assert "open to this host" in warning


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "node.example.org"])
def test_the_default_cookie_elsewhere_keeps_the_node_from_starting(host: str) -> None:
    with pytest.raises(ConfigError, match=f"bind_host='{host}' can be reached"):
        Config(bind_host=host)
    (warning,) = Config(bind_host=host, allow_default_cookie=True).warnings()
    assert "open to others" in warning


def test_an_empty_host_is_none() -> None:
    with pytest.raises(ConfigError, match="bind_host"):
        Config(bind_host="", allow_default_cookie=True)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.5"])
@pytest.mark.parametrize("allowed", [False, True])
def test_the_default_cookie_is_never_the_only_lock(host: str, allowed: bool) -> None:
    """A12: refused with auth off or with cookie-only peers, allowed or not."""
    for auth_enabled, patterns in ((False, ()), (True, ("probe@*",))):
        with pytest.raises(ConfigError, match="dist_cookie is the default"):
            Config(
                bind_host=host,
                allow_default_cookie=allowed,
                auth_enabled=auth_enabled,
                cookie_only_nodes=patterns,
            )


def test_less_than_keys_for_everybody_is_a_warning() -> None:
    (off,) = Config(dist_cookie=SECRET, auth_enabled=False).warnings()
    assert "auth_enabled=false" in off
    (some,) = Config(dist_cookie=SECRET, cookie_only_nodes=("probe@*",)).warnings()
    assert "cookie_only_nodes is not empty" in some
