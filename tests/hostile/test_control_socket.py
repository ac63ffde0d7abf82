"""Whoever reaches a node's control socket gets a typed answer, or nothing at all."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from barrel_p2p.errors import Busy, StorageError
from barrel_p2p.node.control import (
    CONNECTIONS_MAX,
    REQUEST_BYTES_MAX,
    Control,
    is_allowed,
    open_control,
)
from barrel_p2p.node.requests import Info, Nodes, Request, WatchEvents
from tests.endpoints import eventually, within
from tests.tools import require_root

HOSTILE_LINES = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"\xff\xfe",
    b"\x00" * 100,
    b'{"op": "exec", "code": "1"}',
    b'{"op": "info", "extra": 1}',
    b'{"op": ["info"]}',
    b'{"op": "call", "to": "x"}',
    b'{"op": "call", "to": "x", "method": 1}',
    b'{"op": "call", "to": "x", "method": "m", "timeout_ms": 0}',
    b'{"op": "call", "to": "x", "method": "m", "timeout_ms": 1e400}',
    b'{"op": "stop", "drain_ms": -1}',
    b'{"op": "keys.mode", "mode": "none"}',
    b'{"op": "join", "ref": 1}',
    b'{"op": "whereis", "name": "x", "wait_ms": -1}',
    b'{"op": "events", "kinds": ["weather"]}',
    b'{"op": "events", "kinds": "peer"}',
    b"[" * 100_000,
    b'{"op":' * 50_000,
]


# Another user may not reach the Python of this environment.
SYSTEM_PYTHON = shutil.which("python3", path="/usr/bin") or sys.executable


class Node:
    """What stands behind the socket: it answers ``info`` and holds ``nodes`` back."""

    def __init__(self) -> None:
        self.said = "fine"
        self.answered = 0
        self.began = 0
        self.cancelled = 0
        self.told = 0

    async def perform(self, request: Request) -> object:
        if isinstance(request, WatchEvents):
            return self.numbers()
        if isinstance(request, Nodes):
            self.began += 1
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if not isinstance(request, Info):
            raise Busy("only info is answered here")
        self.answered += 1
        return self.said

    async def numbers(self) -> AsyncGenerator[object]:
        try:
            yield "watching"
            while True:
                self.told += 1
                yield "x" * 1_000 if self.told > 1 else self.told
                await asyncio.sleep(0)
        finally:
            self.cancelled += 1


@asynccontextmanager
async def controlled(path: Path) -> AsyncIterator[tuple[Node, Control]]:
    node = Node()
    async with open_control(path, node.perform) as control:
        yield node, control


async def ask(path: Path, line: bytes) -> Any:
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        writer.write(line + b"\n")
        return json.loads(await within(reader.readline()))
    finally:
        writer.close()
        await writer.wait_closed()


INFO = b'{"op": "info"}'


@pytest.mark.parametrize("line", HOSTILE_LINES, ids=range(len(HOSTILE_LINES)))
async def test_no_line_does_more_than_earn_a_typed_error(
    tmp_path: Path, line: bytes
) -> None:
    async with controlled(tmp_path / "s"):
        answer = await ask(tmp_path / "s", line)
        assert answer["error"]["code"] == "invalid_value"
        assert await ask(tmp_path / "s", INFO) == {"ok": "fine"}


async def test_a_request_may_be_as_long_as_the_limit_and_no_longer(
    tmp_path: Path,
) -> None:
    padding = b" " * (REQUEST_BYTES_MAX - len(INFO))
    async with controlled(tmp_path / "s"):
        assert await ask(tmp_path / "s", INFO + padding) == {"ok": "fine"}
        answer = await ask(tmp_path / "s", INFO + padding + b" ")
        assert "REQUEST_BYTES_MAX=1048576" in answer["error"]["message"]


async def flood(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write without end, until the other side has had enough."""
    async with asyncio.timeout(10):
        while True:
            writer.write(data)
            await writer.drain()


async def test_a_line_without_an_end_is_cut_off_at_the_limit(tmp_path: Path) -> None:
    async with controlled(tmp_path / "s") as (_, control):
        _, writer = await asyncio.open_unix_connection(tmp_path / "s")
        with pytest.raises(ConnectionError):
            await flood(writer, b"a" * 65_536)
        await eventually(lambda: len(control) == 0)
        assert await ask(tmp_path / "s", INFO) == {"ok": "fine"}


async def test_requests_of_one_connection_are_answered_in_order(tmp_path: Path) -> None:
    async with controlled(tmp_path / "s"):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write((INFO + b"\n{\n") * 500)
        answers = [json.loads(await within(reader.readline())) for _ in range(1_000)]
        assert [next(iter(answer)) for answer in answers] == ["ok", "error"] * 500
        writer.close()


async def test_a_reader_that_never_reads_is_not_answered_for_ever(
    tmp_path: Path,
) -> None:
    async with controlled(tmp_path / "s") as (_, control):
        _, writer = await asyncio.open_unix_connection(tmp_path / "s", limit=1)
        with pytest.raises(ConnectionError):
            await flood(writer, b"{\n" * 10_000)
        writer.transport.abort()
        await eventually(lambda: len(control) == 0)


async def test_answers_wait_until_the_last_one_was_read(tmp_path: Path) -> None:
    async with controlled(tmp_path / "s") as (node, _):
        node.said = "x" * 1_000_000
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s", limit=1)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write((INFO + b"\n") * 100)
        try:
            await eventually(lambda: node.answered > 0)
            for _ in range(20):
                await ask_and_drop(tmp_path / "s")
        finally:
            writer.transport.abort()
        assert node.answered < 10


