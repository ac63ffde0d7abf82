"""The table of ids does what the model does, whatever happens in whatever order."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.broadcast.dedup import SeenIds
from tests.models.dedup import SeenModel

# Few ids and short lives, so that they meet, expire and come back.
IDS = st.integers(0, 60).map(lambda n: n.to_bytes(16))
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "add", "add", "has", "unknown", "expire"]),
        IDS,
        st.integers(0, 12),
    ),
    max_size=300,
)


@given(ids_max=st.integers(1, 50), ttl_ms=st.integers(1, 60), steps=STEPS)
def test_the_table_agrees_with_the_model(
    ids_max: int, ttl_ms: int, steps: list[tuple[str, bytes, int]]
) -> None:
    seen = SeenIds(ids_max, ttl_ms=ttl_ms, key=0x0123456789ABCDEF << 33)
    model = SeenModel(ids_max, ttl_ms)
    now_ms = 0
    for what, message_id, passed_ms in steps:
        now_ms += passed_ms
        match what:
            case "add":
                assert seen.add(message_id, now_ms) == model.add(message_id, now_ms)
            case "has":
                assert seen.has(message_id, now_ms) == model.has(message_id, now_ms)
            case "unknown":
                several = [n.to_bytes(16) for n in range(61)]
                unknown = [i for i in range(61) if not model.has(several[i], now_ms)]
                assert seen.unknown(b"".join(several), now_ms) == unknown
            case _:
                seen.expire(now_ms)
                assert len(seen) == model.held(now_ms)
        assert len(seen) <= ids_max
        assert seen.evicted == model.evicted
