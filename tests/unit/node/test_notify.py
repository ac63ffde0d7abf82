"""A word to systemd arrives where it listens, and harms nobody where it does not."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from barrel_p2p.node.notify import notify


@pytest.mark.parametrize("abstract", [False, True])
def test_the_state_arrives_at_the_socket(tmp_path: Path, abstract: bool) -> None:
    address = f"@{tmp_path.name}-notify" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(address.replace("@", "\0", 1) if abstract else address)
        receiver.settimeout(5)
        assert notify("READY=1", env={"NOTIFY_SOCKET": address})
        assert receiver.recv(64) == b"READY=1"


@pytest.mark.parametrize("address", [None, "", "relative/path", "/nobody/listens"])
def test_without_a_listener_nothing_happens(address: str | None) -> None:
    env = {} if address is None else {"NOTIFY_SOCKET": address}
    assert not notify("READY=1", env=env)
