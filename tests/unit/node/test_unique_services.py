"""Services of which there is one: registered while their process leads."""

from __future__ import annotations

from pathlib import Path

import pytest

from barrel_p2p import AlreadyRegistered, Process
from barrel_p2p.node.node import Node
from barrel_p2p.services import registry_index
from barrel_p2p.services.unique import election_of
from barrel_p2p.testing import cluster, eventually


async def idle(process: Process) -> None:
    """A process that only ends when it is told to."""
    await process.receive(lambda message: False)


async def test_a_unique_service_is_registered_while_its_process_leads(
    tmp_path: Path,
) -> None:
    async with cluster(2, directory=tmp_path) as (a, b):
        of_a, of_b = a.spawn(idle), b.spawn(idle)
        await b.register_service("svc", of_b, {"on": "b"}, unique=True)
        await eventually(lambda: [e.pid for e in a.lookup("svc")] == [of_b])
        await a.register_service("svc", of_a, {"on": "a"}, unique=True)
        for node in (a, b):

            def found(node: Node = node) -> bool:
                return [(e.pid, e.meta) for e in node.lookup("svc")] == [
                    (of_a, {"on": "a"})
                ]

            await eventually(found)
        await a.register_service("svc", of_a, {"on": "a", "turn": 2}, unique=True)
        assert a.lookup("svc")[0].meta == {"on": "a", "turn": 2}
        await of_a.exit("shutdown")
        await eventually(lambda: [e.pid for e in a.lookup("svc")] == [of_b])
        assert b.lookup("svc")[0].meta == {"on": "b"}
        await b.unregister_service("svc")
        await eventually(lambda: a.lookup("svc") == b.lookup("svc") == [])


async def test_a_name_that_was_taken_meanwhile_goes_to_another_node(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with cluster(2, directory=tmp_path) as (a, b):
        block_it, of_a, of_b = b.spawn(idle), a.spawn(idle), b.spawn(idle)
        await a.lead(election_of("svc"), pid=of_a, priority=1)
        await eventually(lambda: len(b.candidates(election_of("svc"))) == 1)
        await b.register_service("svc", of_b, unique=True)
        await b.register_service("svc", block_it)
        await a.resign(election_of("svc"))
        await eventually(lambda: b.candidates(election_of("svc")) == [])
        assert [entry.pid for entry in b.lookup("svc")] == [block_it]
    assert "unique service 'svc'" in caplog.text


async def test_a_process_that_leads_is_registered_as_soon_as_there_is_room(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(2, directory=tmp_path) as (a, b):
        first, other, of_b = a.spawn(idle), b.spawn(idle), b.spawn(idle)
        await a.lead(election_of("svc"), pid=first, priority=1)
        await eventually(lambda: len(b.candidates(election_of("svc"))) == 1)
        await b.register_service("svc", of_b, unique=True)
        await b.register_service(0, other)
        monkeypatch.setattr(registry_index, "SERVICES_PER_NODE_MAX", 1)
        await a.resign(election_of("svc"))
        await eventually(lambda: b.is_leader(election_of("svc")))
        await eventually(lambda: "unique service 'svc'" in caplog.text)
        assert b.lookup("svc") == []
        await b.unregister_service(0)
        await eventually(lambda: [e.pid for e in b.lookup("svc")] == [of_b])


async def test_a_process_that_waits_for_room_gives_up_with_its_term(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cluster(2, directory=tmp_path) as (a, b):
        first, other, of_b = a.spawn(idle), b.spawn(idle), b.spawn(idle)
        await a.lead(election_of("svc"), pid=first, priority=1)
        await eventually(lambda: len(b.candidates(election_of("svc"))) == 1)
        await b.register_service("svc", of_b, unique=True)
        await b.register_service(0, other)
        monkeypatch.setattr(registry_index, "SERVICES_PER_NODE_MAX", 1)
        await a.resign(election_of("svc"))
        [post] = b._overlay().unique._posts.values()
        await eventually(lambda: post._retry is not None)
        await b.unregister_service("svc")
        assert post._retry is None
        assert b.candidates(election_of("svc")) == []


async def test_a_unique_service_has_one_process_a_node(tmp_path: Path) -> None:
    async with cluster(1, directory=tmp_path) as (a,):
        first, second = a.spawn(idle), a.spawn(idle)
        await a.register_service("svc", first, unique=True)
        with pytest.raises(AlreadyRegistered):
            await a.register_service("svc", second, unique=True)
        with pytest.raises(AlreadyRegistered):
            await a.register_service("svc", second)
        await a.unregister_service("svc")
        await a.register_service("svc", second)
        with pytest.raises(AlreadyRegistered):
            await a.register_service("svc", first, unique=True)
        assert [entry.pid for entry in a.lookup("svc")] == [second]
        assert a.elections() == []
