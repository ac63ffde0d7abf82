"""One run of the demo, seen from the process that dials.

Its certificate and that of the other process live in a temporary directory, which is
removed at the end. The other process is ended by its process id, and by itself should
this one be killed.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

import uvloop

from barrel_p2p.auth.certs import CertificateFiles, ensure_certificate
from barrel_p2p.carrier.connection import Connection
from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.cli.demo_links import HOST, Link, QuicLink, TcpLink
from barrel_p2p.cli.demo_report import Figures, Report
from barrel_p2p.cli.demo_stock import Stock
from barrel_p2p.cli.demo_work import (
    Exchange,
    exchange_messages,
    exchange_stream,
    round_trips,
)
from barrel_p2p.errors import PeerUnreachable
from barrel_p2p.quic.library import picoquic_table

__all__ = ["DemoFailed", "run"]

_READY_SECONDS_MAX = 30.0
_EXIT_SECONDS_MAX = 5.0
_WORK_SECONDS_MAX = 60.0
_SECONDS_PER_MB_MAX = 1.0
"""Added to ``_WORK_SECONDS_MAX`` for every megabyte to be moved."""


class DemoFailed(Exception):
    """The demo cannot go on; the text is one line for its user."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """What the other process says once it listens."""

    pid: int
    quic_port: int
    tcp_port: int
    certificate_sha256: str


def run(
    *,
    messages: int,
    stream_bytes: int,
    round_trips: int,
    corrupt: str | None,
    progress: TextIO,
) -> Report:
    """Do everything once.

    Args:
        messages: Messages to send over each transport.
        stream_bytes: Bytes to stream over each transport.
        round_trips: Pings over each transport.
        corrupt: See ``Stock``.
        progress: Where to say what is going on.

    Raises:
        DemoFailed: The other process failed, or did not answer in time.
        PeerUnreachable: A connection ended early.
        ImportError: picoquic is missing or does not fit.
    """
    start_s = time.perf_counter()
    picoquic_table()
    with (
        _Progress(progress) as say,
        tempfile.TemporaryDirectory(prefix="barrel_p2p-demo-") as directory,
    ):
        say.begin("two self-signed certificates, ECDSA P-256")
        certificate = ensure_certificate(Path(directory, "dialler"))
        with _SecondProcess(Path(directory, "acceptor")) as second:
            ready = second.ready()
            say.end(f"made, and removed at the end with {directory}")
            say.begin(f"hashing {messages:,} messages and {stream_bytes / 1e6:,.0f} MB")
            stock = Stock(messages, stream_bytes, corrupt=corrupt)
            say.end("done")
            dialler = _Dialler(ready, certificate, stock, round_trips, say)
            handshake_s, quic, tcp = uvloop.run(dialler.run())
        second.check_exit()
    seconds = time.perf_counter() - start_s
    return Report(messages, stream_bytes, handshake_s, seconds, quic, tcp)


class _Progress:
    """Says what begins, and on the same line how it ended."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._begun = False

    def begin(self, what: str) -> None:
        self._out.write(f"{what} ... ")
        self._out.flush()
        self._begun = True

    def end(self, how: str) -> None:
        self._out.write(f"{how}\n")
        self._out.flush()
        self._begun = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._begun:
            self.end("stopped")


