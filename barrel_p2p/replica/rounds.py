"""Sync rounds: two nodes compare digests and exchange the buckets in which they differ.

Whoever asks leads the round. The answerer sends its entries of the differing buckets
and then its digest; the leader, which has merged them by then, sends its own of the
buckets that still differ. Entries are merged as they come, so that a round holds no
memory that grows with the store, on either side.

A round that loses a frame converges less and harms nothing: digests are compared anew
in the next.

Bounded by ``ROUNDS_PER_PEER_MAX``, ``ROUNDS_PER_REPLICA_MAX``, ``ROUND_CHUNKS_MAX`` and
``RATED_MAX``, and in time by ``ROUND_IDLE_MS``.

Source: docs/reference/wire.md, "Replicas".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, final

from barrel_p2p.core.effects import CancelTimer, Effect, HangUp, Publish, Send, SetTimer
from barrel_p2p.core.ormap import Delta
from barrel_p2p.core.rng import Rng
from barrel_p2p.errors import WireError
from barrel_p2p.replica.limits import (
    CHUNK_BYTES_MAX,
    ROUND_CHUNKS_MAX,
    ROUND_IDLE_MS,
    ROUNDS_PER_PEER_MAX,
    ROUNDS_PER_REPLICA_MAX,
    SYNC_RETRIES_MAX,
    SYNC_RETRY_MS,
)
from barrel_p2p.replica.messages import (
    DIGEST_BYTES,
    Status,
    SyncChunk,
    SyncDone,
    SyncRequest,
)
from barrel_p2p.replica.pieces import Pieces, StoreReader, differing
from barrel_p2p.replica.rates import Rates
from barrel_p2p.replica.transfers import PUMP, Transfer, Transfers
from barrel_p2p.wire.crdt_ingest import decode_delta

__all__ = ["MergeSnapshot", "RoundStats", "Rounds", "Synced"]

_ASKED: Final = "asked"
_ANSWER: Final = "answer"
_AGAIN: Final = "again"
_WHOLE: Final = "whole"


@final
@dataclass(frozen=True, slots=True)
class MergeSnapshot:
    """Ordered: merge ``entries``, part of what ``peer`` holds of ``replica``."""

    replica: str
    entries: Delta
    peer: str


@final
@dataclass(frozen=True, slots=True)
class Synced:
    """Told: a round is over; what either had at its beginning, both now have."""

    replica: str
    peer: str


@dataclass(slots=True)
class RoundStats:
    """What happened in rounds, in numbers that only grow."""

    asked: int = 0
    answered: int = 0
    completed: int = 0
    timed_out: int = 0
    refused: int = 0
    unknown: int = 0
    strayed: int = 0
    chunks_sent: int = 0
    chunks_held: int = 0
    chunks_received: int = 0
    entries_refused: int = 0
    unsendable: int = 0


@final
@dataclass(slots=True)
class _Round:
    """A round as its receiver has it; frames may come in any order, or not."""

    number: int
    chunks: int = 0
    done: SyncDone | None = None  # It came before the last chunk.
    digest: bytes = b""  # What the leader has sent.
    crossed: bool = False  # The peer has asked meanwhile, and was told so.


@final
@dataclass(slots=True)
class _Peer:
    """Everything about one peer, by replica; it goes when the channel does."""

    wanted: dict[str, None] = field(default_factory=dict)
    asked: dict[str, _Round] = field(default_factory=dict)
    answers: dict[str, _Round] = field(default_factory=dict)
    retries: dict[str, int] = field(default_factory=dict)

    def is_idle(self) -> bool:
        return not (self.wanted or self.asked or self.answers or self.retries)


@final
class Rounds:
    """The rounds of all replicas of a node, as leader and as answerer.

    Args:
        node: This node's name.
        rng: For delays, and for the number of the first round.
        stores: The replicas that run here; whoever owns the dict changes it.

    Attributes:
        stats: Counters.
    """

    def __init__(self, node: str, rng: Rng, stores: Mapping[str, StoreReader]) -> None:
        self.stats = RoundStats()
        self._node = node
        self._rng = rng
        self._stores = stores
        self._rates = Rates()
        self._transfers = Transfers()
        self._peers: dict[str, _Peer] = {}
        self._leading: dict[str, int] = {}  # replica -> rounds
        self._answering: dict[str, int] = {}  # the same
        self._round = rng.below(1 << 32)

    def is_busy(self, peer: str, replica: str) -> bool:
        """Whether a round about ``replica`` with ``peer`` is under way, or waits."""
        state = self._peers.get(peer)
        return state is not None and (
            replica in state.asked
            or replica in state.wanted
            or replica in state.answers
        )

    def open(self) -> int:
        """How many rounds are under way."""
        return sum(len(p.asked) + len(p.answers) for p in self._peers.values())

    def want(self, peer: str, replica: str, out: list[Effect]) -> None:
        """Lead a round with ``peer``, at once or when others are over."""
        state = self._peers.get(peer)
        if state is None:
            state = self._peers[peer] = _Peer()
        if replica not in state.asked and replica not in state.wanted:
            state.wanted[replica] = None
            self._ask_more(peer, state, out)

    def forget_peer(self, peer: str, out: list[Effect]) -> None:
        """End all rounds with ``peer``: its channel is gone."""
        self._transfers.drop_peer(peer, out)
        state = self._peers.pop(peer, None)
        if state is None:
            return
        out.extend(CancelTimer((_AGAIN, peer, name)) for name in state.retries)
        for name in list(state.answers):
            self._end_answer(peer, state, name, out)
        for name in list(state.asked):
            self._end_asked(peer, state, name, out)
        self._ask_everyone(out)

    def forget_replica(self, replica: str, out: list[Effect]) -> None:
        """End all rounds about ``replica``: it runs no more."""
        for peer, state in self._peers.items():
            state.wanted.pop(replica, None)
            self._forget_retries(peer, state, replica, out)
            if replica in state.answers:
                self._end_answer(peer, state, replica, out)
            if replica in state.asked:
                self._end_asked(peer, state, replica, out)
        self._ask_everyone(out)

    def receive(
        self, peer: str, message: object, now_ms: int, out: list[Effect]
    ) -> None:
        """Take a frame of ``peer``."""
        match message:
            case SyncRequest():
                self._answer(peer, message, now_ms, out)
            case SyncChunk():
                self._take_chunk(peer, message, out)
            case SyncDone():
                self._take_done(peer, message, now_ms, out)
            case _:
                raise TypeError(f"replicas do not know {message!r}")

    def fired(self, key: tuple[str, ...], now_ms: int, out: list[Effect]) -> bool:
        """Take a timer; returns whether it was one of rounds."""
        what, peer = key[0], key[1]
        if what == PUMP:
            for transfer in self._transfers.pump(peer, now_ms, out):
                self._transferred(peer, transfer, out)
            return True
        if what == _WHOLE:
            self._whole(peer, key[2], now_ms, out)
            return True
        if what not in (_ASKED, _ANSWER, _AGAIN):
            return False
        state = self._peers.get(peer)
        if state is None:
            return True
        replica = key[2]
        if what == _AGAIN:
            if replica in self._stores:
                self.want(peer, replica, out)
        elif self._transfers.has(peer, replica):
            out.append(SetTimer(key, ROUND_IDLE_MS))  # It is we who are slow.
        elif what == _ANSWER:
            self.stats.timed_out += 1
            self._end_answer(peer, state, replica, out)
            self._ask_everyone(out)
        else:
            self.stats.timed_out += 1
            self._end_asked(peer, state, replica, out)
            self._ask_again(peer, state, replica, out)
            self._ask_everyone(out)
        self._tidy(peer, state)
        return True

    def unsent(
        self, peer: str, message: object, now_ms: int, out: list[Effect]
    ) -> None:
        """The channel to ``peer`` had no room for ``message``."""
        if not isinstance(message, SyncRequest):
            # Of a refusal nothing is kept: who asked will ask again.
            if self._transfers.unsent(peer, message, now_ms, out):
                self.stats.chunks_held += 1
            return
        state = self._peers.get(peer)
        if state is not None and _same(state.asked, message.replica, message.round):
            self._end_asked(peer, state, message.replica, out)
            self._ask_again(peer, state, message.replica, out)
            self._ask_everyone(out)

    # As leader.

    def _ask_everyone(self, out: list[Effect]) -> None:
        for peer, state in list(self._peers.items()):
            self._ask_more(peer, state, out)
            self._tidy(peer, state)

    def _ask_more(self, peer: str, state: _Peer, out: list[Effect]) -> None:
        if not state.wanted:
            return
        for replica in list(state.wanted):
            if len(state.asked) >= ROUNDS_PER_PEER_MAX:
                return
            if self._leading.get(replica, 0) >= ROUNDS_PER_REPLICA_MAX:
                continue  # What those bring need not come twice.
            if replica in state.answers:
                continue
            del state.wanted[replica]
            store = self._stores.get(replica)
            digest = None if store is None else store.digest()
            if digest is None:
                continue
            self._round = (self._round + 1) & 0xFFFF_FFFF
            state.asked[replica] = _Round(self._round, digest=digest)
            self._leading[replica] = self._leading.get(replica, 0) + 1
            self.stats.asked += 1
            out.append(Send(peer, SyncRequest(replica, self._round, digest)))
            out.append(SetTimer((_ASKED, peer, replica), ROUND_IDLE_MS))

    def _end_asked(
        self, peer: str, state: _Peer, replica: str, out: list[Effect]
    ) -> None:
        del state.asked[replica]
        self._transfers.drop(peer, replica)
        _decrement(self._leading, replica)
        out.append(CancelTimer((_ASKED, peer, replica)))

    def _told(
        self, peer: str, state: _Peer, done: SyncDone, now_ms: int, out: list[Effect]
    ) -> None:
        replica = done.replica
        if done.status is Status.ANSWERED:
            store = self._stores[replica]
            ours = store.digest()
            if ours is not None:
                pieces = Pieces.of_buckets(
                    store, differing(ours, done.digest), CHUNK_BYTES_MAX
                )
                transfer = Transfer(
                    replica,
                    done.round,
                    pieces,
                    lambda n: SyncDone(replica, done.round, Status.OVER, n),
                )
                self._transfers.start(peer, transfer, now_ms, out)
                return
        half = state.asked[replica]
        self._end_asked(peer, state, replica, out)
        if done.status is Status.SAME:
            self._complete(peer, state, replica, out)
            if half.crossed and self._stores[replica].digest() != half.digest:
                # Written since, perhaps before the peer began to listen.
                state.wanted[replica] = None
        elif done.status is Status.BUSY:
            self._ask_again(peer, state, replica, out)
        else:
            self._forget_retries(peer, state, replica, out)
        self._ask_everyone(out)

    def _ask_again(
        self, peer: str, state: _Peer, replica: str, out: list[Effect]
    ) -> None:
        tried = state.retries.get(replica, 0)
        if tried >= SYNC_RETRIES_MAX:
            self._forget_retries(peer, state, replica, out)  # Left to anti-entropy.
            return
        state.retries[replica] = tried + 1
        delay_ms = SYNC_RETRY_MS + self._rng.jitter(SYNC_RETRY_MS)
        out.append(SetTimer((_AGAIN, peer, replica), delay_ms))

    def _forget_retries(
        self, peer: str, state: _Peer, replica: str, out: list[Effect]
    ) -> None:
        if state.retries.pop(replica, None) is not None:
            out.append(CancelTimer((_AGAIN, peer, replica)))

    # As answerer.

    def _answer(
        self, peer: str, request: SyncRequest, now_ms: int, out: list[Effect]
    ) -> None:
        replica, number = request.replica, request.round
        store = self._stores.get(replica)
        if store is None:
            self.stats.unknown += 1
            # All names that do not exist share one allowance.
            if self._rates.take(peer, "", now_ms):
                out.append(Send(peer, SyncDone(replica, number, Status.UNKNOWN)))
            return
        state = self._peers.get(peer)
        if state is None:
            state = self._peers[peer] = _Peer()
        if replica in state.answers:  # It has given that round up.
            self._end_answer(peer, state, replica, out)
        refusal = self._refusal(peer, state, replica, now_ms)
        ours = store.digest() if refusal is None else None
        if ours is None:
            self.stats.refused += 1
            refused = SyncDone(replica, number, refusal or Status.BUSY)
            out.append(Send(peer, refused))
            self._tidy(peer, state)
            return
        self.stats.answered += 1
        if replica in state.asked:  # We have the greater name: their round goes on.
            self._end_asked(peer, state, replica, out)
        state.wanted.pop(replica, None)
        buckets = differing(ours, request.digest)
        if buckets:
            state.answers[replica] = _Round(number)
            self._answering[replica] = self._answering.get(replica, 0) + 1
            pieces = Pieces.of_buckets(store, buckets, CHUNK_BYTES_MAX)
            transfer = Transfer(
                replica, number, pieces, lambda n: _answered(store, request, n)
            )
            out.append(SetTimer((_ANSWER, peer, replica), ROUND_IDLE_MS))
            self._transfers.start(peer, transfer, now_ms, out)
        else:
            out.append(Send(peer, SyncDone(replica, number, Status.SAME)))
            self._complete(peer, state, replica, out)
        self._ask_everyone(out)

    def _refusal(
        self, peer: str, state: _Peer, replica: str, now_ms: int
    ) -> Status | None:
        if replica in state.asked and self._node < peer:
            state.asked[replica].crossed = True
            return Status.CROSSED
        if not self._rates.take(peer, replica, now_ms):
            return Status.BUSY
        if len(state.answers) >= ROUNDS_PER_PEER_MAX:
            return Status.BUSY
        if self._answering.get(replica, 0) >= ROUNDS_PER_REPLICA_MAX:
            return Status.BUSY
        return None

    def _end_answer(
        self, peer: str, state: _Peer, replica: str, out: list[Effect]
    ) -> None:
        del state.answers[replica]
        self._transfers.drop(peer, replica)
        _decrement(self._answering, replica)
        out.append(CancelTimer((_ANSWER, peer, replica)))

    # As both.

    def _take_chunk(self, peer: str, chunk: SyncChunk, out: list[Effect]) -> None:
        state, replica = self._peers.get(peer), chunk.replica
        asked = answer = None
        if state is not None:
            asked = _same(state.asked, replica, chunk.round)
            answer = _same(state.answers, replica, chunk.round)
        half = asked or answer
        if half is None:
            self.stats.strayed += 1  # Nobody asked, so nobody reads it.
            return
        half.chunks += 1
        try:
            if half.chunks > ROUND_CHUNKS_MAX:
                raise WireError(f"more than {ROUND_CHUNKS_MAX} chunks in a round")
            accepted = decode_delta(chunk.entries)
        except WireError:
            out.append(HangUp(peer, "protocol_error"))
            return
        self.stats.chunks_received += 1
        self.stats.entries_refused += sum(accepted.refused.values())
        out.append(Publish(MergeSnapshot(replica, accepted.delta, peer)))
        timer = _ASKED if asked is not None else _ANSWER
        out.append(SetTimer((timer, peer, replica), ROUND_IDLE_MS))
        if half.done is not None and half.chunks >= half.done.chunks:
            # After the merge: what follows compares with what is here then.
            out.append(SetTimer((_WHOLE, peer, replica), 0))

    def _take_done(
        self, peer: str, done: SyncDone, now_ms: int, out: list[Effect]
    ) -> None:
        state, replica = self._peers.get(peer), done.replica
        asked = answer = None
        if state is not None:
            asked = _same(state.asked, replica, done.round)
            answer = _same(state.answers, replica, done.round)
        half = asked or answer
        if state is None or half is None:
            self.stats.strayed += 1
        elif half.chunks < done.chunks:
            half.done = done
        elif asked is None:
            self._end_answer(peer, state, replica, out)
            if done.status is Status.OVER:
                self._complete(peer, state, replica, out)
            self._ask_everyone(out)
        elif self._transfers.has(peer, replica):
            self.stats.strayed += 1  # Told twice.
        else:
            self._told(peer, state, done, now_ms, out)

    def _whole(self, peer: str, replica: str, now_ms: int, out: list[Effect]) -> None:
        state = self._peers.get(peer)
        if state is None:
            return
        for half in (state.asked.get(replica), state.answers.get(replica)):
            if half is not None and half.done is not None:
                done, half.done = half.done, None
                self._take_done(peer, done, now_ms, out)

    def _transferred(self, peer: str, transfer: Transfer, out: list[Effect]) -> None:
        self.stats.chunks_sent += transfer.chunks
        self.stats.unsendable += transfer.pieces.skipped
        state, replica = self._peers.get(peer), transfer.replica
        if state is None:
            return
        if _same(state.asked, replica, transfer.round):
            self._end_asked(peer, state, replica, out)
            if transfer.over:
                self._complete(peer, state, replica, out)
            self._ask_everyone(out)
        elif _same(state.answers, replica, transfer.round) and not transfer.over:
            self._end_answer(peer, state, replica, out)
            self._ask_everyone(out)

    def _complete(
        self, peer: str, state: _Peer, replica: str, out: list[Effect]
    ) -> None:
        self.stats.completed += 1
        self._forget_retries(peer, state, replica, out)
        out.append(Publish(Synced(replica, peer)))

    def _tidy(self, peer: str, state: _Peer) -> None:
        if state.is_idle() and self._peers.get(peer) is state:
            del self._peers[peer]


def _answered(store: StoreReader, request: SyncRequest, chunks: int) -> SyncDone:
    # Our digest as it is now: what was gossiped meanwhile need not come back.
    digest = store.digest() or bytes(DIGEST_BYTES)
    return SyncDone(request.replica, request.round, Status.ANSWERED, chunks, digest)


def _same(rounds: dict[str, _Round], replica: str, number: int) -> _Round | None:
    found = rounds.get(replica)
    return found if found is not None and found.number == number else None


def _decrement(counts: dict[str, int], replica: str) -> None:
    counts[replica] -= 1
    if not counts[replica]:
        del counts[replica]
