"""The reset seed is made once, is private, and is refused when it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from barrel_p2p.carrier.reset_seed import ensure_reset_seed
from barrel_p2p.errors import StorageError
from barrel_p2p.quic.engine import SEED_BYTES


def test_the_second_start_finds_the_seed_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "reset_seed"
    seed = ensure_reset_seed(path)
    assert len(seed) == SEED_BYTES
    assert ensure_reset_seed(path) == seed
    assert path.stat().st_mode & 0o777 == 0o600


def test_two_nodes_get_different_seeds(tmp_path: Path) -> None:
    assert ensure_reset_seed(tmp_path / "a") != ensure_reset_seed(tmp_path / "b")


@pytest.mark.parametrize("content", [b"", b"short", bytes(SEED_BYTES + 1)])
def test_a_seed_of_another_size_is_refused_by_name(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "reset_seed"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(StorageError, match="reset_seed"):
        ensure_reset_seed(path)


def test_a_seed_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "reset_seed"
    path.write_bytes(bytes(SEED_BYTES))
    path.chmod(0o644)
    with pytest.raises(StorageError):
        ensure_reset_seed(path)
