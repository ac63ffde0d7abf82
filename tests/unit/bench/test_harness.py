"""Statistics, quiet samples and CPU accounting that every benchmark rests on."""

from __future__ import annotations

import json
import mmap
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.harness import (
    ForeignCpu,
    Sample,
    calib_ns,
    cores,
    foreign_summary,
    interleave_quiet,
    median_of,
    percentile,
    pinned,
    repeat_quiet,
    rss_bytes,
    sample_quiet,
)

VALUES = st.lists(st.integers(-5, 5) | st.integers(), min_size=1, max_size=50)

# Says how much CPU it has used once that is a fifth of a second, then spins on.
SPINNER = """
import json, time
while time.process_time() < 0.2: pass
print(json.dumps(time.process_time()), flush=True)
while time.process_time() < 30: pass
"""


class ScriptedLoad:
    """A meter that reports, block by block, the loads it was given."""

    def __init__(self, loads: Sequence[float]) -> None:
        self._loads = list(loads)
        self.cores = 0.0

    def __call__(self) -> Self:
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cores = self._loads.pop(0)


def counter() -> Callable[[], int]:
    """Count the calls of the function that is returned, from 0."""
    return iter(range(1_000)).__next__


@given(VALUES, st.floats(0, 1))
def test_a_percentile_is_a_value_that_enough_others_do_not_exceed(
    values: list[int], fraction: float
) -> None:
    found = percentile(values, fraction)
    assert found in values
    assert sum(value <= found for value in values) >= fraction * len(values)
    smaller = [value for value in values if value < found]
    assert len(smaller) < max(fraction * len(values), 1)


def test_the_ends_of_the_percentiles_are_minimum_and_maximum() -> None:
    assert percentile([3, 1, 2], 0.0) == 1
    assert percentile([3, 1, 2], 0.5) == 2
    assert percentile([3, 1, 2], 1.0) == 3
    assert percentile(range(1, 101), 0.99) == 99


@pytest.mark.parametrize(("values", "fraction"), [([], 0.5), ([1], 1.1), ([1], -0.1)])
def test_a_percentile_of_nothing_or_beyond_all_is_refused(
    values: list[int], fraction: float
) -> None:
    with pytest.raises(ValueError, match=r"of no values|is not within"):
        percentile(values, fraction)


def test_a_noisy_sample_is_taken_again_until_it_is_quiet() -> None:
    load = ScriptedLoad([0.9, 0.31, 0.3, 0.0])
    sample = sample_quiet(counter(), tries=5, meter=load)
    assert sample == Sample(2, 0.3, quiet=True, tries=3)


def test_the_least_disturbed_try_is_kept_and_marked() -> None:
    load = ScriptedLoad([0.9, 0.4, 0.7, 0.0])
    sample = sample_quiet(counter(), tries=3, meter=load)
    assert sample == Sample(1, 0.4, quiet=False, tries=3)


def test_a_quiet_sample_is_taken_once() -> None:
    load = ScriptedLoad([0.0, 0.9])
    assert sample_quiet(counter(), meter=load) == Sample(0, 0.0, quiet=True, tries=1)


def test_no_tries_are_refused() -> None:
    with pytest.raises(ValueError, match="tries=0"):
        sample_quiet(counter(), tries=0, meter=ScriptedLoad([]))


def test_every_repeat_has_tries_of_its_own() -> None:
    load = ScriptedLoad([0.9, 0.1, 0.9, 0.9, 0.2])
    samples = repeat_quiet(counter(), 3, 0.5, tries=2, meter=load)
    assert [sample.value for sample in samples] == [1, 2, 4]
    assert [sample.quiet for sample in samples] == [True, False, True]
    assert median_of(samples) == 2
    assert foreign_summary(samples) == {
        "mean": 0.4,
        "worst": 0.9,
        "samples": 3,
        "not_quiet": 1,
    }


def test_variants_take_turns() -> None:
    turns: list[str] = []
    variants = {name: lambda name=name: turns.append(name) for name in ("a", "b")}
    samples = interleave_quiet(variants, 3, meter=ScriptedLoad([0.0] * 6))
    assert turns == ["a", "b"] * 3
    assert [len(taken) for taken in samples.values()] == [3, 3]


def test_cpu_of_a_child_that_ended_counts_as_ours() -> None:
    script = "import time\nwhile time.process_time() < 0.2: pass\n"
    script += "print(time.process_time())"
    with ForeignCpu() as used:
        told = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert used.own_cpu_s >= 0.5 * float(told.stdout)


def test_cpu_of_another_process_group_counts_as_foreign() -> None:
    with ForeignCpu() as used:
        other = subprocess.Popen(
            [sys.executable, "-c", SPINNER],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert other.stdout is not None
        told_s = json.loads(other.stdout.readline())
    try:
        assert used.cores * used.wall_s >= 0.5 * told_s
    finally:
        other.kill()
        other.wait()
        other.stdout.close()


def test_pinning_lasts_for_the_block_and_reaches_children() -> None:
    before = cores()
    script = "import os; print(sorted(os.sched_getaffinity(0)))"
    with pinned([before[-1]]):
        assert cores() == [before[-1]]
        told = subprocess.run([sys.executable, "-c", script], capture_output=True)
    assert json.loads(told.stdout) == [before[-1]]
    assert cores() == before
    with pinned(None):
        assert cores() == before


def test_resident_memory_grows_by_what_is_touched() -> None:
    size = 32 << 20
    before = rss_bytes(os.getpid())
    # A mapping of its own: the allocator may hand out memory that was touched before.
    with mmap.mmap(-1, size) as block:
        block.write(os.urandom(1 << 20) * 32)
        assert rss_bytes(os.getpid()) - before >= size // 2


def test_the_calibration_loop_takes_some_time() -> None:
    assert calib_ns() > 0
