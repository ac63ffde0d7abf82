"""``demo``: five nodes in five processes form a cluster, lose one of them, and heal.

Every line is printed after what it says has happened, from what was seen to happen. A
step that fails ends the demo; the later ones are not reached.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from cyclopts import Parameter

from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.interruptible import interruptible, say_interrupted
from barrel_p2p.cli.options import Flag, Json
from barrel_p2p.cli.output import printable
from barrel_p2p.cli.refusals import Refused
from barrel_p2p.cli.showcase_nodes import Failed, running
from barrel_p2p.cli.showcase_show import Showcase, Told
from barrel_p2p.cli.showcase_state import (
    arm,
    elect,
    keep,
    recover,
    remind,
    succeed,
)
from barrel_p2p.cli.showcase_steps import (
    ACTIVE_SIZE,
    NAMES,
    again,
    call,
    converge,
    heal,
    join,
    kill,
    pins,
    service,
    start,
    stop,
)
from barrel_p2p.cli.showcase_view import View, view
from barrel_p2p.errors import BarrelError, InvalidValue
from barrel_p2p.node.run import run

__all__ = ["demo"]

_STEPS: Final[tuple[Callable[[Showcase], Awaitable[Told]], ...]] = (
    start,
    join,
    converge,
    pins,
    service,
    call,
    kill,
    heal,
    again,
    elect,
    arm,
    succeed,
    remind,
    keep,
    recover,
    stop,
)
"""In order; their names are those of the functions."""

_LOOK_S: Final = 0.2
_MILESTONES: Final = frozenset({"converge", "service", "kill", "heal"})
_CALLS: Final = 10_000


def demo(
    *options: Annotated[str, Parameter(allow_leading_hyphen=True, show=False)],
    pair: Flag = False,
    calls: int | None = None,
    transport: Flag = False,
    json: Json = False,
) -> int:
    """Show five nodes as a cluster on loopback. Exit code 0 if every step passes.

    Args:
        options: With --transport: its options.
        pair: Show two nodes and how fast calls between them are instead.
        calls: With --pair: how many calls; default 10,000.
        transport: Measure QUIC beside TCP instead: a million messages and a gigabyte.
        json: Print JSON lines; with --pair and --transport one object.
    """
    if transport:
        from barrel_p2p.cli.demo import main as measure

        return measure([*options, *(["--json"] if json else [])])
    if options:
        raise InvalidValue(f"the demo takes no {options[0]!r}")
    if pair:
        from barrel_p2p.cli.tour import tour

        return tour(_CALLS if calls is None else calls, as_json=json)
    if calls is not None:
        raise InvalidValue("--calls says how many calls --pair makes")
    told = view(as_json=json)
    outcome = _Outcome()
    began_s = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="bp-demo-") as directory, told:
        place = Path(directory).absolute()
        interrupted = run(interruptible(_shown(place, told, outcome)))
    if interrupted:
        return say_interrupted("demo")
    for line in outcome.log:
        print(printable(line), file=sys.stderr)
    seconds = round(time.perf_counter() - began_s, 2)
    told.end({"demo": "cluster", "passed": outcome.passed, "seconds": seconds})
    return ExitCode.OK if outcome.passed else ExitCode.FAILED


@dataclass(slots=True)
class _Outcome:
    """How the demo went; ``log``: what the nodes said, if it failed."""

    passed: bool = False
    log: tuple[str, ...] = ()


async def _shown(directory: Path, told: View, outcome: _Outcome) -> None:
    config = directory / "demo.toml"
    # Nobody is found but through the node that was joined.
    config.write_text(f"active_size = {ACTIVE_SIZE}\ndiscovery_backends = []\n")
    cookie = secrets.token_hex(16)
    async with (
        running(directory, NAMES, cookie=cookie, config=config) as nodes,
        AsyncExitStack() as stack,
    ):
        show = Showcase(nodes, stack)
        looks = asyncio.create_task(_look(show, told))
        try:
            outcome.passed = await _perform(show, told)
        finally:
            looks.cancel()
            await asyncio.wait([looks])
        await _tabled(show, told)
        if not outcome.passed:
            outcome.log = tuple(
                f"{node.name}: {line}" for node in nodes for line in node.log()
            )


async def _perform(show: Showcase, told: View) -> bool:
    for step in _STEPS:
        name = step.__name__
        began_s = time.perf_counter()
        line: dict[str, Any] = {"step": name, "ok": False}
        try:
            done = await step(show)
            line |= {"ok": True, "text": done.text, "more": done.more}
            figures = done.figures
        except (Failed, Refused, BarrelError, OSError) as error:
            line["text"] = str(error) or type(error).__name__
            figures = {}
        line["ms"] = round((time.perf_counter() - began_s) * 1_000, 1)
        told.step(line | figures)
        if not line["ok"]:
            return False
        await _tabled(show, told, milestone=name in _MILESTONES)
    return True


async def _look(show: Showcase, told: View) -> None:
    """Keep the table as the nodes are."""
    while True:
        await _tabled(show, told)
        await asyncio.sleep(_LOOK_S)


async def _tabled(show: Showcase, told: View, *, milestone: bool = False) -> None:
    # A node that cannot be asked fails the next step, which says what is wrong.
    with suppress(BarrelError, Refused, OSError):
        told.table(await show.rows(), milestone=milestone)
