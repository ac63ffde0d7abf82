"""DNS is asked for services, then for addresses, and believed within bounds."""

from __future__ import annotations

from pathlib import Path

import pytest

from barrel_p2p.core.names import Address
from barrel_p2p.discovery.dns import ADDRESSES_MAX, TARGETS_MAX, DnsDiscovery
from barrel_p2p.errors import InvalidValue, PeerUnreachable
from tests.name_server import SILENCE, name_server

SRV = "_barrel-p2p._udp.db.example"
SHORT_MS = 300


def asking(server: str, *, timeout_ms: int = 5_000) -> DnsDiscovery:
    return DnsDiscovery(
        port=9_100, servers=(server,), timeout_ms=timeout_ms, hosts_file=None
    )


async def test_a_host_s_addresses_get_the_common_port() -> None:
    zone = {
        ("db.example", "A"): ["10.0.0.5", "10.0.0.6"],
        ("db.example", "AAAA"): ["fd00::5"],
    }
    async with name_server(dict(zone)) as server:
        found = await asking(server.text).lookup_all("a@db.example")
        assert sorted(found[:2]) == [
            Address("a@db.example", "10.0.0.5", 9_100),
            Address("a@db.example", "10.0.0.6", 9_100),
        ]
        assert found[2:] == [Address("a@db.example", "fd00::5", 9_100)]
        assert (SRV, "SRV") in server.asked


async def test_a_service_record_s_port_and_order_beat_the_common_port() -> None:
    zone = {
        (SRV, "SRV"): [
            "20 0 9300 late.example.",
            "10 1 9200 light.example.",
            "10 9 9201 heavy.example.",
        ],
        ("late.example", "A"): ["10.0.0.9"],
        ("light.example", "AAAA"): ["fd00::1"],
        ("heavy.example", "A"): ["10.0.0.7"],
        ("db.example", "A"): ["10.0.0.5"],
    }
    async with name_server(dict(zone)) as server:
        found = await asking(server.text).lookup_all("a@db.example")
        first = await asking(server.text).lookup("a@db.example")
    assert [(a.host, a.port) for a in found] == [
        ("10.0.0.7", 9_201),
        ("fd00::1", 9_200),
        ("10.0.0.9", 9_300),
    ]
    assert first == found[0]


async def test_a_service_that_is_decidedly_absent_leaves_the_addresses() -> None:
    zone = {(SRV, "SRV"): ["0 0 0 ."], ("db.example", "A"): ["10.0.0.5"]}
    async with name_server(dict(zone)) as server:
        found = await asking(server.text).lookup("a@db.example")
    assert found == Address("a@db.example", "10.0.0.5", 9_100)


async def test_a_name_that_does_not_exist_is_no_entry() -> None:
    async with name_server({}) as server:
        assert await asking(server.text).lookup("a@nowhere.example") is None
        kinds = {kind for _, kind in server.asked}
    assert kinds == {"SRV", "A", "AAAA"}


async def test_a_server_that_fails_on_one_type_still_gives_the_other() -> None:
    zone: dict[tuple[str, str], list[str] | bytes] = {
        (SRV, "SRV"): b"\x81\x82" + bytes(8),  # SERVFAIL without the question
        ("db.example", "AAAA"): SILENCE,
        ("db.example", "A"): ["10.0.0.5"],
    }
    async with name_server(zone) as server:
        backend = asking(server.text, timeout_ms=SHORT_MS)
        found = await backend.lookup_all("a@db.example")
    assert found == [Address("a@db.example", "10.0.0.5", 9_100)]


async def test_a_silent_server_is_an_error_with_the_deadline() -> None:
    zone: dict[tuple[str, str], list[str] | bytes] = {
        (SRV, "SRV"): SILENCE,
        ("db.example", "A"): SILENCE,
        ("db.example", "AAAA"): SILENCE,
    }
    async with name_server(zone) as server:
        backend = asking(server.text, timeout_ms=SHORT_MS)
        with pytest.raises(PeerUnreachable, match=f"within {SHORT_MS} ms"):
            await backend.lookup("a@db.example")


@pytest.mark.parametrize(
    "reply",
    [
        b"\x00",
        b"\x81\x80\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x81\x80\x00\x01\x00\x01\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01",
        bytes(500),
    ],
)
async def test_garbage_for_a_reply_is_an_error_and_nothing_else(reply: bytes) -> None:
    zone: dict[tuple[str, str], list[str] | bytes] = {
        (SRV, "SRV"): reply,
        ("db.example", "A"): reply,
        ("db.example", "AAAA"): reply,
    }
    async with name_server(zone) as server:
        backend = asking(server.text, timeout_ms=SHORT_MS)
        with pytest.raises(PeerUnreachable):
            await backend.lookup("a@db.example")


async def test_a_zone_cannot_make_a_lookup_long() -> None:
    many = [f"10.0.{n}.1" for n in range(100)]
    zone: dict[tuple[str, str], list[str] | bytes] = {
        (SRV, "SRV"): [f"{n} 0 9 t{n}.example." for n in range(15)],
        **{(f"t{n}.example", "A"): many[:50] for n in range(15)},
    }
    async with name_server(zone) as server:
        found = await asking(server.text).lookup_all("a@db.example")
        targets = {name for name, _ in server.asked if name.startswith("t")}
    assert len(found) == ADDRESSES_MAX
    assert len(targets) == TARGETS_MAX


async def test_an_address_for_a_host_asks_nobody() -> None:
    async with name_server({}) as server:
        backend = asking(server.text)
        found = await backend.lookup_all("a@127.0.0.1")
        assert found == [Address("a@127.0.0.1", "127.0.0.1", 9_100)]
        local = await backend.lookup_all("a@localhost")
        assert [a.host for a in local] == ["127.0.0.1", "::1"]
        assert server.asked == []


async def test_the_hosts_file_is_read_before_anybody_is_asked(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(
        b"# 10.9.9.9 db.example\n\xff\xfe\n10.0.0.5 other DB.example # here\n"
        b"fd00::5 db.example\n10.0.0.6 db.example\nnonsense db.example\n"
    )
    async with name_server({("x.example", "A"): ["10.0.0.7"]}) as server:
        backend = DnsDiscovery(servers=(server.text,), hosts_file=hosts)
        found = await backend.lookup_all("a@db.example")
        assert [a.host for a in found] == ["10.0.0.5", "10.0.0.6", "fd00::5"]
        assert server.asked == []
        hosts.unlink()
        asked = await backend.lookup("a@x.example")
        assert asked == Address("a@x.example", "10.0.0.7", 9_100)


@pytest.mark.parametrize(
    "node", ["", "a", "../../etc/passwd", "a@h@h", "a@" + "x" * 300]
)
async def test_what_is_no_node_name_is_not_asked(node: str) -> None:
    async with name_server({}) as server:
        with pytest.raises(InvalidValue):
            await asking(server.text).lookup(node)
        assert server.asked == []


async def test_a_label_that_dns_cannot_carry_is_an_error() -> None:
    async with name_server({}) as server:
        with pytest.raises(PeerUnreachable):
            await asking(server.text).lookup("a@" + "x" * 64 + ".example")
        assert await asking(server.text).list_nodes("db.example") == []
