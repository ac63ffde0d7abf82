"""One process of a pair: ``python -m bench.message_peers server|client NAME WORK ...``.

A server prints one JSON object, when it serves and what a client has to know, and runs
until its stdin closes. A client does one piece of work and prints its figures.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import uvloop

from bench.message_peers import PEERS, load
from bench.message_peers.adapter import PHASES, Info, Peer, Tally
from bench.message_peers.workload import perform
from bench.workload import Work

__all__ = ["main"]


def main() -> None:
    """Run one side."""
    args = _arguments()
    kind = load(args.name)
    run = uvloop.run if kind.loop == "uvloop" else asyncio.run
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        numbers = itertools.count()

        def make() -> Peer:
            own = Path(directory) / str(next(numbers))
            own.mkdir()
            return kind(own)

        if args.role == "server":
            run(_serve(make(), args.phase))
        else:
            work = Work(args.phase, args.size, args.batch)
            run(_client(make, work, json.loads(args.info)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.message_peers", description=__doc__
    )
    parser.add_argument("role", choices=("server", "client"))
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("phase", choices=PHASES)
    parser.add_argument("--size", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--info", default="{}")
    return parser.parse_args()


async def _serve(peer: Peer, phase: str) -> None:
    stdin_closed = asyncio.Event()
    loop = asyncio.get_running_loop()
    imported_ns = time.perf_counter_ns()
    try:
        info = await peer.serve(phase, Tally())
        ready_ns = time.perf_counter_ns()
        _say({"imported_ns": imported_ns, "ready_ns": ready_ns, "info": info})
        loop.add_reader(sys.stdin.fileno(), stdin_closed.set)
        await stdin_closed.wait()
        loop.remove_reader(sys.stdin.fileno())
    finally:
        await peer.close()


async def _client(make: Callable[[], Peer], work: Work, info: Info) -> None:
    _say(await perform(make, work, info))


def _say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
