"""A guard lets each fence pass once, in order, and says who came too late."""

from __future__ import annotations

import threading

import pytest

from barrel_p2p import FencedOut, FenceGuard, InvalidValue


def test_a_fence_passes_if_it_is_strictly_greater() -> None:
    guard = FenceGuard()
    guard.check(5)
    guard.check(9)
    for late in (9, 5, 1):
        with pytest.raises(FencedOut, match=f"fence {late} is not above 9") as refused:
            guard.check(late)
        assert refused.value.code == "fenced_out"
    assert (guard.highest, guard.refused) == (9, 3)


def test_the_same_term_may_write_again_if_the_resource_says_so() -> None:
    guard = FenceGuard(7)
    with pytest.raises(FencedOut):
        guard.check(7)
    guard.check(7, again=True)
    guard.check(8, again=True)
    guard.check(8, again=True)
    with pytest.raises(FencedOut):
        guard.check(7, again=True)
    assert guard.highest == 8


def test_nothing_is_no_fence() -> None:
    with pytest.raises(FencedOut):
        FenceGuard().check(0, again=True)


@pytest.mark.parametrize("fence", [-1, 1 << 63, True, 1.0, "1", None])
def test_what_is_no_fence_is_refused_and_changes_nothing(fence: object) -> None:
    guard = FenceGuard(3)
    with pytest.raises(InvalidValue):
        guard.check(fence)  # type: ignore[arg-type]
    with pytest.raises(InvalidValue):
        FenceGuard(fence)  # type: ignore[arg-type]
    assert guard.highest == 3


def test_of_many_threads_one_gets_each_fence_past() -> None:
    guard, passed = FenceGuard(), list[int]()

    def write() -> None:
        for fence in range(1, 400):
            try:
                guard.check(fence)
            except FencedOut:
                continue
            passed.append(fence)

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == len(set(passed))
    assert guard.highest == 399
