"""The registry shows what is so, tells what changed, and nobody writes for others."""

from __future__ import annotations

from collections import Counter

import pytest

from barrel_p2p.core.ormap import OrMap
from barrel_p2p.core.terms import Atom, Pid
from barrel_p2p.errors import AlreadyRegistered, InvalidValue, NotEncodable
from barrel_p2p.services.registry_inputs import (
    GRAVE_MS,
    GRAVES_MAX,
    HIDDEN_MS,
    META_BYTES_MAX,
    TOMBSTONES_MAX,
    Register,
)
from barrel_p2p.services.service_events import (
    ServiceDown,
    ServiceEntry,
    ServiceRegistered,
    ServiceUnregistered,
)
from barrel_p2p.wire.crdt_ingest import Refusal
from tests.registry_bench import RegistryBench, connect

NAMES = ["cart", b"cart", 7, Atom("cart"), ("cart", 42), ("user", (1, b"x")), ()]


@pytest.fixture
def me() -> RegistryBench:
    return RegistryBench()


@pytest.fixture
def pair() -> tuple[RegistryBench, RegistryBench]:
    a, b = RegistryBench("a@h", 1), RegistryBench("b@h", 1)
    connect(a, b)
    return a, b


def knowing(
    pair: tuple[RegistryBench, RegistryBench], *names: str
) -> tuple[RegistryBench, RegistryBench]:
    """The two, once the first has registered ``names`` for its process 1, and told."""
    a, b = pair
    for name in names:
        a.register(name, 1)
        b.take(a.told[-1])
    return a, b


@pytest.mark.parametrize("name", NAMES, ids=repr)
def test_any_key_term_names_a_service_here_and_elsewhere(
    pair: tuple[RegistryBench, RegistryBench], name: object
) -> None:
    """Tuples too, which the peers of others refuse (REG-01, REG-05, REG-09)."""
    a, b = pair
    assert a.register(name, 1, role="x") == [ServiceRegistered(name, "a@h")]
    entry = ServiceEntry(name, a.pid(1), "a@h", {"role": "x"})
    assert a.machine.whereis(name) == entry
    assert b.take(a.told[-1]) == [ServiceRegistered(name, "a@h")]
    assert b.machine.lookup(name) == [entry]
    assert b.machine.whereis(name) == entry
    assert b.machine.own(name) is None


@pytest.mark.parametrize("name", [1.5, True, None, [1], "x" * 2_000])
def test_what_is_no_key_term_names_none(me: RegistryBench, name: object) -> None:
    with pytest.raises((NotEncodable, InvalidValue)):
        me.register(name, 1)
    assert me.told == []
    assert me.watched == {}


def test_equal_in_python_is_not_the_same_name(me: RegistryBench) -> None:
    me.register(1, 1)
    with pytest.raises(NotEncodable):
        me.machine.lookup(1.0)
    with pytest.raises(NotEncodable):
        me.machine.whereis(True)


def test_a_name_has_one_process_a_node(me: RegistryBench) -> None:
    """REG-03, FAI-17: the second one is told who is there."""
    me.register("cart", 1)
    with pytest.raises(AlreadyRegistered, match="id=1") as caught:
        me.register("cart", 2)
    assert caught.value.code == "already_registered"
    assert len(me.told) == 1
    assert list(me.watched) == [me.pid(1)]


def test_the_same_process_refreshes_its_metadata(
    pair: tuple[RegistryBench, RegistryBench],
) -> None:
    """No event: the service is where it was. The original refuses even this."""
    a, b = pair
    a.register("cart", 1, load=1)
    b.take(a.told[-1])
    assert a.register("cart", 1, load=2) == []
    assert b.take(a.told[-1]) == []
    assert [entry.meta for entry in b.machine.lookup("cart")] == [{"load": 2}]
    assert a.register("cart", 1, load=2) == []
    assert len(a.told) == 2
    assert list(a.watched) == [a.pid(1)]


def test_metadata_is_copied_and_bounded(me: RegistryBench) -> None:
    inner = [1]
    me.register("cart", 1, tags=inner)
    inner.append(2)
    assert me.machine.lookup("cart")[0].meta == {"tags": [1]}
    with pytest.raises(InvalidValue, match=f"META_BYTES_MAX={META_BYTES_MAX}"):
        me.register("big", 1, text="x" * META_BYTES_MAX)
    with pytest.raises(NotEncodable):
        me.register("odd", 1, value=object())
    with pytest.raises(InvalidValue, match="mapping"):
        me.feed(Register("odd", me.pid(1), [1]))  # type: ignore[arg-type]
    assert me.names() == ["cart"]


