"""Whole nodes: what their first start makes, and how they reach each other."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from barrel_p2p.carrier.dialer import ConnectOptions
from barrel_p2p.carrier.roles import StreamRole
from barrel_p2p.config import Config
from barrel_p2p.core.terms import Pid
from barrel_p2p.errors import BarrelError
from barrel_p2p.node.node import Node
from barrel_p2p.runtime.process import Process
from tests.endpoints import eventually
from tests.malicious_members import CREATION, EVIL, member
from tests.relay import relay
from tests.unit.node.nodes import config, node, nodes

A, B = "a@127.0.0.1", "b@127.0.0.1"


async def test_the_first_start_makes_a_certificate_and_later_ones_keep_it(
    tmp_path: Path,
) -> None:
    """CAR-01."""
    directory = tmp_path / A / "quic"
    seen = []
    for _ in range(2):
        async with node(tmp_path, A) as a:
            files = sorted(directory.iterdir())
            seen.append({file.name: file.read_bytes() for file in files})
            assert a.creation > 0
    assert seen[0] == seen[1]
    for marker in (b"BEGIN CERTIFICATE", b"PRIVATE KEY"):
        assert any(marker in content for content in seen[0].values())
    (key,) = [file for file in files if b"PRIVATE KEY" in seen[0][file.name]]
    assert stat.S_IMODE(key.stat().st_mode) == 0o600


async def test_a_node_starts_with_what_its_configuration_says(tmp_path: Path) -> None:
    """CAR-02: authentication, discovery and the paths of keys and certificate."""
    changes = {"quic_cert_dir": "tls", "auth_key_dir": "identity"}
    async with node(tmp_path, A, **changes, auth_trust_mode="strict") as a:
        assert a.config.auth_enabled
        assert a.keys.get_trust_mode() == "strict"
        made = {path.name for path in directories(tmp_path / A)}
        assert {"tls", "identity"} <= made
        assert not {"quic", "keys"} & made
        async with node(tmp_path, B) as b:
            b.keys.store_key(A, a.public_key)
            a.keys.store_key(B, b.public_key)
            assert await b.connect(A) == A  # The file back-end knows where it is.


def directories(path: Path) -> list[Path]:
    return [each for each in path.iterdir() if each.is_dir()]


async def test_a_node_that_is_told_nothing_proves_identities(tmp_path: Path) -> None:
    """SHM-01: with the defaults, authentication is on and pins what it sees."""
    assert Config.load(env={}).auth_enabled
    assert Config.load(env={}).cookie_only_nodes == ()
    async with nodes(tmp_path, A, B) as (a, b):
        assert [(p.node, p.key) for p in a.keys.list_trusted()] == [(B, b.public_key)]


async def test_a_certificate_that_cannot_be_made_stops_the_start(
    tmp_path: Path,
) -> None:
    """SHM-04: the error says where it was to be, and the next start succeeds."""
    blocked = tmp_path / "blocked"
    blocked.write_text("no directory")
    broken = Node(config=config(tmp_path, A, quic_cert_dir=str(blocked)))
    with pytest.raises(BarrelError, match=str(blocked)):
        await broken.start()
    async with node(tmp_path, A) as a:
        assert a.nodes() == []


async def test_connect_options_are_used_once_and_then_forgotten(tmp_path: Path) -> None:
    """QUI-33: set, get, overwrite, clear; and the dial goes where they say."""
    async with nodes(tmp_path, A, B, joined=False) as (a, b):
        assert a.get_connect_options(b) is None
        async with relay((b.address.host, b.address.port)) as middle:
            first, second = ConnectOptions(), ConnectOptions(remote=middle.address)
            a.set_connect_options(b, first)
            assert a.get_connect_options(b) == first
            a.set_connect_options(b, second)
            assert a.get_connect_options(B) == second
            assert await a.connect(b) == B
            assert len(middle.up) > 0
            assert a.get_connect_options(b) is None
            a.disconnect(b)
            await eventually(lambda: b.nodes() == [])
            a.set_connect_options(b, second)
            a.clear_connect_options(b)
            assert a.get_connect_options(b) is None
            assert await a.connect(b) == B
            middle.black_hole()
            pid = b.spawn(answers)
            assert await a.call(pid, "which way?", timeout=5) == "the direct one"


async def answers(me: Process) -> None:
    async for call in me:
        await call.reply("the direct one")


async def test_messages_of_plain_code_travel_on_data_streams(tmp_path: Path) -> None:
    """QUI-03: whoever has no process is process 0, and control carries no messages."""
    async with node(tmp_path, A) as a, member() as evil:
        channel = await evil.connect(a)
        for number in range(10):
            await a.send(Pid(EVIL, 3, CREATION), number)
        await eventually(lambda: len(evil.heard) == 10)
        assert channel.is_up, "a message on another stream would have ended it"


async def test_pairs_are_spread_over_the_data_streams(tmp_path: Path) -> None:
    """QUI-06: and each pair keeps to one of them."""
    async with node(tmp_path, A, data_streams=8) as a, member() as evil:
        channel = await evil.connect(a)
        for _ in range(3):
            for process in range(100):
                await a.send(Pid(EVIL, process, CREATION), process)
        await eventually(lambda: len(evil.heard) == 300)
        used = [s for s in channel._inbound if s.role == StreamRole.DATA]
        assert len(used) == 8
