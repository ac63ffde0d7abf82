"""Two endpoints connect, in any direction and family, and know whom they talk to."""

from __future__ import annotations

import asyncio
import hashlib
import math
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from barrel_p2p.auth.certs import ensure_certificate
from barrel_p2p.carrier.connection import Closed, ClosedBy
from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.errors import (
    ConfigError,
    Conflict,
    InvalidValue,
    NotConnected,
    NotStarted,
    PeerUnreachable,
    StorageError,
)
from barrel_p2p.quic.settings import EngineSettings
from tests.endpoints import (
    DEADLINE_S,
    HOST,
    HOST6,
    certificate,
    drained,
    endpoint,
    eventually,
    pair,
    stream_pair,
    within,
)
from tests.tools import require_ipv6

LABEL = "EXPORTER-barrel-test"


async def assert_talks(near: Endpoint, far: Endpoint, host: str) -> None:
    """A connection from ``near`` to ``far`` at ``host`` carries bytes both ways."""
    dialled, accepted = await within(
        asyncio.gather(near.connect(host, far.address[1]), far.accept())
    )
    stream = dialled.open_stream()
    await stream.write(b"ping")
    other = await within(accepted.accept_stream())
    assert await within(other.readexactly(4)) == b"ping"
    await other.write(b"pong")
    assert await within(stream.readexactly(4)) == b"pong"
    assert accepted.remote[1] == near.address[1]
    dialled.close()
    await within(accepted.wait_closed())


@pytest.mark.every_loop
async def test_both_sides_may_dial_over_the_same_two_ports_at_once() -> None:
    async with endpoint() as near, endpoint() as far:
        connections = await within(
            asyncio.gather(
                near.connect(*far.address),
                far.connect(*near.address),
                near.accept(),
                far.accept(),
            )
        )
        for connection in connections:
            connection.open_stream().finish()
        for connection in connections:
            assert await within(drained(await connection.accept_stream())) == b""
        near_remote, far_remote = connections[0].remote, connections[1].remote
        assert (near_remote, far_remote) == (far.address, near.address)
        assert [c.dialled for c in connections] == [True, True, False, False]
        assert near.connections == {connections[0], connections[2]}


@pytest.mark.every_loop
async def test_a_name_is_resolved_in_the_family_of_the_endpoint() -> None:
    async with endpoint() as near, endpoint() as far:
        await assert_talks(near, far, "localhost")


async def test_ipv6_works_as_ipv4_does() -> None:
    require_ipv6()
    async with endpoint(host=HOST6) as near, endpoint(host=HOST6) as far:
        await assert_talks(near, far, HOST6)
        assert far.address[0] == HOST6


@pytest.mark.parametrize("host", [HOST, "127.0.0.2"])
async def test_a_wildcard_endpoint_answers_from_the_address_that_was_dialled(
    host: str,
) -> None:
    async with endpoint() as near, endpoint(host="0.0.0.0") as far:
        await assert_talks(near, far, host)
        assert far.address[0] == "0.0.0.0"


async def test_a_wildcard_endpoint_dials() -> None:
    async with endpoint(host="0.0.0.0") as near, endpoint() as far:
        await assert_talks(near, far, HOST)


async def test_an_ipv6_wildcard_endpoint_answers_and_dials() -> None:
    require_ipv6()
    async with endpoint(host="::") as near, endpoint(host="::") as far:
        await assert_talks(near, far, HOST6)


async def test_two_wildcard_families_may_share_a_port_number() -> None:
    require_ipv6()
    async with (
        endpoint(host="0.0.0.0") as four,
        endpoint(host="::", port=four.address[1]) as six,
        endpoint() as near4,
        endpoint(host=HOST6) as near6,
    ):
        await assert_talks(near4, four, HOST)
        await assert_talks(near6, six, HOST6)


async def test_an_address_of_another_family_is_refused_by_name() -> None:
    async with endpoint() as near:
        with pytest.raises(InvalidValue, match=r"::1 cannot be dialled"):
            await near.connect(HOST6, 1)
        assert near.connections == frozenset()
        assert near.stats().connections == 0


@pytest.mark.parametrize(
    ("host", "port"),
    [("1.2.3", 9), ("127.0.0.1", 0), ("127.0.0.1", 65_536), ("127.0.0.1", -1)],
)
async def test_what_is_no_address_is_refused(host: str, port: int) -> None:
    async with endpoint() as near:
        with pytest.raises(InvalidValue):
            await near.connect(host, port)


