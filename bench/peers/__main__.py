"""One process of a pair: ``python -m bench.peers server|client NAME WORK ...``.

A server prints ``{"port": ...}`` and runs until its stdin closes. A client does one
piece of work and prints its figures. Both on uvloop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from pathlib import Path

import uvloop

from bench.peers import PEERS, load
from bench.peers.adapter import PHASES, Peer
from bench.peers.certificate import Certificate
from bench.workload import Work, perform, session_of

__all__ = ["main"]


def main() -> None:
    """Run one side and leave without waiting for the library's own threads."""
    args = _arguments()
    peer = load(args.name)(Certificate(args.certificates))
    work = Work(args.phase, args.size, args.batch)
    if args.role == "server":
        uvloop.run(_serve(peer, work))
    else:
        uvloop.run(_client(peer, work, args.port, args.server_pid))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.peers", description=__doc__)
    parser.add_argument("role", choices=("server", "client"))
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("phase", choices=PHASES)
    parser.add_argument("--certificates", type=Path, required=True)
    parser.add_argument("--size", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--server-pid", type=int, default=os.getpid())
    return parser.parse_args()


async def _serve(peer: Peer, work: Work) -> None:
    stdin_closed = asyncio.Event()
    loop = asyncio.get_running_loop()
    port = await peer.serve(session_of(work.phase))
    loop.add_reader(sys.stdin.fileno(), stdin_closed.set)
    _say({"port": port})
    await stdin_closed.wait()
    loop.remove_reader(sys.stdin.fileno())
    await peer.close()


async def _client(peer: Peer, work: Work, port: int, server_pid: int) -> None:
    _say(await perform(peer, work, port, server_pid))
    await peer.close()


def _say(answer: object) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