def test_unregistering_hides_it_everywhere_and_is_told_once(
    pair: tuple[RegistryBench, RegistryBench],
) -> None:
    """REG-04, REG-07."""
    a, b = knowing(pair, "cart", "user")
    assert b.names() == ["cart", "user"]
    assert a.unregister("cart") == [ServiceUnregistered("cart", "a@h")]
    assert b.take(a.told[-1]) == [ServiceUnregistered("cart", "a@h")]
    assert b.take(a.told[-1]) == []
    assert a.unregister("cart") == []
    assert a.names() == b.names() == ["user"]
    assert list(a.watched) == [a.pid(1)]
    a.unregister("user")
    assert a.watched == {}


def test_an_end_carries_its_reason_to_every_node(
    pair: tuple[RegistryBench, RegistryBench],
) -> None:
    """Where the original tells other nodes of an unregistration (FAI-14)."""
    a, b = knowing(pair, "cart", "user")
    reason = ("error", "ValueError", "no")
    downs = [ServiceDown("cart", "a@h", reason), ServiceDown("user", "a@h", reason)]
    assert a.down(1, reason) == downs
    assert b.take(a.told[2]) + b.take(a.told[3]) == downs
    assert a.names() == b.names() == []
    assert a.down(1, reason) == []


def test_a_reason_is_buried_after_a_while_without_a_word(
    pair: tuple[RegistryBench, RegistryBench],
) -> None:
    a, b = pair
    a.register("cart", 1)
    a.down(1, "crash")
    for delta in a.told:
        b.take(delta)
    events = len(b.events)
    a.wait(GRAVE_MS + 20_000)
    assert a.machine.entries.is_empty()
    b.take(a.told[-1])
    assert b.machine.entries.is_empty()
    assert len(b.events) == events
    assert len(b.machine.index) == 0


def test_a_name_that_is_taken_again_is_not_buried(me: RegistryBench) -> None:
    me.register("cart", 1)
    me.down(1, "crash")
    me.register("cart", 2)
    me.wait(2 * GRAVE_MS)
    assert me.machine.own("cart") is not None
    assert me.machine.entries.get(("cart", "me@h")) == (5, me.pid(2), {})


def test_reasons_that_are_kept_are_bounded(me: RegistryBench) -> None:
    for number in range(GRAVES_MAX + 100):
        me.register(f"s{number}", number)
        me.down(number, "crash")
    assert len(me.machine.entries) == GRAVES_MAX


def test_a_stale_delta_says_nothing(pair: tuple[RegistryBench, RegistryBench]) -> None:
    """Late, twice, or in the wrong order: events tell real changes only."""
    a, b = pair
    a.register("cart", 1)
    a.unregister("cart")
    a.register("cart", 2)
    assert b.take(a.told[2]) == [ServiceRegistered("cart", "a@h")]
    assert b.take(a.told[0]) == []
    assert b.take(a.told[1]) == []
    assert b.machine.lookup("cart")[0].pid == a.pid(2)


def test_another_process_under_the_name_is_an_end_and_a_beginning(
    pair: tuple[RegistryBench, RegistryBench],
) -> None:
    a, b = knowing(pair, "cart")
    a.unregister("cart")
    a.register("cart", 2)
    assert b.take(a.told[2]) == [
        ServiceUnregistered("cart", "a@h"),
        ServiceRegistered("cart", "a@h"),
    ]


def test_a_full_sync_tells_what_it_changed(
    pair: tuple[RegistryBench, RegistryBench],
) -> None:
    """Removals included, where the original is silent (E12)."""
    a, b = pair
    a.register("cart", 1)
    a.register("user", 2)
    assert sorted(map(repr, b.take_all(a))) == [
        repr(ServiceRegistered("cart", "a@h")),
        repr(ServiceRegistered("user", "a@h")),
    ]
    a.unregister("cart")
    a.down(2, "crash")
    assert sorted(map(repr, b.take_all(a))) == [
        repr(ServiceDown("user", "a@h", "crash")),
        repr(ServiceUnregistered("cart", "a@h")),
    ]
    assert b.take_all(a) == []


