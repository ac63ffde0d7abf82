"""A node tells its own key, whether its files hold it, and who needs none."""

from __future__ import annotations

from pathlib import Path

import pytest

from barrel_p2p.auth.identity import PRIVATE_FILE, PUBLIC_FILE, ensure_key_pair
from barrel_p2p.errors import InvalidValue, KeypairMismatch, NotStarted, StorageError
from tests.unit.node.nodes import node, nodes

A = "a@127.0.0.1"


async def test_the_public_key_is_the_one_that_peers_pin(tmp_path: Path) -> None:
    async with nodes(tmp_path, A, "b@127.0.0.1") as (a, b):
        assert a.auth.get_public_key() == b.keys.lookup_pin(A) == a.public_key
        a.auth.ensure_keypair()


async def test_another_pair_in_the_files_is_noticed(tmp_path: Path) -> None:
    async with nodes(tmp_path, A) as (a,):
        keys = tmp_path / A / "keys"
        for file in (PRIVATE_FILE, PUBLIC_FILE):
            (keys / file).unlink()
        with pytest.raises(StorageError):
            a.auth.ensure_keypair()
        ensure_key_pair(keys)
        with pytest.raises(KeypairMismatch, match="than the one in use"):
            a.auth.ensure_keypair()


async def test_a_name_is_let_in_by_the_cookie_until_it_shows_a_key(
    tmp_path: Path,
) -> None:
    async with nodes(tmp_path, A, cookie_only_nodes=["plain@*"]) as (a,):
        assert a.auth.is_cookie_only_allowed("plain@127.0.0.1")
        assert a.auth.is_cookie_only_allowed("PLAIN@HOST")
        assert not a.auth.is_cookie_only_allowed("other@127.0.0.1")
        a.keys.store_key("plain@127.0.0.1", a.public_key)
        assert not a.auth.is_cookie_only_allowed("plain@127.0.0.1")
        with pytest.raises(InvalidValue):
            a.auth.is_cookie_only_allowed("plain")


async def test_without_authentication_the_cookie_lets_everybody_in(
    tmp_path: Path,
) -> None:
    async with nodes(tmp_path, A, auth_enabled=False) as (a,):
        assert a.auth.is_cookie_only_allowed("anybody@anywhere")


def test_a_node_that_does_not_run_has_none(tmp_path: Path) -> None:
    with pytest.raises(NotStarted):
        _ = node(tmp_path, A).auth