@pytest.mark.parametrize("host", ["no-such-host.example", "a" * 300, "a..b", "\udc80"])
async def test_a_name_that_cannot_be_resolved_is_unreachable(host: str) -> None:
    async with endpoint() as near:
        with pytest.raises(PeerUnreachable) as raised:
            await within(near.connect(host, 9), 50)
        assert raised.value.peer == f"{host}:9"


async def test_the_dialler_sees_the_certificate_file_of_the_acceptor() -> None:
    async with pair() as both:
        der = both.dialled.certificate
        assert der is not None
        assert hashlib.sha256(der).digest() == certificate().der_sha256
        pem = certificate().cert_file.read_text()
        assert der == ssl.PEM_cert_to_DER_cert(pem)
        parsed = x509.load_pem_x509_certificate(pem.encode())
        assert der == parsed.public_bytes(serialization.Encoding.DER)
        assert both.accepted.certificate is None


async def test_exported_keys_are_equal_at_both_ends_and_nowhere_else() -> None:
    async with pair() as both:
        again = await both.dialler.connect(*both.acceptor.address)
        other = await both.acceptor.accept()
        keys = [
            connection.exporter(label, size)
            for connection in (both.dialled, again)
            for label in (LABEL, "EXPORTER-other")
            for size in (1, 32, 255)
        ]
        same = [
            connection.exporter(label, size)
            for connection in (both.accepted, other)
            for label in (LABEL, "EXPORTER-other")
            for size in (1, 32, 255)
        ]
        assert keys == same
        long = [key for key in keys if len(key) > 1]
        assert len(set(long)) == len(long)
        assert [len(key) for key in keys[:3]] == [1, 32, 255]


@pytest.mark.parametrize(
    ("label", "size"),
    [(LABEL, 0), (LABEL, 256), (LABEL, -1), ("", 32), ("x" * 250, 32), ("é", 32)],
)
async def test_an_exporter_argument_out_of_range_is_refused(
    label: str, size: int
) -> None:
    async with pair() as both:
        with pytest.raises(InvalidValue):
            both.dialled.exporter(label, size)
        with pytest.raises(InvalidValue, match="label"):
            both.dialled.exporter("cut\0short")


async def test_statistics_of_a_path_make_sense() -> None:
    async with pair() as both:
        near, far = await stream_pair(both)
        await near.write(bytes(200_000))
        near.finish()
        await within(drained(far))
        stats = both.dialled.stats()
        assert stats.local == both.dialler.address
        assert stats.remote == both.acceptor.address
        assert 0 < stats.rtt_min_us <= stats.rtt_latest_us
        assert 0 < stats.srtt_us < DEADLINE_S * 1e6
        assert stats.cwnd > 0
        assert 1_200 <= stats.mtu <= 65_507
        assert stats.bytes_sent > 200_000
        assert both.accepted.stats().bytes_received > 200_000
        assert stats.lost <= stats.sent
        totals = both.dialler.stats()
        assert (totals.connections, totals.half_open) == (1, 0)
        assert totals.bytes_out >= stats.bytes_sent
        await eventually(lambda: both.dialled.in_flight == 0)


async def test_a_ping_is_acknowledged() -> None:
    async with pair(EngineSettings(idle_timeout_ms=60_000)) as both:
        engine = both.dialled._engine
        await eventually(lambda: both.dialled.in_flight == 0)
        before = both.acceptor.stats().datagrams_in
        engine.ping(both.dialled.handle)
        await eventually(lambda: both.acceptor.stats().datagrams_in > before)
        await eventually(lambda: both.dialled.in_flight == 0)


@pytest.mark.every_loop
@pytest.mark.parametrize("by_dialler", [True, False])
async def test_a_close_tells_both_sides_its_code(by_dialler: bool) -> None:
    code = 2**62 - 1
    async with pair() as both:
        closer, other = both.dialled, both.accepted
        if not by_dialler:
            closer, other = other, closer
        closer.close(code, "enough of this")
        ends = [await within(c.wait_closed()) for c in (closer, other)]
        assert ends == [
            Closed(ClosedBy.LOCAL, code),
            Closed(ClosedBy.APPLICATION, code),
        ]
        assert other.how_closed == ends[1]
        assert str(ends[1]) == f"application (code {code:#x})"
        closer.close(1)  # It is over; this changes nothing.
        assert closer.how_closed == ends[0]


