"""The bench of the table of ids measures what it promises, with or without a peer."""

from __future__ import annotations

from bench import dedup


def test_every_promised_figure_is_measured() -> None:
    figures = dedup.measure(ids=2_000, repeats=1)
    assert all(value > 0 for value in figures.values())
    promised = {"dedup_ids_per_s", "dedup_bytes_per_id"}
    if dedup.HAS_PEER:
        promised |= {"dedup_vs_ttlcache", "dedup_memory_vs_ttlcache"}
    assert promised <= set(figures)
    assert figures["dedup_bytes_per_id"] <= 64
