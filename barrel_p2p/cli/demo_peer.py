"""The demo's second process: it listens, sends pings back, hashes what it receives.

``python -m barrel_p2p.cli.demo_peer DIRECTORY`` makes a certificate in ``DIRECTORY``,
prints one JSON line (the ports and the certificate's SHA-256), and ends when its stdin
closes, so it cannot outlive the process that started it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path

import uvloop

from barrel_p2p.auth.certs import CertificateFiles, ensure_certificate
from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.carrier.stream import Stream
from barrel_p2p.cli.demo_links import HOST, TcpLink
from barrel_p2p.cli.demo_work import Receiver
from barrel_p2p.errors import NotStarted

__all__ = ["main"]


def main() -> None:
    """Serve until stdin closes."""
    parser = argparse.ArgumentParser(prog="python -m barrel_p2p.cli.demo_peer")
    parser.add_argument("directory", type=Path, help="for the certificate")
    uvloop.run(_serve(ensure_certificate(parser.parse_args().directory)))


async def _serve(certificate: CertificateFiles) -> None:
    loop = asyncio.get_running_loop()
    stdin_closed = asyncio.Event()
    server = await loop.create_server(_TcpReceiver, HOST, 0)
    endpoint = await Endpoint.open(HOST, 0, certificate=certificate)
    loop.add_reader(sys.stdin.fileno(), stdin_closed.set)
    ready = {
        "quic": endpoint.address[1],
        "tcp": server.sockets[0].getsockname()[1],
        "certificate": certificate.der_sha256.hex(),
    }
    print(json.dumps(ready), flush=True)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_accept(endpoint))
        await stdin_closed.wait()
        loop.remove_reader(sys.stdin.fileno())
        server.close()
        await endpoint.close()


async def _accept(endpoint: Endpoint) -> None:
    try:
        while True:
            connection = await endpoint.accept()
            connection.on_stream = _receive
    except NotStarted:
        return  # The endpoint was closed: the demo is over.


def _receive(stream: Stream) -> None:
    receiver = Receiver(stream.write_nowait)
    stream.on_data = lambda chunk, fin: receiver.received(chunk)


class _TcpReceiver(TcpLink):
    """An accepted connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.receive(Receiver(self.write).received)


if __name__ == "__main__":
    main()