@pytest.mark.parametrize("code", [-1, 2**62, 2**64])
async def test_a_close_code_out_of_range_is_refused_and_nothing_happens(
    code: int,
) -> None:
    async with pair() as both:
        with pytest.raises(InvalidValue, match="code="):
            both.dialled.close(code)
        assert both.dialled.how_closed is None
        await stream_pair(both)


@pytest.mark.parametrize("reason", ["", "x" * 1_000, "é" * 100, "a\0b", "\udc80"])
async def test_any_reason_may_be_given(reason: str) -> None:
    async with pair() as both:
        both.dialled.close(7, reason)
        end = await within(both.accepted.wait_closed())
        assert end == Closed(ClosedBy.APPLICATION, 7)


async def test_an_abort_is_silent_and_the_peer_notices_by_reset_or_idleness() -> None:
    async with pair(EngineSettings(idle_timeout_ms=1_000)) as both:
        both.dialled.abort()
        end = await within(both.dialled.wait_closed())
        assert end == Closed(ClosedBy.LOCAL, 0)
        end = await within(both.accepted.wait_closed())
        assert end.by in (ClosedBy.IDLE, ClosedBy.RESET)


@pytest.mark.every_loop
async def test_a_closed_connection_refuses_by_type_and_says_how_it_ended() -> None:
    async with pair() as both:
        both.dialled.close(5)
        for connection in (both.dialled, both.accepted):
            await within(connection.wait_closed())
            assert (connection.closed, connection.is_up) == (True, False)
            with pytest.raises(NotConnected):
                connection.stats()
            with pytest.raises(NotConnected):
                connection.exporter(LABEL)
            with pytest.raises(NotConnected):
                _ = connection.certificate
            with pytest.raises(PeerUnreachable):
                connection.open_stream()
            with pytest.raises(PeerUnreachable, match=r"code 0x5"):
                await connection.accept_stream()
            with pytest.raises(NotConnected):
                await connection.migrate(0)
            assert connection.in_flight == 0
            connection.abort()
        await eventually(lambda: both.dialler.connections == frozenset())


async def test_the_port_of_another_endpoint_is_a_conflict() -> None:
    async with endpoint() as first:
        with pytest.raises(Conflict, match=str(first.address[1])):
            await Endpoint.open(HOST, first.address[1], certificate=certificate())


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
async def test_an_address_of_another_host_cannot_be_bound(host: str) -> None:
    with pytest.raises(ConfigError, match=host):
        await Endpoint.open(host, 0, certificate=certificate())


@pytest.mark.parametrize("host", ["localhost", "", "300.1.1.1", "::1%no-such-link"])
async def test_only_a_numeric_address_can_be_bound(host: str) -> None:
    with pytest.raises(InvalidValue):
        await Endpoint.open(host, 0, certificate=certificate())


@pytest.mark.parametrize("size", [0, 15, 17])
async def test_a_reset_seed_of_another_size_is_refused(size: int) -> None:
    seed = bytes(size)
    with pytest.raises(InvalidValue, match=f"{size} bytes"):
        await Endpoint.open(HOST, 0, certificate=certificate(), reset_seed=seed)


@pytest.mark.parametrize("broken", ["missing", "empty", "garbage"])
async def test_a_broken_certificate_is_refused_by_its_files(
    broken: str, tmp_path: Path
) -> None:
    files = ensure_certificate(tmp_path)
    if broken == "missing":
        files.key_file.unlink()
    else:
        files.cert_file.write_bytes(b"" if broken == "empty" else b"garbage" * 99)
    with pytest.raises(StorageError) as raised:
        await Endpoint.open(HOST, 0, certificate=files)
    named = files.key_file if broken == "missing" else files.cert_file
    assert str(named) in str(raised.value)


async def test_a_closed_endpoint_raises_not_started() -> None:
    async with endpoint() as one:
        address = one.address
    await one.close()
    with pytest.raises(NotStarted):
        _ = one.address
    with pytest.raises(NotStarted):
        one.stats()
    with pytest.raises(NotStarted):
        one.add_socket(HOST)
    with pytest.raises(NotStarted):
        await one.connect(*address)
    with pytest.raises(NotStarted):
        await one.accept()
    assert one.connections == frozenset()


@pytest.mark.parametrize("timeout", [0, -1, math.nan])
async def test_a_migration_timeout_must_be_positive(timeout: float) -> None:
    async with pair() as both:
        with pytest.raises(InvalidValue, match="timeout"):
            await both.dialled.migrate(0, timeout=timeout)