def test_whereis_prefers_this_node_then_picks_at_random() -> None:
    """(c) 24: any live instance, not the first of the map."""
    nodes = [RegistryBench(f"n{i}@h", 1, seed=i) for i in range(4)]
    connect(*nodes)
    for node in nodes[1:]:
        node.register("cart", 1)
        for other in nodes:
            if other is not node:
                other.take(node.told[-1])
    found = Counter(nodes[0].machine.whereis("cart").node for _ in range(300))  # type: ignore[union-attr]
    assert set(found) == {"n1@h", "n2@h", "n3@h"}
    assert min(found.values()) > 60
    assert {nodes[2].machine.whereis("cart").node for _ in range(50)} == {"n2@h"}  # type: ignore[union-attr]
    assert nodes[2].nodes_of("cart")[0] == "n2@h"
    nodes[0].dead("n1@h")
    assert {nodes[0].machine.whereis("cart").node for _ in range(50)} == {  # type: ignore[union-attr]
        "n2@h",
        "n3@h",
    }


def test_the_dead_are_hidden_and_come_back_without_registering(
    pair: tuple[RegistryBench, RegistryBench],
) -> None:
    """A local rule, no tombstone: nothing is written, nothing is lost ((c) 4)."""
    _, b = knowing(pair, "cart")
    assert b.dead("a@h") == [ServiceDown("cart", "a@h", "nodedown")]
    assert b.names() == []
    assert b.told == []
    assert b.up("a@h") == [ServiceRegistered("cart", "a@h")]
    assert b.dead("a@h", why="left") == [ServiceDown("cart", "a@h", "left")]
    b.wait(5 * HIDDEN_MS)
    assert b.up("a@h") == [ServiceRegistered("cart", "a@h")]


def test_the_gone_are_dropped_and_not_taken_again_until_they_are_back(
    pair: tuple[RegistryBench, RegistryBench],
) -> None:
    a, b = knowing(pair, "cart")
    b.dead("a@h")
    assert b.gone("a@h") == []
    assert b.machine.entries.snapshot() == {}
    # A third node that has not dropped it yet compares its map with ours.
    assert b.take_all(a) == []
    assert b.machine.entries.snapshot() == {}
    assert b.store.refused == {Refusal.AUTHOR: 1}
    b.up("a@h")
    b.wait(1_000)
    assert b.catch_ups == 1
    assert b.take_all(a) == [ServiceRegistered("cart", "a@h")]


def test_what_was_changed_while_its_node_was_hidden_is_told_when_it_is_back(
    pair: tuple[RegistryBench, RegistryBench],
) -> None:
    a, b = knowing(pair, "cart")
    b.dead("a@h")
    a.unregister("cart")
    a.register("user", 2)
    assert b.take(a.told[1]) + b.take(a.told[2]) == []
    assert b.up("a@h") == [ServiceRegistered("user", "a@h")]


def test_services_of_a_stranger_wait_for_it_to_be_a_member() -> None:
    a, b = RegistryBench("a@h", 1), RegistryBench("b@h", 1)
    a.register("cart", 1)
    assert b.take(a.told[-1]) == []
    assert b.names() == []
    assert b.up("a@h") == [ServiceRegistered("cart", "a@h")]


def test_services_of_one_who_never_comes_are_dropped() -> None:
    a, b = RegistryBench("a@h", 1), RegistryBench("b@h", 1)
    a.register("cart", 1)
    b.take(a.told[-1])
    b.wait(HIDDEN_MS + 20_000)
    assert b.machine.entries.snapshot() == {}
    assert b.take_all(a) == []
    assert len(b.machine.index) == 0


def test_a_new_life_owes_nothing_to_the_old_one(
    pair: tuple[RegistryBench, RegistryBench],
) -> None:
    a, b = knowing(pair, "cart", "user")
    again = RegistryBench("a@h", 2)
    again.wall = a.wall + 1_000
    again.register("cart", 9)
    assert b.dead("a@h", 1, "restarted") == [
        ServiceDown("cart", "a@h", "nodedown"),
        ServiceDown("user", "a@h", "nodedown"),
    ]
    b.gone("a@h", 1)
    # Its services may be here before its lease, and need not be asked for again.
    assert b.take(again.told[-1]) == []
    assert b.up("a@h", 2) == [ServiceRegistered("cart", "a@h")]
    b.wait(1_000)
    assert b.catch_ups == 0
    # An old entry of a third node's map is no news of the new life.
    assert b.take_all(a) == []
    assert b.names() == ["cart"]
    assert len(b.machine.index) == len(b.machine.entries) == 1


