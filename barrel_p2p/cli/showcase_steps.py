"""What the demo shows of a cluster. Every figure is from a clock that ran meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

from barrel_p2p.cli.refusals import Refused
from barrel_p2p.cli.showcase_nodes import Failed, ShownNode, settled
from barrel_p2p.cli.showcase_show import PATIENCE_S, Showcase, Told, ms_since, short
from barrel_p2p.node.requests import (
    Info,
    Join,
    ListKeys,
    Members,
    Nodes,
    Services,
    WhereisService,
)

__all__ = [
    "ACTIVE_SIZE",
    "NAMES",
    "again",
    "call",
    "converge",
    "heal",
    "join",
    "kill",
    "not_converged",
    "pins",
    "reference",
    "service",
    "start",
    "stop",
]

NAMES: Final = ("n1", "n2", "n3", "n4", "n5")

ACTIVE_SIZE: Final = 3
"""Fewer than the other four, so that every graph leaves two nodes without a link."""

SERVICE: Final = "greeter"
SECOND: Final = "greeter-2"


async def start(show: Showcase) -> Told:
    """Five processes, each with a key of its own."""
    starts = (node.start(PATIENCE_S, show.stack) for node in show.nodes)
    await asyncio.gather(*starts)
    keys = {node.banner["fingerprint"] for node in show.nodes}
    pids = {(await node.ask(Info()))["pid"] for node in show.nodes}
    if not len(keys) == len(pids) == len(show.nodes):
        raise Failed(f"{len(keys)} keys and {len(pids)} processes")
    return Told(
        f"{len(pids)} processes, each with a key of its own",
        figures={"processes": len(pids), "keys": len(keys)},
    )


async def join(show: Showcase) -> Told:
    """The others join the first, one after another."""
    first, *others = show.nodes
    show.began_s = time.perf_counter()
    lines, joins = [], []
    for node in others:
        began_s = time.perf_counter()
        await node.ask(Join(reference(first)))
        took_ms = ms_since(began_s)
        seen = await _pin(first, node), await _pin(node, first)
        if seen != (node.banner["fingerprint"], first.banner["fingerprint"]):
            raise Failed(f"{node.name} and {first.name} pinned other keys: {seen}")
        lines.append(
            f"{node.name} joined {first.name} in {took_ms:,.0f} ms,"
            f" TOFU pinned {seen[0]}"
        )
        joins.append({"node": node.name, "ms": took_ms, "pinned": seen[0]})
    return Told(
        f"{len(others)} nodes joined {first.name}",
        tuple(lines),
        {"contact": first.name, "joins": joins},
    )


async def converge(show: Showcase) -> Told:
    """All see all, and the links form one graph with two ends to each."""
    await settled(
        partial(not_converged, show), patience_s=PATIENCE_S, what="no convergence"
    )
    took_s = time.perf_counter() - show.began_s
    count = len(show.nodes)
    links = sum(len(view) for view in (await show.views()).values()) // 2
    return Told(
        f"converged: {count}/{count} nodes in {took_s:.2f} s after the first"
        f" join, {links} links, each with two ends",
        figures={"nodes": count, "links": links, "after_s": round(took_s, 3)},
    )


async def pins(show: Showcase) -> Told:
    """Whoever met pinned the key that the other one showed."""
    shown = {node.full_name: node.banner["fingerprint"] for node in show.nodes}
    count = 0
    for node in show.nodes:
        pinned = await _pins(node)
        met = await node.ask(Nodes())
        wrong = {name for name in pinned if pinned[name] != shown.get(name)}
        if wrong or not set(met["nodes"]) <= set(pinned):
            raise Failed(f"{node.name} pinned {pinned} and met {met['nodes']}")
        count += len(pinned)
    return Told(
        f"{count} keys pinned at first contact, each the one its node showed",
        figures={"pins": count},
    )


async def service(show: Showcase) -> Told:
    """A node registers a service, and all see it."""
    show.asker, show.owner = await _strangers(show)
    await _see(show, show.owner, SERVICE)
    spread_ms = await _heard_by_all(show, show.owner, SERVICE)
    return Told(
        f"{show.owner.name} registered {SERVICE!r};"
        f" all {len(show.nodes)} nodes see it, the last {spread_ms:.1f} ms"
        " after the first",
        figures={
            "service": SERVICE,
            "node": show.owner.name,
            "spread_ms": spread_ms,
        },
    )


async def call(show: Showcase) -> Told:
    """A node that has no link to the owner calls it."""
    asker, owner = show.asker, show.owner
    assert asker is not None
    assert owner is not None
    open_now = (await asker.ask(Nodes()))["nodes"]
    let_go = False
    if owner.full_name in open_now:
        # They met while joining. Without that channel the call has to open one.
        let_go = bool(await asker.guide("let_go", owner.full_name))
        await asker.heard("channel_down", node=owner.full_name, patience_s=PATIENCE_S)
    told = await asker.guide("greet", SERVICE, asker.name)
    wanted = f"hello {asker.name}, this is {owner.full_name}"
    if told["answer"] != wanted or told["node"] != owner.full_name:
        raise Failed(f"{told['node']} answered {told['answer']!r}")
    if told["was_peer"] or told["had_channel"]:
        raise Failed(f"{asker.name} had a way to {owner.name} before: {told}")
    found = f"found in {told['find_ms']:.2f} ms"
    answered = f"answered in {told['call_ms']:.1f} ms: {told['answer']!r}"
    return Told(
        f"{asker.name} does not have {owner.name} in its active view: opened a"
        f" channel on demand in {told['opened_ms']:.1f} ms",
        (
            f"{found}, {answered}",
            f"the next call took {told['again_ms']:.2f} ms",
        ),
        {"asker": asker.name, "let_go": let_go, **told},
    )


async def kill(show: Showcase) -> Told:
    """SIGKILL takes the owner away; its services go with it, everywhere."""
    owner = show.owner
    assert owner is not None
    name, number = owner.full_name, owner.process.pid
    at_s = await owner.kill()
    if owner.process.returncode != -signal.SIGKILL or _exists(number):
        raise Failed(f"process {number} ended with {owner.process.returncode}")
    show.healed = await show.stack.enter_async_context(_task(_heal(show, at_s)))
    noticed = await _after_ms(show, at_s, "channel_down", node=name, first=True)
    dead = await _after_ms(show, at_s, "member_dead", node=name)
    gone = await _after_ms(show, at_s, "service_down", node=name, name=SERVICE)
    living = show.living
    for node in living:
        left = (await node.ask(Services()))["services"]
        if any(entry["node"] == name for entry in left):
            raise Failed(f"{node.name} still lists {left}")
        await _nowhere(node, SERVICE)
    return Told(
        f"SIGKILL to process {number}: all {len(living)} others know that"
        f" {owner.name} is dead after {dead:,.0f} ms",
        (
            f"the first of its channels went down after {noticed:,.0f} ms",
            f"{SERVICE!r} is gone everywhere after {gone:,.0f} ms",
        ),
        {
            "node": owner.name,
            "noticed_ms": noticed,
            "dead_ms": dead,
            "gone_ms": gone,
        },
    )


async def heal(show: Showcase) -> Told:
    """The views of the others are whole again, without the dead."""
    assert show.healed is not None
    took_ms = await show.healed
    if against := await _not_healed(show):
        raise Failed(f"healed for a moment only: {against}")
    links = sum(len(view) for view in (await show.views()).values()) // 2
    return Told(
        f"views healed {took_ms:,.0f} ms after the kill: {len(show.living)} nodes,"
        f" {links} links, each view as full as it can be",
        figures={"nodes": len(show.living), "links": links, "after_ms": took_ms},
    )


async def again(show: Showcase) -> Told:
    """What was lost is offered by another node, and all others call it."""
    first, *others = show.living
    await _see(show, first, SECOND)
    answers = [await node.guide("greet", SECOND, node.name) for node in others]
    wanted = [f"hello {node.name}, this is {first.full_name}" for node in others]
    if [told["answer"] for told in answers] != wanted:
        raise Failed(f"the answers were {[told['answer'] for told in answers]}")
    slowest = max(told["call_ms"] for told in answers)
    return Told(
        f"{first.name} offers {SECOND!r}; {len(others)} others call it,"
        f" in {slowest:.1f} ms at most",
        figures={"node": first.name, "callers": len(others), "call_ms": slowest},
    )


async def stop(show: Showcase) -> Told:
    """The others stop in good order."""
    living = show.living
    codes = await asyncio.gather(*(node.stop(PATIENCE_S) for node in living))
    if any(codes):
        raise Failed(f"exit codes {codes}")
    left = [
        str(path.relative_to(node.directory))
        for node in living
        for path in node.directory.rglob("*")
        if path.is_socket()
    ]
    if left:
        raise Failed(f"sockets are left: {left}")
    return Told(
        f"{len(codes)} processes ended with exit code 0 and left no socket",
        figures={"processes": len(codes)},
    )


async def not_converged(show: Showcase) -> str:
    """What keeps those that live from being one cluster; empty if nothing does."""
    names = {node.full_name for node in show.living}
    for node in show.living:
        members = (await node.ask(Members()))["members"]
        if {each["node"] for each in members} != names:
            return f"{node.name} sees {len(members)} of {len(names)} members"
    return _flaw(await show.views())


async def _not_healed(show: Showcase) -> str:
    views = await show.views()
    if against := _flaw(views):
        return against
    full = min(ACTIVE_SIZE, len(show.living) - 1)
    for name, view in views.items():
        if len(view) < full:
            return f"{short(name)} has {len(view)} peers"
    return ""


async def _strangers(show: Showcase) -> tuple[ShownNode, ShownNode]:
    """Two nodes that are not each other's peers, best without a channel."""
    views = await show.views()
    found: list[tuple[bool, int, ShownNode, ShownNode]] = []
    for one in show.living:
        open_now = (await one.ask(Nodes()))["nodes"]
        for other in show.living:
            name = other.full_name
            if other is not one and name not in views[one.full_name]:
                found.append((name in open_now, len(found), one, other))
    if not found:
        raise Failed("every node is every other's peer")
    _, _, one, other = min(found)
    return one, other


