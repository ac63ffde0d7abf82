"""Rounds of samples: every system once a round, so that all share the machine's moods.

What a benchmark of processes does whatever it measures: take turns, watch who else uses
the machine, repeat a disturbed sample while the allowance lasts, and go on without a
system that failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bench.child import ChildFailed
from bench.harness import Sample, cores, sample_quiet
from bench.workload import Figures, Work

__all__ = [
    "RETRIES_MAX",
    "RETRIES_OF_ONE_MAX",
    "Run",
    "Step",
    "System",
    "options",
    "placement",
]

RETRIES_MAX = 20
"""Samples of one run that may be repeated because others used the machine."""

RETRIES_OF_ONE_MAX = 2


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to measure and where the two processes run.

    Attributes:
        name: Key of the figures in the result.
        work: What to do, for a system that does not ask for less (``share``).
        cpus: Position of the server's and of the client's core among those we may
            use; None leaves both to the scheduler.
        turns: Samples of each system for every repeat: more where one is short beside
            the machine's moods.
    """

    name: str
    work: Work
    cpus: tuple[int, int] | None = None
    turns: int = 1


class System(Protocol):
    """What a round needs to know of a system."""

    @property
    def name(self) -> str:
        """Key of its figures in the result."""
        ...

    @property
    def phases(self) -> Collection[str]:
        """What it takes part in."""
        ...


@dataclass
class Run[S: System]:
    """Samples and failures gathered so far.

    Attributes:
        measure: Takes one sample of one system.
        retries_left: How many samples may still be repeated.
    """

    measure: Callable[[Step, S], Figures]
    retries_left: int
    samples: dict[str, dict[str, list[Sample[Figures]]]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    def step(self, step: Step, systems: Sequence[S], repeats: int) -> None:
        """Sample every system that takes part, ``repeats`` times ``step.turns``."""
        taken = self.samples.setdefault(step.name, {})
        part = [system for system in systems if step.work.phase in system.phases]
        rounds = repeats * step.turns
        for round_number in range(rounds):
            for system in part:
                where = f"{system.name} {step.name}"
                if where in self.errors:
                    continue
                _progress(f"{step.name} {round_number + 1}/{rounds} {system.name}")
                try:
                    sample = self._sample(step, system)
                except ChildFailed as error:
                    self.errors[where] = str(error)
                    continue
                taken.setdefault(system.name, []).append(sample)

    def _sample(self, step: Step, system: S) -> Sample[Figures]:
        tries = 1 + min(RETRIES_OF_ONE_MAX, self.retries_left)
        sample = sample_quiet(lambda: self.measure(step, system), tries=tries)
        self.retries_left -= sample.tries - 1
        return sample

    def results(self) -> dict[str, dict[str, list[Figures]]]:
        """The figures alone, as ``bench.ratios`` wants them."""
        return {
            step: {
                name: [sample.value for sample in samples]
                for name, samples in systems.items()
            }
            for step, systems in self.samples.items()
        }

    def all_samples(self) -> list[Sample[Figures]]:
        """Every sample of the run."""
        return [
            sample
            for systems in self.samples.values()
            for samples in systems.values()
            for sample in samples
        ]


def placement(step: Step) -> tuple[list[int] | None, list[int] | None]:
    """Cores for the server and for the client of ``step``."""
    if step.cpus is None:
        return None, None
    available = cores()
    server, client = (available[index % len(available)] for index in step.cpus)
    return [server], [client]


def options(
    prog: str,
    description: str,
    phases: Sequence[str],
    systems: Sequence[str],
    *,
    repeats: int = 3,
) -> argparse.ArgumentParser:
    """The options that every benchmark of rounds takes."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, taken once: for tests"
    )
    parser.add_argument(
        "--only",
        type=_names_among(phases),
        default=phases,
        help=f"phases, of {','.join(phases)}",
    )
    parser.add_argument(
        "--peers",
        type=_names_among(systems),
        default=systems,
        help=f"systems, of {','.join(systems)}",
    )
    parser.add_argument("--repeats", type=int, default=repeats, help="samples of each")
    return parser


def _names_among(known: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """Parse an option that lists some of ``known``; return them in its order."""

    def parse(text: str) -> tuple[str, ...]:
        wanted = [name for name in text.split(",") if name]
        for name in wanted:
            if name not in known:
                raise argparse.ArgumentTypeError(
                    f"{name!r} is none of {', '.join(known)}"
                )
        return tuple(name for name in known if name in wanted)

    return parse


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()
