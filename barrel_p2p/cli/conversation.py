"""A conversation with a running node of this host, for a program with an event loop."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from barrel_p2p.cli.local_node import read_answer
from barrel_p2p.errors import PeerUnreachable, WireError
from barrel_p2p.node.control import ANSWER_BYTES_MAX
from barrel_p2p.node.data_dir import socket_path
from barrel_p2p.node.requests import Request, WatchEvents, WatchMap

__all__ = ["Conversation", "converse"]


class Conversation:
    """Requests and answers, one at a time. Made by ``converse``."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._turn = asyncio.Lock()

    async def ask(self, request: Request, *, patience_s: float = 10.0) -> Any:
        """What the node answers.

        Raises:
            Refused: The node says why not.
            PeerUnreachable: It went away, or did not answer within ``patience_s``.
            WireError: What came is no answer.
        """
        async with self._turn:
            try:
                async with asyncio.timeout(patience_s):
                    self._writer.write(msgspec.json.encode(request) + b"\n")
                    await self._writer.drain()
                    return read_answer(await self._line())
            except TimeoutError:
                # A late answer would be taken for the next one's.
                self._writer.close()
                raise PeerUnreachable(
                    f"the node did not answer within {patience_s:g} s"
                ) from None
            except ConnectionError as error:
                raise PeerUnreachable("the node went away") from error

    async def watch(
        self, request: WatchEvents | WatchMap
    ) -> AsyncGenerator[dict[str, Any]]:
        """The node's answer, then what happens there, until it goes away.

        Raises:
            Refused, PeerUnreachable, WireError: As for ``ask``.
        """
        yield await self.ask(request)
        while line := await self._told():
            yield read_answer(line)

    async def _told(self) -> bytes:
        try:
            return await self._reader.readline()
        except ConnectionError:
            return b""

    async def _line(self) -> bytes:
        try:
            line = await self._reader.readline()
        except ValueError as error:
            raise WireError(
                f"an answer exceeds ANSWER_BYTES_MAX={ANSWER_BYTES_MAX}"
            ) from error
        if not line.endswith(b"\n"):
            raise PeerUnreachable("the node went away without an answer")
        return line


@asynccontextmanager
async def converse(directory: Path) -> AsyncGenerator[Conversation]:
    """A conversation with the node whose data is in ``directory``, an absolute path.

    Raises:
        PeerUnreachable: No node takes commands there.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(
            os.fspath(socket_path(directory)), limit=ANSWER_BYTES_MAX + 1
        )
    except OSError as error:
        raise PeerUnreachable(
            f"no node takes commands in {directory}: {error.strerror or error}"
        ) from error
    try:
        yield Conversation(reader, writer)
    finally:
        writer.close()
