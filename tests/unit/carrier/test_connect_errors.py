"""A connect that fails says which step failed, with the exception that fits."""

from __future__ import annotations

import asyncio
import socket
from contextlib import AbstractAsyncContextManager

import psutil
import pytest

from barrel_p2p.auth.machine import Mode
from barrel_p2p.auth.signing import fingerprint
from barrel_p2p.carrier.dialer import ConnectOptions, Resolved
from barrel_p2p.carrier.report import ConnectReport, report_of
from barrel_p2p.core.names import NodeReference
from barrel_p2p.errors import (
    AuthModeMismatch,
    AuthTimeout,
    BarrelError,
    Busy,
    Conflict,
    CookieMismatch,
    KeyMismatch,
    NameMismatch,
    PeerTsSkew,
    PeerUnreachable,
    UntrustedKey,
    VersionMismatch,
)
from tests.channel_nodes import ChannelNode, connected, node, pair_of_nodes
from tests.endpoints import HOST, closed_ports, endpoint, eventually, within


def report_on(error: BaseException) -> ConnectReport:
    report = report_of(error)
    assert report is not None
    assert str(report) in error.__notes__
    return report


def states(report: ConnectReport) -> list[tuple[str, str]]:
    return [(step.name, step.state) for step in report.steps]


REACHED = [("resolve", "ok"), ("udp", "ok"), ("tls", "ok")]


async def test_nodes_connect_with_the_cookie_alone_where_both_say_so() -> None:
    """QUI-16."""
    async with pair_of_nodes(mode=Mode.COOKIE) as (a, b):
        near, _ = await connected(a, b)
        assert near.identity.key is None


@pytest.mark.parametrize(
    ("peer", "error", "steps"),
    [
        (
            node("b@h", cookie="another one"),
            CookieMismatch,
            [("identity", "ok"), ("cookie", "failed")],
        ),
        (
            node("b@h", mode=Mode.COOKIE),
            AuthModeMismatch,
            [("identity", "failed")],
        ),
        (
            node("b@h", local_changes={"protocol_min": 2, "protocol_max": 3}),
            VersionMismatch,
            [("version", "failed")],
        ),
        (
            node("b@h", trust_mode="strict"),
            UntrustedKey,
            [("identity", "failed")],
        ),
    ],
)
async def test_a_refusal_is_typed_and_says_at_which_step(
    peer: AbstractAsyncContextManager[ChannelNode],
    error: type[BarrelError],
    steps: list[tuple[str, str]],
) -> None:
    async with node("a@h") as a, peer as b:
        with pytest.raises(error) as caught:
            await within(a.channels.connect(b.ref))
        assert caught.value.peer == "b@h"
        report = report_on(caught.value)
        assert states(report) == REACHED + steps
        assert report.as_dict()["attempts"] == 1
        await eventually(lambda: not b.endpoint.connections)
        assert a.events == b.events == []
        assert b.channels.reception.refused == 1
        assert b.channels.reception.admitting == 0


async def test_a_version_refusal_names_both_ranges() -> None:
    changes = {"protocol_min": 2, "protocol_max": 3}
    async with node("a@h") as a, node("b@h", local_changes=changes) as b:
        with pytest.raises(VersionMismatch, match=r"1 to 1.*2 to 3|2 to 3.*1 to 1"):
            await within(a.channels.connect(b.ref))


async def test_clocks_too_far_apart_are_refused() -> None:
    class Ahead:
        def now_ms(self) -> int:
            return 0

        def wall_ms(self) -> int:
            return 4_000_000_000_000

    async with pair_of_nodes() as (a, b):
        object.__setattr__(b.channels.reception._gate, "clock", Ahead())
        with pytest.raises(PeerTsSkew):
            await within(a.channels.connect(b.ref))


async def test_another_name_than_the_dialled_one_is_refused() -> None:
    async with pair_of_nodes() as (a, b):
        host, port = b.endpoint.address
        with pytest.raises(NameMismatch):
            await within(a.channels.connect(f"c@h={host}:{port}"))


async def test_a_changed_key_is_refused_on_both_sides() -> None:
    async with node("a@h") as a:
        async with node("b@h") as first:
            await connected(a, first)
        async with node("b@h") as second:
            with pytest.raises(KeyMismatch) as caught:
                await within(a.channels.connect(second.ref))
            pinned = fingerprint(first.public_key)
            assert caught.value.pinned == pinned
            assert caught.value.presented == fingerprint(second.public_key)
            assert f"pinned is {pinned}" in str(report_on(caught.value))
            with pytest.raises(KeyMismatch):
                await within(second.channels.connect(a.ref))


async def test_a_reference_that_names_another_key_is_refused() -> None:
    async with pair_of_nodes() as (a, b):
        with pytest.raises(KeyMismatch):
            await within(a.channels.connect(f"{b.ref}#SHA256:{'A' * 43}"))


async def test_an_acceptor_that_says_nothing_ends_in_a_refusal() -> None:
    """QUI-19: hanging authentication."""
    async with endpoint() as silent, node("a@h", handshake_timeout_ms=200) as a:
        host, port = silent.address
        with pytest.raises(AuthTimeout) as caught:
            await within(a.channels.connect(f"b@h={host}:{port}", timeout=10.0))
        report = report_on(caught.value)
        assert states(report)[-1:] == [("identity", "failed")]
        assert "auth_stream_timeout" in str(report)