async def ask_and_drop(path: Path) -> None:
    """A whole conversation beside another one, without a large answer."""
    _, writer = await asyncio.open_unix_connection(path)
    writer.write(b"{\n")
    writer.close()
    await writer.wait_closed()


async def test_who_hangs_up_takes_back_what_it_waits_for(tmp_path: Path) -> None:
    async with controlled(tmp_path / "s") as (node, control):
        _, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b'{"op": "nodes"}\n')
        await eventually(lambda: node.began == 1)
        writer.close()
        await eventually(lambda: node.cancelled == 1 and len(control) == 0)


async def test_a_thousand_connections_cost_no_more_than_the_limit(
    tmp_path: Path,
) -> None:
    descriptors = psutil.Process().num_fds
    async with controlled(tmp_path / "s") as (_, control):
        before = descriptors()
        held = []
        told_busy = 0
        for _ in range(1_000):
            reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
            held.append(writer)
            if len(held) > CONNECTIONS_MAX:
                answer = json.loads(await within(reader.readline()))
                told_busy += answer["error"]["code"] == "would_block"
                writer.close()
        assert told_busy == 1_000 - CONNECTIONS_MAX
        assert len(control) == CONNECTIONS_MAX
        for writer in held:
            writer.close()
        await eventually(lambda: len(control) == 0)
        await eventually(lambda: descriptors() <= before)
        assert await ask(tmp_path / "s", INFO) == {"ok": "fine"}


async def test_the_socket_is_for_its_owner_alone_and_goes_with_the_node(
    tmp_path: Path,
) -> None:
    mask = os.umask(0)
    try:
        async with controlled(tmp_path / "s"):
            assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o600
    finally:
        os.umask(mask)
    assert os.listdir(tmp_path) == []  # noqa: PTH208 -- nothing waits here


async def test_a_socket_left_by_a_killed_node_is_replaced(tmp_path: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "s"))
    left.close()
    async with controlled(tmp_path / "s"):
        assert await ask(tmp_path / "s", INFO) == {"ok": "fine"}


@pytest.mark.parametrize("what", ["file", "link", "directory"])
async def test_what_is_no_socket_is_left_where_it_is(tmp_path: Path, what: str) -> None:
    path, elsewhere = tmp_path / "s", tmp_path / "elsewhere"
    elsewhere.write_text("precious")
    if what == "file":
        path.write_text("precious")
    elif what == "link":
        path.symlink_to(elsewhere)
    else:
        path.mkdir()
    with pytest.raises(StorageError, match="is no socket"):
        async with controlled(path):
            raise AssertionError("it took commands there")
    assert path.exists()
    assert elsewhere.read_text() == "precious"


def test_only_this_user_and_root_may_command() -> None:
    assert is_allowed(os.geteuid())
    assert is_allowed(0)
    assert not is_allowed(os.geteuid() + 12_345)


async def test_another_user_is_hung_up_on_even_where_the_mode_lets_him_in(
    tmp_path: Path,
) -> None:
    require_root("a process of another user")
    with open_to_all(tmp_path) as path:
        async with controlled(path) as (_, control):
            path.chmod(0o666)
            program = (
                "import socket, sys; s = socket.socket(socket.AF_UNIX);"
                "s.connect(sys.argv[1]); s.settimeout(20)\n"
                'try:\n s.sendall(b\'{"op": "info"}\\n\'); print(s.recv(100))\n'
                "except ConnectionError: print(b'')"
            )
            done = await asyncio.to_thread(
                subprocess.run,
                ["/usr/bin/env", "-i", SYSTEM_PYTHON, "-c", program, str(path)],
                user=65_534,
                group=65_534,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                text=True,
                timeout=30,
            )
            assert (done.stdout, done.stderr) == ("b''\n", "")
            assert len(control) == 0


SYSTEM_PYTHON = (
    "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
)


@contextmanager
def open_to_all(tmp_path: Path) -> Iterator[Path]:
    """A path for a socket below directories that other users may pass."""
    with tempfile.TemporaryDirectory(prefix="bp-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory) / "s"


async def test_who_does_not_read_events_holds_them_back_until_it_goes(
    tmp_path: Path,
) -> None:
    async with controlled(tmp_path / "s") as (node, control):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s", limit=2_000)
        writer.write(b'{"op": "events"}\n')
        assert await within(reader.readline()) == b'{"ok":"watching"}\n'
        assert await within(reader.readline()) == b'{"event":1}\n'
        before = -1
        while node.told > before:  # What fits the buffers of the socket.
            before = node.told
            await asyncio.sleep(0.1)  # not synchronisation: time to tell more in
        assert node.told < 2_000
        assert (len(control), node.cancelled) == (1, 0)
        writer.close()
        await eventually(lambda: node.cancelled == 1)
        await eventually(lambda: len(control) == 0)


async def test_a_request_after_events_were_asked_for_is_not_performed(
    tmp_path: Path,
) -> None:
    async with controlled(tmp_path / "s") as (node, _):
        reader, writer = await asyncio.open_unix_connection(tmp_path / "s")
        writer.write(b'{"op": "events"}\n' + INFO + b"\n")
        for _ in range(500):
            assert b"fine" not in await within(reader.readline())
        assert node.answered == 0
        writer.close()
    await eventually(lambda: node.cancelled == 1)
