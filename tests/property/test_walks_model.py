"""Walks go where those of the model go, and find back as they do."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.core.effects import Effect, Send
from barrel_p2p.core.names import Address
from barrel_p2p.core.rng import SeededRng
from barrel_p2p.membership.messages import REQUEST_ID_MAX, Shuffle, ShuffleReply
from barrel_p2p.membership.walks import (
    RELAYS_MAX,
    WALKS_MAX,
    WALKS_WINDOW_MS,
    ActivePeer,
    Walks,
)
from tests.models.walks import WalksModel

NAMES = ["me@h", "a@h", "b@h", "c@h", "d@h"]
NAME = st.sampled_from(NAMES)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("walk"), NAME, NAME, st.integers(0, 9)),
        st.tuples(st.just("walk"), NAME, NAME, st.integers(0, 9)),
        st.tuples(st.just("reply"), NAME, st.integers(0, 12), st.booleans()),
        st.tuples(st.sampled_from(["up", "down", "may_walk"]), NAME),
    ),
    max_size=80,
)
PEERS = (Address("x@h", "h", 1),)


class _Both:
    """Walks and their model, each with its peers and chance of the same seed."""

    def __init__(self, last_id: int = REQUEST_ID_MAX - 5) -> None:
        self.peers: list[dict[str, ActivePeer]] = [{}, {}]
        self.walks = [
            cls("me@h", active, SeededRng(3), 6, last_id)
            for cls, active in zip((Walks, WalksModel), self.peers, strict=True)
        ]
        self.sent: list[Send] = []
        self.now_ms = 0

    def agree_on(self, what: str, *values: object, sends: bool = False) -> Any:
        found = []
        for walks in self.walks:
            out: list[Effect] = []
            given_out = (out,) if sends else ()
            found.append((getattr(walks, what)(*values, *given_out), out))
        assert found[0] == found[1]
        self.sent += [effect for effect in found[0][1] if isinstance(effect, Send)]
        return found[0][0]

    def walk(self, peer: str, origin: str, ttl: int) -> int:
        message = Shuffle(7 + len(self.sent), ttl, Address(origin, "h", 1), PEERS)
        came_to: int = self.agree_on("pass_on", peer, message, self.now_ms, sends=True)
        return came_to

    def reply(self, peer: str, back: int, *, is_asked: bool) -> None:
        walks = [each for each in self.sent if isinstance(each.message, Shuffle)]
        if not walks:
            return
        sent = walks[-1 - back % len(walks)]
        assert isinstance(sent.message, Shuffle)
        answer = ShuffleReply(sent.message.request_id, PEERS)
        self.agree_on("hand_back", sent.to if is_asked else peer, answer, sends=True)

    def step(self, step: tuple[Any, ...]) -> None:
        match step:
            case "walk", peer, origin, ttl:
                self.walk(peer, origin, ttl)
            case "reply", peer, back, is_asked:
                self.reply(peer, back, is_asked=is_asked)
            case "up", name:
                for active in self.peers:
                    active[name] = ActivePeer(Address(name, "h", 1), self.now_ms)
            case "down", name:
                for active in self.peers:
                    active.pop(name, None)
            case what, name:
                self.agree_on(what, name, self.now_ms)


@given(STEPS, st.integers(0, 400))
def test_walks_agree_with_the_model(
    steps: list[tuple[Any, ...]], passed_ms: int
) -> None:
    both = _Both()
    for name in NAMES[1:4]:
        both.step(("up", name))
    for step in steps:
        both.step(step)
        both.now_ms += passed_ms
        both.agree_on("__len__")
    both.agree_on("next_id")


def test_of_too_many_walks_the_oldest_do_not_find_back() -> None:
    both = _Both(0)
    for name in NAMES[1:]:
        both.step(("up", name))
    for _ in range(RELAYS_MAX + 9):
        both.walk("a@h", "d@h", 3)
        both.now_ms += WALKS_WINDOW_MS
    assert both.agree_on("__len__") == RELAYS_MAX
    walks = list(both.sent)
    for back in range(len(walks)):
        both.reply("", back, is_asked=True)
    assert len(both.sent) - len(walks) == RELAYS_MAX
    assert both.agree_on("__len__") == 0


def test_a_peer_may_send_so_many_walks_in_a_window() -> None:
    both = _Both()
    both.step(("up", "a@h"))
    may = [both.agree_on("may_walk", "a@h", 5) for _ in range(WALKS_MAX + 2)]
    assert may == [True] * WALKS_MAX + [False] * 2
    assert both.agree_on("may_walk", "a@h", WALKS_WINDOW_MS)
