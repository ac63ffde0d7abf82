"""Simulated channels behave like the carrier's: see ``carrier/channels.py``."""

from __future__ import annotations

from barrel_p2p.core.effects import CancelTimer, Dial, HangUp, Persist, Send, SetTimer
from barrel_p2p.core.inputs import (
    DialFailed,
    Dialled,
    Persisted,
    Received,
    TimerFired,
)
from barrel_p2p.core.peers import NodeDown, NodeUp
from barrel_p2p.testing.overlay.faults import Detection, Faults
from barrel_p2p.testing.overlay.world import World
from tests.sim.recorders import Do, Ping, machine_of, recorders

A, B = "n00000@sim", "n00001@sim"


def order(world: World, index: int, *effects: object) -> None:
    world.nodes[index].rooms[0].feed(Do(effects))  # type: ignore[arg-type]


def told(world: World, index: int) -> list[object]:
    return machine_of(world, index).events()


def linked(detection: Detection | None = None) -> World:
    """Two nodes with a channel, whose recorders are empty."""
    world = recorders(2, detection=detection)
    order(world, 0, Dial(B, None, 1))
    world.run_for(100)
    for index in (0, 1):
        machine_of(world, index).told.clear()
    return world


def test_both_ends_are_told_of_a_channel_before_its_dial_is_done() -> None:
    world = recorders(2)
    order(world, 0, Dial(B, ("10.0.0.1", 9100), 7))
    world.run_for(1_000)
    assert told(world, 0) == [NodeUp(B), Dialled(B, 7)]
    assert told(world, 1) == [NodeUp(A)]


def test_crossed_dials_end_in_one_channel_of_which_each_is_told_once() -> None:
    world = recorders(2)
    order(world, 0, Dial(B, None, 1))
    order(world, 1, Dial(A, None, 2))
    world.run_for(1_000)
    assert told(world, 0) == [NodeUp(B), Dialled(B, 1)]
    assert told(world, 1) == [NodeUp(A), Dialled(A, 2)]


def test_a_dial_to_where_a_channel_is_answers_without_a_second_one() -> None:
    world = linked()
    order(world, 1, Dial(A, None, 5))
    world.run_for(1_000)
    assert told(world, 1) == [Dialled(A, 5)]
    assert told(world, 0) == []


def test_all_who_wait_for_a_node_share_one_dial() -> None:
    world = recorders(2)
    order(world, 0, Dial(B, None, 1), Dial(B, None, 2))
    world.run_for(1_000)
    assert told(world, 0) == [NodeUp(B), Dialled(B, 1), Dialled(B, 2)]


def test_messages_arrive_in_order_after_the_latency_of_their_link() -> None:
    world = linked()
    order(world, 0, Send(B, Ping(1)), Send(B, Ping(2)))
    world.run_for(9)
    assert told(world, 1) == []
    world.run_for(1)
    assert told(world, 1) == [Received(A, Ping(1)), Received(A, Ping(2))]


def test_a_message_without_a_channel_is_lost_and_counted() -> None:
    world = recorders(2)
    order(world, 0, Send(B, Ping(1)))
    world.run_for(1_000)
    assert told(world, 1) == []
    assert world.nodes[0].rooms[0].unsent == 1


def test_a_dial_fails_at_once_where_a_process_died_and_late_where_a_host_did() -> None:
    world = recorders(3)
    world.crash([1])
    world.crash([2], is_silent=True)
    order(world, 0, Dial(B, None, 1), Dial("n00002@sim", None, 2))
    order(world, 0, Dial("nobody@sim", None, 3))
    world.run_for(100)
    assert told(world, 0) == [
        DialFailed("nobody@sim", 3, "not_found"),
        DialFailed(B, 1, "unreachable"),
    ]
    world.run_for(10_000)
    assert told(world, 0)[2:] == [DialFailed("n00002@sim", 2, "timeout")]


def test_hanging_up_is_known_here_at_once_and_there_behind_what_was_sent() -> None:
    world = linked()
    order(world, 0, Send(B, Ping(1)), HangUp(B, "disconnect"), Send(B, Ping(2)))
    assert told(world, 0) == [NodeDown(B, "disconnect")]
    world.run_for(1_000)
    assert told(world, 1) == [Received(A, Ping(1)), NodeDown(A, "disconnect")]


def test_a_dead_process_is_noticed_with_the_next_message() -> None:
    world = linked(Detection(keep_alive_ms=0))
    world.crash([1])
    world.run_for(60_000)
    assert told(world, 0) == []
    order(world, 0, Send(B, Ping(1)))
    world.run_for(20)
    assert told(world, 0) == [NodeDown(B, "unreachable")]


def test_a_dead_process_is_noticed_with_the_next_keep_alive() -> None:
    world = linked()
    world.crash([1])
    world.run_for(1_667 + 20)
    assert told(world, 0) == [NodeDown(B, "unreachable")]


def test_a_dead_host_is_noticed_after_the_idle_timeout_and_not_before() -> None:
    world = linked()
    world.crash([1], is_silent=True)
    order(world, 0, Send(B, Ping(1)))
    world.run_for(5_000 - 1_667 - 1)
    assert told(world, 0) == []
    world.run_for(1_668)
    assert told(world, 0) == [NodeDown(B, "idle_timeout")]


def test_what_was_sent_into_a_short_cut_arrives_after_it_and_nobody_is_down() -> None:
    world = linked()
    world.cut(0, 1)
    order(world, 0, Send(B, Ping(1)))
    order(world, 1, Send(A, Ping(2)))
    world.run_for(2_000)
    assert told(world, 0) == told(world, 1) == []
    world.mend(0, 1)
    world.run_for(10_000)
    assert told(world, 0) == [Received(B, Ping(2))]
    assert told(world, 1) == [Received(A, Ping(1))]


