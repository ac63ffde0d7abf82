"""What an endpoint puts on the wire, and into files, as an outsider sees it."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import pytest
from aioquic.asyncio import QuicConnectionProtocol, connect
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, QuicEvent

from barrel_p2p.quic.settings import ALPN, EngineSettings
from tests.endpoints import endpoint, pair, stream_pair, within
from tests.relay import relay

LONG_HEADER, KIND_MASK, RETRY = 0x80, 0x30, 0x30
REASON_BYTES_MAX = 127
RESET_BYTES_MAX = 39  # what this picoquic answers to is longer
KEY_LOG_LABELS = {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"}


class Client(QuicConnectionProtocol):
    """A client of another implementation that keeps how it was closed."""

    def __init__(self, *arguments: object, **named: object) -> None:
        super().__init__(*arguments, **named)  # type: ignore[arg-type]
        self.end: asyncio.Future[ConnectionTerminated] = (
            asyncio.get_running_loop().create_future()
        )

    def quic_event_received(self, event: QuicEvent) -> None:
        if isinstance(event, ConnectionTerminated) and not self.end.done():
            self.end.set_result(event)


def is_retry(datagram: bytes) -> bool:
    return bool(datagram[0] & LONG_HEADER) and datagram[0] & KIND_MASK == RETRY


@pytest.mark.parametrize(
    ("reason", "seen"),
    [
        ("", ""),
        ("going home", "going home"),
        ("x" * 1_000, "x" * REASON_BYTES_MAX),
        ("é" * 1_000, "é" * (REASON_BYTES_MAX // 2)),
        ("\udc80", "?"),
    ],
)
async def test_the_reason_of_a_close_reaches_the_peer_in_whole_characters(
    reason: str, seen: str
) -> None:
    configuration = QuicConfiguration(alpn_protocols=[ALPN], verify_mode=ssl.CERT_NONE)
    async with endpoint() as one:
        context = connect(
            *one.address, configuration=configuration, create_protocol=Client
        )
        async with context as client:
            assert isinstance(client, Client)
            accepted = await within(one.accept())
            accepted.close(0x123, reason)
            end = await within(client.end)
            assert (end.error_code, end.reason_phrase) == (0x123, seen)


@pytest.mark.parametrize("always", [False, True])
async def test_everyone_must_prove_his_address_when_that_is_asked_for(
    always: bool,
) -> None:
    settings = EngineSettings(retry_always=always)
    async with (
        endpoint(settings) as far,
        endpoint() as near,
        relay(far.address) as path,
    ):
        connection = await within(near.connect(*path.address))
        assert any(map(is_retry, path.down)) is always
        assert connection.is_up


@pytest.mark.parametrize("wanted", [False, True])
async def test_secrets_are_written_only_when_settings_and_environment_ask_for_it(
    wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(file))
    async with pair(EngineSettings(key_log=wanted)) as both:
        await stream_pair(both)
    if not wanted:
        assert not file.exists()
        return
    labels = {line.split()[0] for line in file.read_text().splitlines()}
    assert labels >= KEY_LOG_LABELS


async def test_no_datagram_is_too_short_to_be_answered_by_a_reset() -> None:
    """A stateless reset must be shorter than what it answers, and at least 21 bytes."""
    async with endpoint() as far, endpoint() as near, relay(far.address) as path:
        connection, accepted = await within(
            asyncio.gather(near.connect(*path.address), far.accept())
        )
        for _ in range(50):
            stream = connection.open_stream()
            stream.write_nowait(b"x", fin=True)
            other = await within(accepted.accept_stream())
            other.finish()
            assert await within(other.read()) == b"x"
        assert min(map(len, path.up)) > RESET_BYTES_MAX
        assert min(map(len, path.down)) > RESET_BYTES_MAX