def test_services_of_a_life_that_is_not_here_yet_wait_for_it(
    pair: tuple[RegistryBench, RegistryBench],
) -> None:
    """Gossip may bring them before the lease, and the old life's end after them."""
    _, b = pair
    again = RegistryBench("a@h", 2)
    again.register("cart", 9)
    assert b.take(again.told[-1]) == []
    assert b.dead("a@h", 1) == []
    assert b.up("a@h", 1) == []
    assert b.dead("a@h", 1, "restarted") == []
    assert b.gone("a@h", 1) == []
    assert b.up("a@h", 2) == [ServiceRegistered("cart", "a@h")]


def test_a_node_takes_its_old_life_s_services_back(me: RegistryBench) -> None:
    """Ghosts that the others still hold are overwritten when it hears of them."""
    before = RegistryBench("me@h", 4)
    before.register("ghost", 1)
    before.register("cart", 1)
    me.wall += 1_000
    me.register("cart", 2)
    told = len(me.told)
    assert me.take_all(before) == []
    other = RegistryBench("b@h", 1)
    other.up("me@h", 5)
    other.take_all(before)
    for delta in me.told[:told] + me.told[told:]:
        other.take(delta)
    assert other.names() == ["cart"]
    assert other.machine.lookup("cart")[0].pid == me.pid(2)
    assert me.machine.stats.reasserted == 1


def test_nobody_writes_for_this_node(me: RegistryBench) -> None:
    """A forgery under its own name is overwritten, one by another is refused (17)."""
    me.register("cart", 1)
    thief = Pid("evil@h", 1, 1)
    forged = OrMap("me@h", me.machine.entries.clock)
    delta = forged.add(("cart", "me@h"), (5, thief, {}))
    assert me.take(delta) == []
    assert me.machine.own("cart").pid == me.pid(1)  # type: ignore[union-attr]
    [entry] = me.told[-1].values()
    assert entry.value == (5, me.pid(1), {})
    assert entry.beats(next(iter(delta.values())))
    foreign = OrMap("evil@h", me.machine.entries.clock)
    me.take(foreign.remove(("cart", "me@h")))
    me.take(foreign.add(("user", "me@h"), (5, thief, {})))
    assert me.store.refused == {Refusal.AUTHOR: 2}
    assert len(me.told) == 2


def test_two_nodes_of_one_name_do_not_quarrel_faster_than_once_a_second() -> None:
    one, two = RegistryBench("me@h", 5, 1), RegistryBench("me@h", 5, 2)
    one.register("cart", 1)
    two.register("cart", 2)
    seen = [0, 0]
    for _ in range(300):
        for i, (x, y) in enumerate(((one, two), (two, one))):
            for delta in x.told[seen[i] :]:
                y.take(delta)
            seen[i] = len(x.told)
        one.wait(10)
        two.wait(10)
    assert len(one.told) + len(two.told) <= 2 * (2 + 3)


def test_no_tombstones_pile_up(me: RegistryBench) -> None:
    """(c) 16: names that come and go leave no more than a bound behind."""
    for number in range(3 * TOMBSTONES_MAX):
        me.register(f"s{number}", 1)
        me.unregister(f"s{number}")
    assert me.machine.entries.tombstones <= TOMBSTONES_MAX
    assert len(me.machine.entries) == 0
    assert len(me.machine.index) == 0


def test_a_forgotten_tombstone_resurrects_nothing_for_long(
    pair: tuple[RegistryBench, RegistryBench],
) -> None:
    """The echo of a removed name reaches its owner, who removes it again."""
    a, b = knowing(pair, "cart")
    a.unregister("cart")  # Which b does not hear.
    a.machine.entries.gc_tombstones(a.wall + 1_000)
    a.take_all(b)
    assert b.take(a.told[-1]) == [ServiceUnregistered("cart", "a@h")]
    assert b.names() == a.names() == []
