"""What the demo shows of state: a leader that is killed, a reminder, a map on disk."""

from __future__ import annotations

import asyncio
import signal
import time
from functools import partial
from typing import Any, Final

from barrel_p2p.cli.showcase_nodes import Failed, ShownNode, settled
from barrel_p2p.cli.showcase_show import PATIENCE_S, Showcase, Told, ms_since, short
from barrel_p2p.cli.showcase_steps import not_converged, reference
from barrel_p2p.node.requests import Join

__all__ = ["arm", "elect", "keep", "recover", "remind", "succeed"]

OFFICE: Final = "chief"
REMINDER: Final = "tea"
MAP: Final = "ledger"
ENTRIES: Final = 100

_DUE_MS: Final = 4_000
"""More than it takes to find out that a node is dead, so that only its owner's death
decides who tells."""


async def elect(show: Showcase) -> Told:
    """All nodes that live would lead; one does, and all know which."""
    roles = [await node.guide("campaign", OFFICE) for node in show.living]
    leader, fence = await _agreed(show)
    show.leader, show.fence = leader, fence
    return Told(
        f"{len(roles)} candidates for {OFFICE!r}: {leader.name} leads for all, with"
        f" fence {fence}",
        figures={"leader": leader.name, "fence": fence, "candidates": len(roles)},
    )


async def arm(show: Showcase) -> Told:
    """The leader arms a reminder of which it is the owner itself."""
    leader = show.leader
    assert leader is not None
    for node in show.living:
        await node.guide("listen_to_reminders")
    key = await leader.guide("own_key", REMINDER)
    at_ms = await leader.guide("remind", key, _DUE_MS, OFFICE)
    show.reminder = (key, at_ms)
    return Told(
        f"{leader.name} arms the reminder {key!r}, which is its own to tell, for"
        f" {_DUE_MS / 1_000:g} s from now",
        figures={"node": leader.name, "key": key, "due_in_ms": _DUE_MS},
    )


async def succeed(show: Showcase) -> Told:
    """SIGKILL takes the leader; another leads, with a larger fence."""
    old, fence = show.leader, show.fence
    assert old is not None
    at_s = await old.kill()
    if old.process.returncode != -signal.SIGKILL:
        raise Failed(f"{old.name} ended with {old.process.returncode}")
    leader, larger = await _agreed(show, besides=old)
    took_ms = ms_since(at_s)
    if larger <= fence:
        raise Failed(f"the fence {larger} of {leader.name} is not above {fence}")
    show.leader, show.fence = leader, larger
    return Told(
        f"SIGKILL to {old.name}: {leader.name} leads after {took_ms:,.0f} ms, its fence"
        f" is {larger - fence} larger",
        figures={"leader": leader.name, "fence": larger, "after_ms": took_ms},
    )


async def remind(show: Showcase) -> Told:
    """A survivor tells what the dead node had armed, once."""
    key, at_ms = show.reminder
    told: list[tuple[ShownNode, dict[str, Any]]] = []

    async def missing() -> str:
        told[:] = [
            (node, one)
            for node in show.living
            for one in await node.guide("reminders_of", key)
        ]
        return "" if told else "nobody tells"

    await settled(missing, patience_s=PATIENCE_S, what=f"reminder {key!r}")
    if len(told) != 1:
        raise Failed(f"{len(told)} nodes told {key!r}: {[n.name for n, _ in told]}")
    node, event = told[0]
    late_ms = event["at_ms"] - at_ms
    if event["payload"] != OFFICE or late_ms < 0:
        raise Failed(f"{node.name} told {event} of what was due at {at_ms}")
    return Told(
        f"{node.name} told {key!r} {late_ms:,} ms after it was due, with fence"
        f" {event['fence']}; the node that had armed it was dead by then",
        figures={"node": node.name, "late_ms": late_ms, "fence": event["fence"]},
    )


async def keep(show: Showcase) -> Told:
    """Every write to a map on disk is acknowledged once it is there."""
    living = show.living
    began_s = time.perf_counter()
    for node in living:
        await node.guide("open_map", MAP)
    for number in range(ENTRIES):
        await living[number % len(living)].guide("put", MAP, number, number**2)
    took_ms = ms_since(began_s)
    await _all_hold(show, patience_s=PATIENCE_S)
    return Told(
        f"{len(living)} nodes wrote {ENTRIES} entries to the map {MAP!r}, each on disk"
        " when it was acknowledged; all hold them all",
        figures={"map": MAP, "entries": ENTRIES, "ms": took_ms},
    )


async def recover(show: Showcase) -> Told:
    """SIGKILL takes all at once; five processes start again, and the map is there."""
    killed = show.living
    await asyncio.gather(*(node.kill() for node in killed))
    began_s = time.perf_counter()
    for node in show.nodes:
        await node.revive()
    await asyncio.gather(*(node.start(PATIENCE_S, show.stack) for node in show.nodes))
    first, *others = show.nodes
    for node in show.nodes:
        await node.guide("open_map", MAP)
    # Before they meet: what a node has then is from its own disk.
    alone = [node for node in killed if (await node.guide("total", MAP))[0] == ENTRIES]
    if len(alone) != len(killed):
        raise Failed(f"only {[node.name for node in alone]} found all entries on disk")
    for node in others:
        await node.ask(Join(reference(first)))
    await settled(
        partial(not_converged, show), patience_s=PATIENCE_S, what="no convergence"
    )
    await _all_hold(show, patience_s=PATIENCE_S)
    took_ms = ms_since(began_s)
    others_count = len(show.nodes) - len(alone)
    return Told(
        f"SIGKILL to all {len(killed)} at once: {len(show.nodes)} processes started"
        f" again, and every node has all {ENTRIES} entries after {took_ms:,.0f} ms",
        (f"{len(alone)} had them on disk, {others_count} were dead and were told",),
        {"entries": ENTRIES, "from_disk": len(alone), "after_ms": took_ms},
    )


async def _agreed(
    show: Showcase, *, besides: ShownNode | None = None
) -> tuple[ShownNode, int]:
    """Whom all that live hold for the leader, and its fence."""
    found: dict[str, dict[str, Any]] = {}

    async def split() -> str:
        for node in show.living:
            found[node.full_name] = await node.guide("standing", OFFICE)
        leaders = {one["leader"] for one in found.values()}
        if len(leaders) != 1 or None in leaders:
            return f"the leaders are {sorted(map(str, leaders))}"
        name = leaders.pop()
        if besides is not None and name == besides.full_name:
            return f"{short(name)} still leads"
        return "" if found[name]["fence"] else f"{short(name)} has no fence yet"

    found.clear()
    await settled(split, patience_s=PATIENCE_S, what="no leader")
    name = found[show.living[0].full_name]["leader"]
    leader = next(node for node in show.living if node.full_name == name)
    return leader, found[name]["fence"]


async def _all_hold(show: Showcase, *, patience_s: float) -> None:
    wanted = sum(number**2 for number in range(ENTRIES))

    async def lacking() -> str:
        for node in show.living:
            count, total = await node.guide("total", MAP)
            if (count, total) != (ENTRIES, wanted):
                return f"{node.name} has {count} of {ENTRIES} entries"
        return ""

    await settled(lacking, patience_s=patience_s, what=f"the map {MAP!r}")
