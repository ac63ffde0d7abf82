"""The machine of links and monitors, one event at a time."""

from __future__ import annotations

from barrel_p2p.core.events import Down
from barrel_p2p.core.terms import Pid
from barrel_p2p.runtime import messages
from barrel_p2p.runtime.monitors import number_of, ref_of
from barrel_p2p.runtime.signals import Signals
from barrel_p2p.runtime.tie_events import (
    ChannelUp,
    Dial,
    Ended,
    Event,
    LinkAsked,
    MonitorAsked,
    NodeLost,
    Received,
    SendTie,
    Signal,
    TellDown,
    UnlinkAsked,
)

HERE, PEER = "a@h", "b@h"
ME = Pid(HERE, 1, 1)
FAR = Pid(PEER, 7, 3)


def machine(**limits: int) -> Signals:
    return Signals(
        HERE,
        1,
        alive=lambda process: process < 100,
        named=lambda key: None,
        **limits,
    )


def run(signals: Signals, event: Event) -> list[object]:
    return list(signals.handle(event, now_ms=0))


def test_a_link_waits_for_its_channel_and_is_sent_once() -> None:
    signals = machine()
    assert run(signals, LinkAsked(1, FAR, None)) == [Dial(PEER)]
    assert run(signals, LinkAsked(1, FAR, None)) == []
    sent = SendTie(PEER, messages.LinkFrame(ME, FAR, 1))
    assert run(signals, ChannelUp(PEER, 3)) == [sent]
    assert run(signals, ChannelUp(PEER, 3)) == []
    assert run(signals, LinkAsked(1, FAR, 3)) == []


def test_a_link_that_was_undone_while_it_waited_is_never_sent() -> None:
    signals = machine()
    run(signals, LinkAsked(1, FAR, None))
    assert run(signals, UnlinkAsked(1, FAR)) == []
    assert run(signals, ChannelUp(PEER, 3)) == []
    assert run(signals, NodeLost(PEER)) == []


def test_unlink_names_the_tags_it_knew_and_leaves_later_ones() -> None:
    signals = machine()
    run(signals, LinkAsked(1, FAR, 3))
    run(signals, Received(messages.LinkFrame(FAR, ME, 9)))
    undone = SendTie(PEER, messages.UnlinkFrame(ME, FAR, 1, 9))
    assert run(signals, UnlinkAsked(1, FAR)) == [undone]
    run(signals, LinkAsked(1, FAR, 3))  # Its tag is 2: the peer's word is about 1.
    assert run(signals, Received(messages.UnlinkFrame(FAR, ME, 9, 1))) == []
    assert signals.links.of(1) == [FAR]
    assert run(signals, Received(messages.UnlinkFrame(FAR, ME, 0, 2))) == []
    assert signals.links.of(1) == []


def test_a_process_with_too_many_ties_is_told_system_limit() -> None:
    signals = machine(links_per_process_max=1, monitors_per_process_max=1)
    two, three = Pid(HERE, 2, 1), Pid(HERE, 3, 1)
    assert run(signals, LinkAsked(1, two, None)) == []
    for to, creation in ((three, None), (FAR, 3)):
        assert run(signals, LinkAsked(1, to, creation)) == [
            Signal(1, to, "system_limit", True)
        ]
    assert run(signals, LinkAsked(3, two, None)) == [
        Signal(3, two, "system_limit", True)
    ]
    assert run(signals, MonitorAsked(1, 5, two, b"", None)) == []
    assert run(signals, MonitorAsked(1, 6, FAR, b"", 3)) == [
        TellDown(1, Down(ref_of(ME, 6), FAR, "system_limit"))
    ]
    assert (len(signals.links), len(signals.monitors)) == (2, 1)


def test_a_process_tied_to_itself_ends_without_a_word() -> None:
    signals = machine()
    assert run(signals, LinkAsked(1, ME, None)) == []
    assert run(signals, MonitorAsked(1, 5, ME, b"", None)) == []
    assert run(signals, Ended(1, "done")) == []
    assert (len(signals.links), len(signals.monitors)) == (0, 0)


def test_a_reference_of_another_life_has_no_number_here() -> None:
    assert number_of(ME, ref_of(ME, 2**64 - 1)) == 2**64 - 1
    assert number_of(ME, ref_of(Pid(HERE, 0, 2), 5)) is None
    assert number_of(ME, ref_of(FAR, 5)) is None


def test_a_reason_too_long_to_travel_becomes_a_short_text() -> None:
    assert messages.reason_term("x" * 60_000) == "x" * 60_000
    short = messages.reason_term("x" * messages.REASON_BYTES_MAX)
    assert isinstance(short, str)
    assert short == "'" + "x" * 1_023
    assert messages.reason_term({"a": [1]}) == {"a": [1]}