class _SecondProcess:
    """``demo_peer``, from start to end. It ends when its stdin closes, or us."""

    def __init__(self, directory: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "barrel_p2p.cli.demo_peer", str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            process_group=0,  # Ctrl-C is for us; we end it in order.
        )

    def ready(self) -> _Ready:
        """Wait until it listens.

        Raises:
            DemoFailed: It ended, or said nothing in time.
        """
        assert self._process.stdout is not None
        said = self._process.stdout
        readable, _, _ = select.select([said], [], [], _READY_SECONDS_MAX)
        line = said.readline() if readable else b""
        if not line:
            self._stop()
            raise DemoFailed(f"the second process did not start{self._how_it_ended()}")
        told = json.loads(line)
        return _Ready(self._process.pid, told["quic"], told["tcp"], told["certificate"])

    def check_exit(self) -> None:
        """Make sure that it ended by itself, in good order.

        Raises:
            DemoFailed: It did not.
        """
        if self._process.returncode != 0:
            raise DemoFailed(f"the second process failed{self._how_it_ended()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        for end in (self._process.terminate, self._process.kill, None):
            try:
                self._process.wait(_EXIT_SECONDS_MAX)
                break
            except subprocess.TimeoutExpired:
                if end is not None:
                    end()
        self._process.stdout.close()

    def _how_it_ended(self) -> str:
        return f" (pid {self._process.pid}, exit status {self._process.returncode})"


class _Dialler:
    """This process's side of the demo, inside the event loop."""

    def __init__(
        self,
        ready: _Ready,
        certificate: CertificateFiles,
        stock: Stock,
        trips: int,
        say: _Progress,
    ) -> None:
        self._ready = ready
        self._certificate = certificate
        self._stock = stock
        self._trips = trips
        self._say = say
        megabytes = (stock.stream_bytes + stock.message_bytes) / 1e6
        self._work_s_max = _WORK_SECONDS_MAX + megabytes * _SECONDS_PER_MB_MAX

    async def run(self) -> tuple[float, Figures, Figures]:
        """Seconds of the handshake, then the figures of QUIC and of TCP."""
        certificate = self._certificate
        async with await Endpoint.open(HOST, 0, certificate=certificate) as endpoint:
            connection, handshake_s = await self._connect(endpoint)

            async def open_quic() -> Link:
                return QuicLink(connection, connection.open_stream())

            tcp_laps, quic_laps = await self._both(
                f"{self._trips:,} round trips",
                open_quic,
                lambda link: round_trips(link, self._trips),
                lambda laps: f"{sum(laps) / 1e9:.2f} s",
            )
            tcp_messages, quic_messages = await self._both(
                f"{self._stock.message_count:,} messages",
                open_quic,
                lambda link: exchange_messages(link, self._stock),
                _verdict,
            )
            tcp_stream, quic_stream = await self._both(
                f"a stream of {self._stock.stream_bytes / 1e6:,.0f} MB",
                open_quic,
                lambda link: exchange_stream(link, self._stock),
                _verdict,
            )
        quic = Figures(quic_laps, quic_messages, quic_stream)
        tcp = Figures(tcp_laps, tcp_messages, tcp_stream)
        return handshake_s, quic, tcp

    async def _connect(self, endpoint: Endpoint) -> tuple[Connection, float]:
        pid, port = self._ready.pid, self._ready.quic_port
        self._say.begin(f"process {pid} listens on udp {HOST} port {port}; connecting")
        start_s = time.perf_counter()
        connection = await endpoint.connect(HOST, port)
        handshake_s = time.perf_counter() - start_s
        shown = hashlib.sha256(connection.certificate or b"").hexdigest()
        if shown != self._ready.certificate_sha256:
            raise DemoFailed(f"process {pid} made another certificate than it shows")
        self._say.end(f"{handshake_s * 1e3:.1f} ms, certificate SHA256:{shown[:16]}...")
        return connection, handshake_s

    async def _both[T](
        self,
        what: str,
        open_quic: Callable[[], Awaitable[Link]],
        work: Callable[[Link], Awaitable[T]],
        tell: Callable[[T], str],
    ) -> tuple[T, T]:
        """Do ``work`` over TCP, then over QUIC."""
        results = []
        for name, open_link in (("TCP", self._open_tcp), ("QUIC", open_quic)):
            where = f"{what} over {name}"
            self._say.begin(where)
            try:
                async with asyncio.timeout(self._work_s_max):
                    link = await open_link()
                    try:
                        result = await work(link)
                    finally:
                        link.close()
            except TimeoutError:
                text = f"{where} took over {self._work_s_max:.0f} s"
                raise DemoFailed(text) from None
            except PeerUnreachable as error:
                raise DemoFailed(f"{where}: {error}") from error
            self._say.end(tell(result))
            results.append(result)
        tcp, quic = results
        return tcp, quic

    async def _open_tcp(self) -> Link:
        loop = asyncio.get_running_loop()
        link = TcpLink()
        try:
            await loop.create_connection(lambda: link, HOST, self._ready.tcp_port)
        except BaseException:
            link.close()  # Cancelled in between, it may be connected already.
            raise
        return link


def _verdict(exchange: Exchange) -> str:
    verdict = "same hash at both ends" if exchange.verified else "THE HASHES DIFFER"
    return f"{exchange.seconds:.2f} s, {verdict}"
