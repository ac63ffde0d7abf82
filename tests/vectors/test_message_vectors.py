"""Frozen frames of messages, calls, links and monitors, as nodes send and take them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p.carrier.connection import Connection
from barrel_p2p.core.terms import Pid
from barrel_p2p.runtime import messages
from barrel_p2p.runtime.switch import Call, Cast, Reply
from barrel_p2p.wire.frames import Frame, Splitter, encode
from barrel_p2p.wire.kinds import Kind
from barrel_p2p.wire.terms import key_bytes
from tests.endpoints import endpoint, eventually, within
from tests.runtime_nodes import RuntimeNode, lone_node
from tests.tree import ROOT

ROWS: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("messages.json").read_text()
)["frames"]
PAGE = (ROOT / "docs/reference/wire.md").read_text().replace(" ", "")
TIES = [row for row in ROWS if row["kind"] in messages.TIE_KINDS]
FROM = Pid("b@h", 7, 2)
TO = Pid("a@h", 16_777_216, 1)


def frozen(name: str) -> Frame:
    found = [row for row in ROWS if row["name"].startswith(name)]
    row = min(found, key=lambda row: len(row["name"]))
    return Frame(row["kind"], row["flags"], bytes.fromhex(row["body"]))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_the_page_shows_every_frame(row: dict[str, Any]) -> None:
    assert f"`{row['bytes']}`" in PAGE
    body = bytes.fromhex(row["body"])
    assert encode(row["kind"], row["flags"], body).hex() == row["bytes"]


@pytest.mark.parametrize("row", TIES, ids=lambda row: row["name"])
def test_ties_keep_their_bytes(row: dict[str, Any]) -> None:
    frame = Frame(row["kind"], row["flags"], bytes.fromhex(row["body"]))
    found = messages.decode(frame, peer="b@h", creation=2, here="a@h")
    assert messages.encode(found) == (frame.kind, frame.flags, frame.body)
    assert found.sender == FROM
    if not isinstance(found, messages.MonitorNameFrame):
        assert found.to == TO


@asynccontextmanager
async def raw_peer(
    name: str, creation: int, peer: str, peer_creation: int
) -> AsyncIterator[tuple[RuntimeNode, Connection, list[Frame]]]:
    """A node, the bare connection of its peer, and the frames that arrive there."""
    got: list[Frame] = []

    async def read(stream: Any) -> None:
        splitter = Splitter()
        await stream.readexactly(1)
        while chunk := await stream.read():
            got.extend(splitter.feed(chunk))

    async def accept(connection: Connection) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(read(await connection.accept_stream()))

    async with lone_node(name, creation=creation) as node, endpoint() as outside:
        near, far = await within(
            asyncio.gather(
                outside.connect(*node.endpoint.address), node.endpoint.accept()
            )
        )
        node.meet(far, peer, peer_creation)
        reader = asyncio.create_task(accept(near))
        try:
            yield node, near, got
        finally:
            reader.cancel()
            await asyncio.wait([reader])


async def test_a_node_takes_the_frozen_frames() -> None:
    async with (
        raw_peer("a@h", 1, "b@h", 2) as (node, near, got),
        node.processes.mailbox(name="cart") as me,
    ):
        assert me.pid == TO
        stream = near.open_stream(uni=True)
        await stream.write(b"\x03")

        async def say(name: str) -> Any:
            frame = frozen(name)
            await stream.write(encode(frame.kind, frame.flags, frame.body))
            return await within(me.receive())

        assert await say("SEND of `'hi'`") == "hi"
        assert await say("SEND_NAME") == "hi"
        for name in ("CALL of `'hi'`, ref", "CALL of `'hi'` to"):
            call = await say(name)
            assert isinstance(call, Call)
            assert (call.request, call.caller) == ("hi", FROM)
            call.reply("hi")
        await eventually(lambda: len(got) == 2)
        assert got == [frozen("REPLY"), frozen("REPLY")]
        cast = await say("SEND of `'hi'`, CAST")
        assert isinstance(cast, Cast)
        assert cast.request == "hi"


async def test_a_node_sends_the_frozen_frames() -> None:
    async with raw_peer("b@h", 2, "a@h", 1) as (node, _, got):
        switch = node.switch
        assert switch.tell(7, TO, "hi")
        assert switch.tell(7, TO, "hi", True)
        assert switch.tell_name(7, Pid("a@h", 0, 0), key_bytes("cart"), "hi")
        reply = switch.ask(7, TO, "hi", 5.0)
        assert isinstance(reply, Reply)
        reply.abandon()
        named = switch.ask_name(7, Pid("a@h", 0, 0), key_bytes("cart"), "hi", None)
        assert isinstance(named, Reply)
        switch.lines["a@h"].tell_paused(7, True)
        switch.lines["a@h"].tell_paused(7, False)
        switch.lines["a@h"].tell_paused(0, True, key_bytes("cart"))
        switch.lines["a@h"].tell_paused(0, False, key_bytes("cart"))
        await eventually(lambda: len(got) == 10)
        wanted = [
            frozen("SEND of `'hi'`"),
            frozen("SEND of `'hi'`, CAST"),
            frozen("SEND_NAME"),
            without_ref(frozen("CALL of `'hi'`, ref")),
            without_ref(frozen("CALL of `'hi'` to")),
            without_ref(frozen("CANCEL")),
            frozen("PAUSE, of process"),
            frozen("RESUME, of process"),
            frozen("PAUSE, of the name"),
            frozen("RESUME, of the name"),
        ]
        found = [without_ref(frame) for frame in got]
        assert sorted(found, key=repr) == sorted(wanted, key=repr)
        named.abandon()


def without_ref(frame: Frame) -> Frame:
    """The frame with zeros for its ref, which a sender chooses."""
    if frame.kind == Kind.CANCEL:
        at = 0
    elif frame.kind == Kind.CALL:
        at = 21 if frame.flags & messages.FLAG_NAMED else 24
    else:
        return frame
    body = frame.body[:at] + bytes(8) + frame.body[at + 8 :]
    return Frame(frame.kind, frame.flags, body)
