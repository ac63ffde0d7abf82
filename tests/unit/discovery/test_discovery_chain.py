"""Back-ends are asked in order, and none of them can hurt another or the caller."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Mapping
from pathlib import Path

import pytest

from barrel_p2p.config import Config
from barrel_p2p.core.clock import SystemClock
from barrel_p2p.core.names import Address
from barrel_p2p.discovery.advertise import advertised_address
from barrel_p2p.discovery.backend import Discovery
from barrel_p2p.discovery.chain import Chain
from barrel_p2p.discovery.configured import chain_of
from barrel_p2p.discovery.file import FileDiscovery
from barrel_p2p.discovery.static import NodeEntry, StaticDiscovery
from barrel_p2p.errors import ConfigError, InvalidValue
from tests.endpoints import eventually, within

HERE = Address("a@h", "10.0.0.5", 9_100)
CLOCK = SystemClock()
SHORT_MS = 50


class Own:
    """A back-end of an application's own, that knows one address."""

    name = "own"

    def __init__(self, known: object = HERE) -> None:
        self.known = known
        self.options: Mapping[str, object] = {}
        self.registered: list[tuple[str, str, int]] = []
        self.withdrawn: list[str] = []
        self.asked = 0

    def init(self, opts: Mapping[str, object]) -> None:
        self.options = opts

    async def register(self, node: str, host: str, port: int) -> None:
        self.registered.append((node, host, port))

    async def withdraw(self, node: str) -> None:
        self.withdrawn.append(node)

    async def lookup(self, node: str) -> Address | None:
        self.asked += 1
        return self.known  # type: ignore[return-value]

    async def list_nodes(self, host: str) -> list[Address]:
        return [self.known]  # type: ignore[list-item]


class Raising(Own):
    """Fails at everything, over several lines."""

    name = "raising"

    async def register(self, node: str, host: str, port: int) -> None:
        raise RuntimeError("no\nroom")

    async def withdraw(self, node: str) -> None:
        raise RuntimeError("no\nroom")

    async def lookup(self, node: str) -> Address | None:
        raise RuntimeError("no\nroom")

    async def list_nodes(self, host: str) -> list[Address]:
        raise RuntimeError("no\nroom")


class Hanging(Own):
    """Never answers, and does not let itself be cancelled before ``over`` is set."""

    name = "hanging"

    def __init__(self) -> None:
        super().__init__()
        self.over = asyncio.Event()
        self.cancelled = 0

    async def lookup(self, node: str) -> Address | None:
        while not self.over.is_set():
            try:
                await self.over.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
        raise RuntimeError("too late to matter")


def chain(*backends: Discovery, deadline_ms: int = 5_000) -> Chain:
    return Chain(backends, clock=CLOCK, deadline_ms=deadline_ms)


async def test_the_first_that_knows_wins_and_the_rest_is_not_asked() -> None:
    first, second = Own(), Own(Address("a@h", "10.0.0.6", 1))
    answer = await chain(StaticDiscovery(), first, second).lookup("A@h")
    assert answer.address == HERE
    assert answer.addresses == (HERE,)
    assert (first.asked, second.asked) == (1, 0)
    assert str(answer).startswith("static: no entry · own: 10.0.0.5 (")
    assert str(answer).endswith(" ms)")


async def test_the_file_is_asked_when_the_table_has_no_entry(tmp_path: Path) -> None:
    """DIS-13."""
    file = FileDiscovery(tmp_path, clock=CLOCK)
    await file.register("a@h", "10.0.0.5", 9_100)
    both = chain(StaticDiscovery({"b@h": ("10.0.0.6", 1)}), file)
    assert (await both.lookup("a@h")).address == HERE
    assert (await both.lookup("b@h")).address == Address("b@h", "10.0.0.6", 1)
    nobody = await both.lookup("c@h")
    assert (nobody.address, nobody.addresses) == (None, ())
    assert str(nobody).startswith("static: no entry · dir: no entry (")