async def test_a_closed_port_is_told_at_once_as_the_network_says_it() -> None:
    with closed_ports(1) as [(host, port)]:
        async with node("a@h") as a:
            with pytest.raises(PeerUnreachable) as caught:
                await within(a.channels.connect(f"b@h={host}:{port}"))
            report = report_on(caught.value)
            assert states(report) == [("resolve", "ok"), ("udp", "failed")]
            assert "nobody listens there" in str(report)


async def test_a_peer_that_does_not_answer_is_given_up_after_the_timeout() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind((HOST, 0))
        async with node("a@h") as a:
            began_s = asyncio.get_running_loop().time()
            with pytest.raises(PeerUnreachable) as caught:
                await a.channels.connect(
                    f"b@h={HOST}:{deaf.getsockname()[1]}", timeout=0.3
                )
            assert asyncio.get_running_loop().time() - began_s > 0.29
            report = report_on(caught.value)
            assert states(report) == [("resolve", "ok"), ("udp", "failed")]
            assert "not done after 0.3 s" in str(report)
            await eventually(lambda: not a.endpoint.connections)


async def test_a_node_that_nobody_knows_is_told_with_what_was_asked() -> None:
    async with node("a@h") as a:
        with pytest.raises(PeerUnreachable, match="nobody knows where c@h is") as error:
            await a.channels.connect("c@h")
        assert states(report_on(error.value)) == [("resolve", "failed")]


async def test_each_address_is_tried_until_one_answers() -> None:
    async with pair_of_nodes() as (a, b):
        with closed_ports(2) as closed:

            async def resolve(reference: NodeReference) -> Resolved:
                return Resolved([*closed, b.endpoint.address], "three of them")

            a.channels.dialer._resolve = resolve
            assert (await within(a.channels.connect("b@h"))).is_up


async def test_who_names_another_address_does_not_wait_for_the_one_before() -> None:
    """A node that came back elsewhere is joined where it is, not where it was."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as deaf:
        deaf.bind((HOST, 0))
        port = deaf.getsockname()[1]
        async with pair_of_nodes() as (a, b):
            first = asyncio.ensure_future(
                a.channels.connect(f"b@h={HOST}:{port}", timeout=None)
            )
            await eventually(lambda: bool(a.endpoint.connections))
            channel = await within(a.channels.connect(b.ref))
            assert await within(first) is channel
            assert len(b.endpoint.connections) == 1


async def test_where_nobody_listens_is_not_the_end_for_who_named_another() -> None:
    """Two contacts of one name: the one that answers, whichever was named first."""
    async with pair_of_nodes() as (a, b):
        with closed_ports(1) as [(host, port)]:
            gone = f"b@h={host}:{port}"
            for refs in ((gone, b.ref), (b.ref, gone)):
                channels = await within(
                    asyncio.gather(*(a.channels.connect(ref) for ref in refs))
                )
                assert channels[0] is channels[1]
                a.channels.disconnect("b@h")
                await eventually(lambda: not b.channels.nodes())


async def test_a_dial_can_leave_from_a_socket_of_its_own_that_ends_with_it() -> None:
    """QUI-33: what a relay needs."""
    async with pair_of_nodes() as (a, b):
        options = ConnectOptions(remote=b.endpoint.address, local=("127.0.0.1", 0))
        a.channels.set_connect_options("b@h", options)
        fds = psutil.Process().num_fds()
        near = await within(a.channels.connect("b@h"))
        await eventually(lambda: b.channels.get("a@h") is not None)
        far = b.channels.get("a@h")
        assert far is not None
        assert far.address != a.endpoint.address
        assert psutil.Process().num_fds() == fds + 1
        a.channels.disconnect("b@h")
        await within(near.connection.wait_closed())
        await eventually(lambda: psutil.Process().num_fds() == fds)
        again = await within(a.channels.connect(b.ref))
        assert again.dialled
        assert b.channels.get("a@h") is not None


async def test_a_socket_that_cannot_be_bound_fails_the_dial_at_once() -> None:
    async with pair_of_nodes() as (a, b):
        a.channels.set_connect_options(
            "b@h", ConnectOptions(remote=b.endpoint.address, local=a.endpoint.address)
        )
        with pytest.raises(Conflict, match="in use"):
            await within(a.channels.connect("b@h"))
        await within(a.channels.connect(b.ref))


async def test_connect_options_are_used_by_the_next_dial_and_no_other() -> None:
    async with pair_of_nodes() as (a, b):
        options = ConnectOptions(remote=b.endpoint.address)
        a.channels.set_connect_options("b@h", options)
        a.channels.set_connect_options("c@h", options)
        a.channels.clear_connect_options("c@h")
        assert a.channels.get_connect_options("b@h") == options
        assert a.channels.get_connect_options("c@h") is None
        assert (await within(a.channels.connect("b@h"))).is_up
        assert a.channels.get_connect_options("b@h") is None
        a.channels.disconnect("b@h")
        with pytest.raises(PeerUnreachable, match="nobody knows"):
            await a.channels.connect("b@h")


async def test_options_that_nobody_uses_are_bounded() -> None:
    async with node("a@h") as a:
        for number in range(1_024):
            a.channels.set_connect_options(f"n{number}@h", ConnectOptions())
        a.channels.set_connect_options("n1@h", ConnectOptions(("::1", 1)))
        with pytest.raises(Busy, match="CONNECT_OPTIONS_MAX=1024"):
            a.channels.set_connect_options("n1024@h", ConnectOptions())
