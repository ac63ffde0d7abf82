"""A program that starts and stops two connected nodes, again and again.

Arguments: a directory, and how often. It prints one JSON line for what the process held
after a first cycle and one for what it holds in the end, counts and names.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
from pathlib import Path

import psutil

from barrel_p2p.core.names import At
from tests.cluster.node_process import ECHO, Echo
from tests.unit.node.nodes import nodes

__all__: list[str] = []

NAMES = ("a@127.0.0.1", "b@127.0.0.1")


async def cycle(directory: Path) -> None:
    async with nodes(directory, *NAMES) as (a, b):
        await a.start_server(Echo, name=ECHO)
        async with b.mailbox() as me:
            remote = await b.proxy(Echo, At(ECHO, a.name))
            assert await remote.echo("there") == "there"
            await me.pid.send("here")
            assert await me.receive(timeout=5) == "here"


def held(directory: Path) -> dict[str, object]:
    gc.collect()
    me = psutil.Process()
    return {
        "fds": me.num_fds(),
        "sockets": len(me.net_connections(kind="all")),
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "native_threads": me.num_threads(),
        "tasks": len(asyncio.all_tasks()),
        "children": len(me.children()),
        "files": sorted(str(p.relative_to(directory)) for p in directory.rglob("*")),
        "objects": len(gc.get_objects()),
    }


async def main(directory: Path, count: int) -> None:
    # A machine that is busy with something else is no fault of ours.
    asyncio.get_running_loop().slow_callback_duration = 30.0
    # What is made once, such as a cookie's key, is not a leak.
    for _ in range(3):
        await cycle(directory)
    sys.stdout.write(json.dumps(held(directory)) + "\n")
    for _ in range(count):
        await cycle(directory)
    sys.stdout.write(json.dumps(held(directory)) + "\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