def test_a_long_cut_ends_the_channel_on_both_sides() -> None:
    world = linked()
    world.split([[0], [1]])
    order(world, 0, Send(B, Ping(1)))
    world.run_for(5_000)
    world.heal()
    world.run_for(5_000)
    assert told(world, 0) == [NodeDown(B, "idle_timeout")]
    assert told(world, 1) == [NodeDown(A, "idle_timeout")]


def test_of_a_one_way_cut_the_deaf_side_knows_first_and_still_is_heard() -> None:
    world = linked()
    world.cut(0, 1, both_ways=False)
    world.run_for(1_000)
    order(world, 1, Send(A, Ping(1)))
    world.run_for(4_000)
    assert told(world, 1) == [NodeDown(A, "idle_timeout")]
    assert told(world, 0) == [Received(B, Ping(1))]
    world.run_for(10_000)
    assert told(world, 0) == [Received(B, Ping(1)), NodeDown(B, "idle_timeout")]


def test_nobody_can_dial_across_a_cut_not_even_one_way() -> None:
    world = recorders(2)
    world.cut(1, 0, both_ways=False)
    order(world, 0, Dial(B, None, 1))
    world.run_for(10_000)
    assert told(world, 0) == [DialFailed(B, 1, "timeout")]
    assert told(world, 1) == []


def test_a_node_that_comes_back_takes_the_place_of_its_old_channel() -> None:
    world = linked(Detection(keep_alive_ms=0))
    world.crash([1])
    world.start(1)
    order(world, 1, Dial(A, None, 1))
    world.run_for(1_000)
    assert told(world, 0) == [NodeDown(B, "superseded"), NodeUp(B)]
    order(world, 1, Send(A, Ping(1)))
    world.run_for(1_000)
    assert told(world, 0)[2:] == [Received(B, Ping(1))]


def test_a_crash_forgets_timers_and_dials_but_not_the_disk() -> None:
    world = recorders(2)
    order(world, 0, SetTimer("t", 50), Dial(B, None, 1), Persist("k", 5))
    world.crash([0])
    world.start(0)
    world.run_for(20_000)
    assert told(world, 0) == []
    assert told(world, 1) == []
    assert world.nodes[0].disk == {"k": 5}


def test_a_timer_is_told_once_and_replaced_and_cancelled() -> None:
    world = recorders(1)
    order(world, 0, SetTimer("a", 50), SetTimer("b", 10), SetTimer("c", 20))
    order(world, 0, SetTimer("a", 30), CancelTimer("b"), Persist("k", 1))
    world.run_for(1_000)
    assert told(world, 0) == [Persisted("k"), TimerFired("c"), TimerFired("a")]


def test_a_paused_node_gets_everything_when_it_runs_on() -> None:
    world = linked()
    order(world, 1, SetTimer("t", 100))
    world.pause(1)
    order(world, 0, Send(B, Ping(1)))
    world.run_for(3_000)
    assert told(world, 1) == []
    world.resume(1)
    assert told(world, 1) == [Received(A, Ping(1)), TimerFired("t")]
    world.run_for(10_000)
    assert told(world, 0) == []


def test_a_long_pause_costs_the_channels() -> None:
    world = linked()
    world.pause(1)
    world.run_for(6_000)
    assert told(world, 0) == [NodeDown(B, "idle_timeout")]
    world.resume(1)
    world.run_for(1_000)
    assert told(world, 1) == [NodeDown(A, "idle_timeout")]


def test_a_wall_clock_is_stepped_without_the_monotonic_one() -> None:
    world = recorders(1)
    node = world.nodes[0]
    wall_ms, now_ms = node.wall_ms(), node.now_ms()
    world.step_clock(0, -120_000)
    world.run_for(10)
    assert (node.wall_ms(), node.now_ms()) == (wall_ms - 120_000 + 10, now_ms + 10)


def test_repaired_loss_delays_and_never_loses_nor_overtakes() -> None:
    world = linked()
    world.set_faults(Faults(loss=0.5, jitter_ms=30))
    order(world, 0, *(Send(B, Ping(number)) for number in range(100)))
    world.run_for(5_000)
    assert told(world, 1) == [Received(A, Ping(number)) for number in range(100)]


def test_loss_duplication_and_reordering_show_where_nothing_is_repaired() -> None:
    world = linked()
    world.set_faults(
        Faults(loss=0.2, duplicate=0.2, reorder=0.2, hold_ms=20, repaired=False)
    )
    for number in range(200):
        order(world, 0, Send(B, Ping(number)))
        world.run_for(1)
    world.run_for(5_000)
    numbers = [event.message.number for event in told(world, 1)]  # type: ignore[attr-defined]
    assert 120 < len(set(numbers)) < 200
    assert len(set(numbers)) < len(numbers)
    assert numbers != sorted(numbers)


def test_a_swizzle_cuts_everybody_off_and_mends_everything() -> None:
    world = recorders(5)
    for index in range(4):
        order(
            world,
            index,
            *(Dial(f"n{other:05}@sim", None, 1) for other in range(index + 1, 5)),
        )
    world.run_for(1_000)
    assert all(len(node.ends) == 4 for node in world.nodes)
    world.swizzle(range(5), over_ms=10_000)
    world.run_for(10_000 - 1)
    assert all(
        world.links.is_cut(a, b) for a in world.nodes for b in world.nodes if a is not b
    )
    world.run_for(10_000)
    assert not any(world.links.is_cut(a, b) for a in world.nodes for b in world.nodes)
    assert all(len(node.ends) < 4 for node in world.nodes)
