"""The QUIC engine beside its peers: ``python -m bench.transport [--json]``.

Every sample is a fresh pair of processes on loopback, all in one process group; systems
take turns within a round, so that they share the machine's moods. Prints absolute
figures, the ratios of ``bench.ratios`` and whether each meets its bar; with ``--json``
one JSON object and nothing else on stdout. Ends with status 1 if a system failed.
"""

from __future__ import annotations

import argparse
import platform
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench.child import Child
from bench.harness import FOREIGN_MAX, calib_ns, emit_json, foreign_summary
from bench.peers import PEERS, load
from bench.peers.adapter import PHASES, Peer
from bench.peers.certificate import Certificate
from bench.ratios import bar_report, medians, ratios
from bench.rounds import RETRIES_MAX, Run, Step, options, placement
from bench.workload import Figures, Work

__all__ = ["FULL", "QUICK", "main"]

FULL = (
    Step("rtt_pinned", Work("rtt", 10_000), (0, 0)),
    Step("rtt_cross", Work("rtt", 10_000), (1, 0)),
    Step("msgs_single", Work("msgs", 1_024_000)),
    Step("msgs_batched", Work("msgs", 8_192_000, batch=64), turns=2),
    Step("bulk", Work("bulk", 200_000_000), turns=3),
    Step("handshake", Work("handshake", 500, batch=25), turns=3),
    Step("idle", Work("idle", 1_000, batch=25)),
)

QUICK = (
    Step("rtt_pinned", Work("rtt", 400), (0, 0)),
    Step("rtt_cross", Work("rtt", 400), (1, 0)),
    Step("msgs_single", Work("msgs", 25_600)),
    Step("msgs_batched", Work("msgs", 64_000, batch=64)),
    Step("bulk", Work("bulk", 8_000_000)),
    Step("handshake", Work("handshake", 50, batch=25)),
    Step("idle", Work("idle", 50, batch=25)),
)


def measure(step: Step, peer: type[Peer], certificates: Path) -> Figures:
    """Run ``step`` once in a fresh server and a fresh client process.

    Raises:
        ChildFailed: Either process ended early or got stuck.
    """
    work = step.work
    share = peer.share.get(step.name, peer.share.get(work.phase, 1))
    size = max(work.batch, work.size // share)
    common = [peer.name, work.phase, "--certificates", str(certificates)]
    common += ["--size", str(size), "--batch", str(work.batch)]
    server_cpus, client_cpus = placement(step)
    with Child(["-m", "bench.peers", "server", *common], cpus=server_cpus) as server:
        port = server.line()["port"]
        aim = ["--port", str(port), "--server-pid", str(server.pid)]
        argv = ["-m", "bench.peers", "client", *common, *aim]
        with Child(argv, cpus=client_cpus) as client:
            return {key: float(str(value)) for key, value in client.line().items()}


def main(argv: Sequence[str] | None = None) -> int:
    """Run what was asked for and print it."""
    args = options(
        "python -m bench.transport",
        "Measure the QUIC engine beside raw UDP, TCP, TLS and QUIC peers.",
        PHASES,
        PEERS,
        repeats=5,
    ).parse_args(argv)
    steps = [s for s in (QUICK if args.quick else FULL) if s.work.phase in args.only]
    calib = calib_ns()
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        certificates = Path(directory)
        Certificate(certificates).create()
        run = Run[type[Peer]](
            lambda step, peer: measure(step, peer, certificates),
            retries_left=0 if args.quick else RETRIES_MAX,
        )
        peers = _load_all(args.peers, run.errors)
        # Round by round, so that a mood of minutes does not fall on one phase alone.
        for _ in range(args.repeats):
            for step in steps:
                run.step(step, peers, 1)
    result = _result(run, calib, args)
    if args.json:
        emit_json(result)
    else:
        sys.stdout.write(table(result))
    return 1 if run.errors else 0


def _load_all(names: Iterable[str], errors: dict[str, str]) -> list[type[Peer]]:
    peers = []
    for name in names:
        try:
            peers.append(load(name))
        except ImportError as error:
            errors[name] = f"cannot be imported: {error}"
    return peers


def _result(
    run: Run[type[Peer]], calib: int, args: argparse.Namespace
) -> dict[str, object]:
    results = run.results()
    found = ratios(results)
    samples = run.all_samples()
    return {
        "bench": "transport",
        "quick": args.quick,
        "repeats": args.repeats,
        "calib": calib,
        "foreign_cpu": foreign_summary(samples)["worst"],
        "foreign": foreign_summary(samples) | {"limit": FOREIGN_MAX},
        "versions": _versions(),
        **found,
        "bars": bar_report(found),
        "systems": medians(results),
        "errors": run.errors,
    }


def _versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in ("uvloop", "aiopquic", "aioquic", "barrel-p2p"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = None
    try:
        from aiopquic._build_info import PICOQUIC_VERSION
    except ImportError:
        PICOQUIC_VERSION = None  # noqa: N806
    return versions | {"picoquic": PICOQUIC_VERSION}


def table(result: Mapping[str, object]) -> str:
    """The result as text: figures of each system, then ratios with their bars."""
    systems, bars, errors = result["systems"], result["bars"], result["errors"]
    assert isinstance(systems, dict)
    assert isinstance(bars, list)
    assert isinstance(errors, dict)
    lines = [
        f"calib {result['calib']} ns, others used {result['foreign_cpu']} cores at most"
    ]
    for name, steps in systems.items():
        lines.append(f"\n{name}")
        for step, figures in steps.items():
            shown = ", ".join(f"{key} {value:,.5g}" for key, value in figures.items())
            lines.append(f"  {step:14} {shown}")
    lines.append("\nratios")
    for bar in bars:
        passes = {True: "ok", False: "MISSED", None: "-"}[bar["pass"]]
        value = "-" if bar["value"] is None else f"{bar['value']:.4g}"
        want = f"{bar['op']} {bar['limit']:g} ({bar['for']})"
        lines.append(f"  {bar['key']:28} {value:>8}  {want:24} {passes}")
    lines += [f"\nfailed: {where}: {error}" for where, error in errors.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