async def _see(show: Showcase, owner: ShownNode, service: str) -> None:
    await owner.guide("open", service)
    for node in show.living:
        told = await node.ask(WhereisService(service, wait_ms=10_000))
        if told["node"] != owner.full_name:
            raise Failed(f"{node.name} finds {service!r} on {told['node']}")


async def _heal(show: Showcase, at_s: float) -> float:
    await settled(partial(_not_healed, show), patience_s=PATIENCE_S, what="not healed")
    return ms_since(at_s)


async def _after_ms(
    show: Showcase, at_s: float, event: str, *, first: bool = False, **fields: object
) -> float:
    """When the last of the living, or the first, has told ``event``."""
    told = [
        asyncio.ensure_future(
            node.heard(event, since_s=at_s, patience_s=PATIENCE_S, **fields)
        )
        for node in show.living
    ]
    how = asyncio.FIRST_COMPLETED if first else asyncio.ALL_COMPLETED
    try:
        done, _ = await asyncio.wait(told, return_when=how)
    finally:
        for each in told:
            each.cancel()
    times_s = [each.result().at_s for each in done]
    return round((max(times_s) - at_s) * 1_000, 1)


async def _heard_by_all(show: Showcase, owner: ShownNode, service: str) -> float:
    told = await asyncio.gather(
        *(
            node.heard(
                "service_registered",
                name=service,
                node=owner.full_name,
                patience_s=PATIENCE_S,
            )
            for node in show.living
        )
    )
    times_s = [one.at_s for one in told]
    return round((max(times_s) - min(times_s)) * 1_000, 2)


