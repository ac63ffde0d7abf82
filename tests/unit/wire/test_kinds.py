"""The kind table keeps its promises, and unknown kinds follow its rule."""

from __future__ import annotations

import pytest

from barrel_p2p.errors import WireError
from barrel_p2p.wire import kinds
from barrel_p2p.wire.frames import Frame, encode
from barrel_p2p.wire.kinds import Kind, skip_unknown


def test_kinds_encode_as_their_numbers() -> None:
    assert encode(Kind.MIGRATE_PLEASE, 0, b"")[4] == 72


def test_no_number_belongs_to_two_protocols() -> None:
    ranges = (kinds.MEMBERSHIP, kinds.BROADCAST, kinds.REPLICA, kinds.ROUTER)
    reserved = [number for numbers in ranges for number in numbers]
    assert len(reserved) == len(set(reserved))
    assert len(Kind.__members__) == len(set(map(int, Kind)))
    assert max(*Kind, *reserved) < kinds.SKIPPABLE_MIN


@pytest.mark.parametrize("kind", [0x80, 0xFF])
@pytest.mark.parametrize("flags", [0x01, 0xFF])
def test_an_unknown_kind_is_skipped_where_its_sender_allows_it(
    kind: int, flags: int
) -> None:
    skip_unknown(Frame(kind, flags, b"new"))


@pytest.mark.parametrize(
    ("kind", "flags"),
    [(0x80, 0), (0xFF, 0xFE), (0x7F, 1), (0, 1), (16, 0xFF), (73, 1)],
)
def test_any_other_unknown_kind_closes_the_channel(kind: int, flags: int) -> None:
    with pytest.raises(
        WireError, match=f"kind {kind}, flags {flags} from b@h"
    ) as caught:
        skip_unknown(Frame(kind, flags, b""), peer="b@h")
    assert caught.value.peer == "b@h"
