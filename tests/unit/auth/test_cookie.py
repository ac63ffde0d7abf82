"""A cookie becomes one key everywhere, and its text stays where it was."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from barrel_p2p.auth.cookie import COOKIE_BYTES_MAX, cookie_key, read_cookie_file
from barrel_p2p.errors import BarrelError, ConfigError, StorageError


def test_a_cookie_has_one_key_and_another_cookie_another() -> None:
    key = cookie_key("secret")
    assert len(key) == 32
    assert cookie_key("secret") is key
    assert cookie_key("Secret") != key
    assert cookie_key("x" * COOKIE_BYTES_MAX) != key


@pytest.mark.parametrize("cookie", ["", "é" * 513, "x" * 1_025, "s3cret\ud800"])
def test_a_cookie_within_no_bounds_is_refused_and_not_quoted(cookie: str) -> None:
    with pytest.raises(ConfigError) as caught:
        cookie_key(cookie)
    shown = "".join(traceback.format_exception(caught.value))
    assert "s3cret" not in shown
    assert cookie[:9] not in str(caught.value) or not cookie


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_cookie_file_holds_one_line(tmp_path: Path, end: str) -> None:
    path = tmp_path / "cookie"
    path.touch(0o600)
    path.write_bytes(f" two words {end}".encode())
    assert read_cookie_file(path) == " two words "


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"\r\n", b"one\ntwo", b"one\n\n", b"\xff", b"x" * 2_000]
)
def test_another_content_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cookie"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(BarrelError) as caught:
        read_cookie_file(path)
    assert isinstance(caught.value, ConfigError | StorageError)


def test_a_cookie_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cookie"
    path.write_text("secret")
    path.chmod(0o644)
    with pytest.raises(StorageError, match="others have access"):
        read_cookie_file(path)