async def _pins(node: ShownNode) -> dict[str, str]:
    pins = (await node.ask(ListKeys()))["pins"]
    return {pin["node"]: pin["fingerprint"] for pin in pins}


async def _pin(node: ShownNode, of: ShownNode) -> str | None:
    return (await _pins(node)).get(of.full_name)


@asynccontextmanager
async def _task[T](work: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _nowhere(node: ShownNode, service: str) -> None:
    try:
        told = await node.ask(WhereisService(service))
    except Refused as error:
        if error.described.get("type") == "ServiceNotFound":
            return
        raise
    raise Failed(f"{node.name} still finds {service!r} on {told['node']}")


def _flaw(views: dict[str, set[str]]) -> str:
    """What is wrong with the graph of the active views; empty if nothing is."""
    for name, view in views.items():
        for peer in sorted(view):
            if name not in views.get(peer, ()):
                return f"the link from {short(name)} to {short(peer)} has one end"
    reached = [next(iter(views))]
    for name in reached:
        reached += [peer for peer in sorted(views[name]) if peer not in reached]
    missed = sorted(set(views) - set(reached))
    return f"no way to {', '.join(map(short, missed))}" if missed else ""


def reference(node: ShownNode) -> str:
    """As the banner's join line names it: with the key to insist on."""
    return f"{node.banner['address']}#{node.banner['fingerprint']}"


def _exists(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True