def names_in(directory: Path) -> list[str]:
    return [path.name for path in directory.iterdir()]


async def test_registering_reaches_the_file_and_a_listing_is_the_union(
    tmp_path: Path,
) -> None:
    """DIS-14."""
    own = Own(Address("c@h", "10.0.0.7", 2))
    file = FileDiscovery(tmp_path, clock=CLOCK)
    both = chain(StaticDiscovery({"b@h": ("10.0.0.6", 1)}), file, own)
    said = await both.register(HERE)
    assert [(each.backend, each.error) for each in said] == [
        ("dir", None),
        ("own", None),
    ]
    assert own.registered == [tuple(HERE)]
    listing = await both.list_nodes("h")
    assert [address.name for address in listing.addresses] == ["a@h", "b@h", "c@h"]
    await both.withdraw("a@h")
    assert names_in(tmp_path) == []
    assert own.withdrawn == ["a@h"]


async def test_one_that_raises_is_explained_and_passed_over() -> None:
    answer = await chain(Raising(), Own()).lookup("a@h")
    assert answer.address == HERE
    assert answer.said[0].error == "no room"
    assert str(answer).startswith("raising: no room · own: 10.0.0.5 (")
    everything = chain(Raising(), Own())
    assert (await everything.list_nodes()).addresses == (HERE,)
    told = [await everything.register(HERE), await everything.withdraw("a@h")]
    assert [[each.error for each in said] for said in told] == [["no room", None]] * 2


async def test_one_that_hangs_costs_its_deadline_and_no_more() -> None:
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    hanging = Hanging()
    asked = chain(hanging, Own(), deadline_ms=SHORT_MS)
    try:
        answer = await within(asked.lookup("a@h"), 10)
        assert answer.address == HERE
        assert answer.said[0].error == f"no answer within {SHORT_MS} ms"
        assert answer.said[0].elapsed_ms >= SHORT_MS - 1
        await eventually(lambda: hanging.cancelled == 1)
    finally:
        hanging.over.set()
    await eventually(lambda: len(asyncio.all_tasks()) == 1)
    gc.collect()
    assert complaints == [], "what it raised in the end is nobody's business any more"


async def test_a_cancelled_lookup_takes_the_question_with_it() -> None:
    class Asked(Own):
        def __init__(self) -> None:
            super().__init__()
            self.started = asyncio.Event()
            self.cancelled = asyncio.Event()

        async def lookup(self, node: str) -> Address | None:
            self.started.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.set()
            return None

    backend = Asked()
    task = asyncio.create_task(chain(backend).lookup("a@h"))
    await within(backend.started.wait())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await within(backend.cancelled.wait())


@pytest.mark.parametrize(
    "known",
    [
        "10.0.0.5:9100",
        ("a@h", "h", 1),
        42,
        Address("b@h", "h", 1),
        Address("a@h", "a b", 1),
        Address("a@h", "h", 0),
    ],
)
async def test_nonsense_for_an_answer_is_an_error_of_whoever_gave_it(
    known: object,
) -> None:
    answer = await chain(Own(known), StaticDiscovery(["a@h:7"])).lookup("a@h")
    assert answer.address == Address("a@h", "h", 7)
    assert answer.said[0].error is not None


async def test_one_that_gives_up_by_cancelling_itself_is_passed_over() -> None:
    class GivesUp(Own):
        async def lookup(self, node: str) -> Address | None:
            raise asyncio.CancelledError

    answer = await chain(GivesUp(), StaticDiscovery(["a@h:7"])).lookup("a@h")
    assert answer.said[0].error == "gave up by itself"
    assert answer.address == Address("a@h", "h", 7)


async def test_one_that_cannot_start_says_so_at_every_question() -> None:
    class NotReady(Own):
        def init(self, opts: Mapping[str, object]) -> None:
            raise OSError("no such service")

    broken = NotReady()
    answer = await chain(broken, StaticDiscovery(["a@h:7"])).lookup("a@h")
    assert answer.said[0].error == "init failed: no such service"
    assert (answer.address, broken.asked) == (Address("a@h", "h", 7), 0)


