"""``--watch`` and ``events``: what is printed again and again, until Ctrl-C."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from barrel_p2p.cli.conversation import converse
from barrel_p2p.cli.local_node import running_directory
from barrel_p2p.cli.options import Target, timeout_ms
from barrel_p2p.cli.output import printable, say
from barrel_p2p.cli.refusals import Refused
from barrel_p2p.cli.talk import asking_peer
from barrel_p2p.errors import BarrelError, PeerUnreachable
from barrel_p2p.node.requests import Request, WatchEvents, WatchMap

__all__ = ["follow", "printer", "watched"]

_LOOK_S: Final = 1.0
_GATHER_S: Final = 0.05  # What happens together is shown together.

type Show = Callable[[dict[str, Any]], None]
type Ask = Callable[[Request], Awaitable[dict[str, Any]]]


async def follow(directory: Path, request: WatchEvents | WatchMap, show: Show) -> None:
    """Show what the node in ``directory`` tells, after one that it is watched.

    Raises:
        PeerUnreachable: The node is not there, or went away.
    """
    async with converse(directory.absolute()) as node:  # noqa: ASYNC240 -- no disk
        async for told in node.watch(request):
            show(told)
    raise PeerUnreachable("the node went away")


async def watched(request: Request, target: Target, show: Show) -> None:
    """Show what the node answers, and again whenever that has changed.

    Raises:
        PeerUnreachable: The node is not there, or went away.
    """
    news = asyncio.Event()
    shown: dict[str, Any] | None = None
    async with _source(target, news) as ask:
        while True:
            news.clear()
            answer = await ask(request)
            if answer != shown:
                show(answer)
                shown = answer
            try:
                async with asyncio.timeout(_LOOK_S):
                    await news.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(_GATHER_S)


@contextmanager
def printer(
    lines_of: Callable[[dict[str, Any]], Iterable[str]], *, as_json: bool
) -> Iterator[Show]:
    """Prints answers: in place on a terminal, else one after another."""
    if as_json or not sys.stdout.isatty():

        def show(answer: dict[str, Any]) -> None:
            say(answer, [*lines_of(answer), ""], as_json=as_json)
            sys.stdout.flush()

        yield show
        return
    console = Console(highlight=False, markup=False, emoji=False)
    with Live(console=console, auto_refresh=False) as live:

        def draw(answer: dict[str, Any]) -> None:
            text = printable("\n".join(lines_of(answer)))
            live.update(Text(text, no_wrap=True), refresh=True)

        yield draw


@asynccontextmanager
async def _source(target: Target, news: asyncio.Event) -> AsyncIterator[Ask]:
    """The way to ask the node; ``news`` is set when something has happened there."""
    if target.peer is not None:
        async with asking_peer(target, target.peer) as ask_peer:
            yield ask_peer
        return
    patience_s = timeout_ms(target.timeout) / 1_000
    place = running_directory(target.node, target.data_dir)
    directory = place.absolute()
    async with converse(directory) as node, converse(directory) as events:

        async def listen() -> None:
            with suppress(BarrelError, Refused):  # Who asks hears the same, and why.
                async for _ in events.watch(WatchEvents()):
                    news.set()

        async def ask(request: Request) -> dict[str, Any]:
            answer: dict[str, Any] = await node.ask(request, patience_s=patience_s)
            return answer

        listening = asyncio.create_task(listen())
        try:
            yield ask
        finally:
            listening.cancel()
            await asyncio.wait([listening])