async def test_an_address_that_the_user_gave_asks_nobody() -> None:
    own = Own()
    answer = await chain(own).resolve("b@h=[::1]:9200")
    assert answer.address == Address("b@h", "::1", 9_200)
    assert (str(answer), own.asked) == ("given: ::1 (0 ms)", 0)
    assert (await chain(own).resolve("a@h")).address == HERE
    for wrong in ("../a@h", "a", "a@h:0"):
        with pytest.raises(InvalidValue):
            await chain(own).resolve(wrong)


async def test_nobody_to_ask_is_an_answer_too() -> None:
    answer = await chain().lookup("a@h")
    assert (answer.address, str(answer)) == (None, "nobody to ask (0 ms)")


@pytest.mark.parametrize(
    "entry",
    [
        "a@h=10.0.0.5:9100",
        HERE,
        ("A@H", ("10.0.0.5", 9_100)),
        ("a@h", "10.0.0.5", 9_100),
    ],
)
async def test_a_table_takes_every_form_of_an_entry(entry: NodeEntry) -> None:
    """DIS-09, DIS-11."""
    table = StaticDiscovery([entry])
    assert await table.lookup("a@h") == HERE
    assert await table.lookup("b@h") is None
    assert await table.list_nodes("h") == [HERE]
    assert await table.list_nodes("i") == []


@pytest.mark.parametrize(
    "entry", ["a@h", ("a@h", "h"), ("a", "h", 1), 7, ("a@h", "h", 0)]
)
def test_a_table_refuses_what_is_no_entry(entry: object) -> None:
    with pytest.raises(InvalidValue):
        StaticDiscovery([entry])  # type: ignore[list-item]


async def test_a_configuration_s_chain_asks_in_its_order(tmp_path: Path) -> None:
    own = Own(None)
    config = Config(
        discovery_backends=(own, "file", "static", "dns"),
        discovery_dir=str(tmp_path / "shared"),
        nodes={"a@h": ("10.0.0.5", 9_100)},
        listen_port=4_433,
    )
    asked = chain_of(config, clock=CLOCK)
    answer = await asked.lookup("a@h")
    assert [each.backend for each in answer.said] == ["own", "dir", "static"]
    assert own.options["listen_port"] == 4_433
    literal = await asked.lookup("a@127.0.0.1")
    assert literal.address == Address("a@127.0.0.1", "127.0.0.1", 4_433)
    await asked.register(Address("b@h", "::1", 1))
    assert (tmp_path / "shared" / "b@h.endpoint").exists()


def test_a_configuration_s_mistakes_are_configuration_errors() -> None:
    class OnlyLooksUp:
        async def lookup(self, node: str) -> None:
            return None

    for config in (
        Config(nodes={"no name": ("h", 1)}),
        Config(nodes={"a@h": ("a b", 1)}),
        Config(discovery_backends=(OnlyLooksUp(),)),
    ):
        with pytest.raises(ConfigError):
            chain_of(config, clock=CLOCK)


@pytest.mark.parametrize(
    ("bind", "host", "port", "advertised"),
    [
        ("127.0.0.1", None, None, "127.0.0.1:5"),
        ("0.0.0.0", None, None, "h:5"),
        ("::", None, None, "h:5"),
        ("10.0.0.1", "proxy.example", 443, "proxy.example:443"),
        ("0.0.0.0", None, 443, "h:443"),
    ],
)
def test_others_are_told_an_address_that_they_can_dial(
    bind: str, host: str | None, port: int | None, advertised: str
) -> None:
    address = advertised_address(
        "a@h", bind_host=bind, bound_port=5, advertise_host=host, advertise_port=port
    )
    assert f"{address.host}:{address.port}" == advertised
