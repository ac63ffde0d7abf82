"""Terms and the clock beside their peers: ``python -m bench.codec [--json]``.

Every codec encodes and decodes the same two values, as a caller would: one Python call
an operation, coders that can be kept are kept. Within a sample the codecs take turns in
blocks of about two milliseconds, and of each operation's blocks the fastest counts:
what disturbs a block on a shared machine only ever makes it slower. Figures are medians
of the samples; a ratio is taken within each sample first.

Of the peers only pickle gives the same value back: the msgpack ones turn tuples into
lists, erlpack text into bytes. None of them checks budgets as terms do.
"""

from __future__ import annotations

import argparse
import gc
import pickle
import platform
import statistics
import sys
import timeit
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import msgpack
import msgspec

from barrel_p2p.wire import terms
from bench import codec_hlc
from bench.harness import (
    FOREIGN_MAX,
    TRIES_MAX,
    calib_ns,
    emit_json,
    foreign_summary,
    repeat_quiet,
)
from bench.ratios import Bar

try:
    import erlpack
except ModuleNotFoundError:  # `make bench` installs it, `make setup` does not.
    erlpack = None

__all__ = [
    "BARS",
    "Block",
    "Codec",
    "codecs",
    "main",
    "measure",
    "ratios",
    "table",
    "values",
]

TURNS = 25
BLOCK_NS = 2_000_000
TRIAL_CALLS = 20
OURS = "terms"

BARS = (
    Bar("terms_small_vs_msgspec", True, 0.9, None),
    Bar("terms_small_vs_msgpack", True, 1.6, None),
    Bar("terms_big_vs_pickle", True, 1.5, None),
    Bar("hlc_now_vs_time_ns", False, 1.6, None),
    Bar("hlc_now_vs_model", True, 1.3, None),
)

type Times = dict[str, dict[tuple[str, str], float]]
"""Value name, then codec name and operation, to nanoseconds a call."""


@dataclass(frozen=True, slots=True)
class Codec:
    """One way to turn values into bytes and back."""

    name: str
    encode: Callable[[object], bytes]
    decode: Callable[[bytes], object]


def codecs() -> list[Codec]:
    """Ours first, then the peers that are installed: erlpack has to be compiled."""
    spec_encoder = msgspec.msgpack.Encoder()
    spec_decoder = msgspec.msgpack.Decoder()
    pack = msgpack.Packer().pack
    found = [
        Codec(OURS, terms.encode, terms.decode),
        Codec("msgspec", spec_encoder.encode, spec_decoder.decode),
        Codec(
            "msgpack", pack, lambda data: msgpack.unpackb(data, strict_map_key=False)
        ),
        Codec("pickle", lambda value: pickle.dumps(value, 5), pickle.loads),
    ]
    if erlpack is not None:
        found.append(Codec("erlpack", erlpack.pack, erlpack.unpack))
    return found


def values() -> dict[str, object]:
    """A request of about 200 bytes and a table of about 5 KB."""
    request = {
        "op": "call",
        "id": 1_234_567,
        "to": "registry",
        "node": b"\x01" * 16,
        "args": (1, 2.5, "key-17", [True, None, -3]),
        "meta": {
            "hlc": 1_760_000_000_123_456_789,
            "ttl": 5,
            "tags": ["a", "bb"],
            "trace": "4bf92f3577b34da6a3ce929d0e0e4736",
            "body": bytes(range(48)),
        },
    }
    rows = [
        {
            "key": f"service/{row:04d}",
            "value": {
                "host": f"10.0.0.{row}",
                "port": 4_000 + row,
                "weight": row / 4,
                "up": True,
            },
            "ver": (1_760_000_000_000_000_000 + row, b"\x03" * 8),
            "tags": ["x", "y", f"z{row}"],
        }
        for row in range(36)
    ]
    table = {"op": "sync", "id": 99, "node": b"\x02" * 32, "entries": rows}
    return {"small": request, "big": table}


class Block:
    """One operation on one value, timed in blocks of ``BLOCK_NS``."""

    def __init__[T](self, call: Callable[[T], object], argument: T) -> None:
        names = {"call": call, "argument": argument}
        self._timer = timeit.Timer("call(argument)", globals=names)
        trial = min(self._timer.repeat(3, TRIAL_CALLS))
        self._calls = max(1, int(TRIAL_CALLS * BLOCK_NS / (trial * 1e9)))

    def ns(self) -> float:
        """Run one block; return nanoseconds a call."""
        return self._timer.timeit(self._calls) * 1e9 / self._calls


def measure(*, turns: int = TURNS) -> Times:
    """Time every codec on every value: the fastest of ``turns`` blocks of each."""
    found: Times = {}
    for name, value in values().items():
        blocks: dict[tuple[str, str], Block] = {}
        for codec in codecs():
            data = codec.encode(value)
            blocks[codec.name, "encode"] = Block(codec.encode, value)
            blocks[codec.name, "decode"] = Block(codec.decode, data)
        fastest = dict.fromkeys(blocks, float("inf"))
        gc.collect()
        for _ in range(turns):
            for operation, block in blocks.items():
                fastest[operation] = min(fastest[operation], block.ns())
        found[name] = fastest
    return found


def ratios(times: Times) -> dict[str, float]:
    """Peer's time over ours, encode and decode together: above 1 ours is faster."""

    def both(value: str, codec: str) -> float:
        return times[value][codec, "encode"] + times[value][codec, "decode"]

    return {
        f"terms_{value}_vs_{codec.name}": both(value, codec.name) / both(value, OURS)
        for value in times
        for codec in codecs()
        if codec.name != OURS
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print what was found."""
    args = _parser().parse_args(argv)
    calib = calib_ns()
    samples = repeat_quiet(
        lambda: measure(turns=args.turns),
        args.repeats,
        tries=1 if args.quick else TRIES_MAX,
    )
    calls = codec_hlc.CALLS // (25 if args.quick else 1)
    clocks = [codec_hlc.measure(calls=calls) for _ in range(args.repeats)]
    found = _medians([ratios(sample.value) for sample in samples]) | _clock(clocks)
    result = {
        "bench": "codec",
        "quick": args.quick,
        "repeats": args.repeats,
        "calib": calib,
        "foreign_cpu": foreign_summary(samples)["worst"],
        "foreign": foreign_summary(samples) | {"limit": FOREIGN_MAX},
        "versions": _versions(),
        **found,
        "bars": _bar_report(found),
        "codecs": _figures([sample.value for sample in samples]),
        "clock": _medians(clocks),
    }
    if args.json:
        emit_json(result)
    else:
        sys.stdout.write(table(result))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.codec",
        description="Measure terms and the clock beside their peers.",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument(
        "--quick", action="store_true", help="take noisy samples as they are: for tests"
    )
    parser.add_argument("--repeats", type=int, default=5, help="samples of each")
    parser.add_argument("--turns", type=int, default=TURNS, help="blocks in a sample")
    return parser


def _medians(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {
        key: round(statistics.median(row[key] for row in rows), 3) for key in rows[0]
    }


def _clock(clocks: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return _medians(
        [
            {
                "hlc_now_vs_time_ns": row["hlc_now_ns"] / row["time_ns_ns"],
                "hlc_now_vs_model": row["hlc_model_ns"] / row["hlc_now_ns"],
            }
            for row in clocks
        ]
    )


def _figures(samples: Sequence[Times]) -> dict[str, dict[str, dict[str, float]]]:
    """Value, then codec, to its bytes and its nanoseconds."""
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for name, value in values().items():
        for codec in codecs():
            figures.setdefault(name, {})[codec.name] = {
                "bytes": len(codec.encode(value)),
                **{
                    f"{operation}_ns": round(
                        statistics.median(
                            s[name][codec.name, operation] for s in samples
                        )
                    )
                    for operation in ("encode", "decode")
                },
            }
    return figures


def _bar_report(found: Mapping[str, float]) -> list[dict[str, object]]:
    report: list[dict[str, object]] = []
    for bar in BARS:
        value, limit = found[bar.key], bar.five_runs
        assert limit is not None
        passes = value >= limit if bar.at_least else value <= limit
        op = ">=" if bar.at_least else "<="
        report.append(
            {"key": bar.key, "op": op, "limit": limit, "value": value, "pass": passes}
        )
    return report


def _versions() -> dict[str, str]:
    packages = ("msgspec", "msgpack", "erlpack")
    present = packages if erlpack is not None else packages[:-1]
    return {"python": platform.python_version()} | {p: version(p) for p in present}


def table(result: Mapping[str, object]) -> str:
    """What a person wants to see of a result."""
    lines = [f"{'value':6} {'codec':8} {'bytes':>6} {'encode':>9} {'decode':>9}  ns"]
    figures = result["codecs"]
    assert isinstance(figures, dict)
    for value, rows in figures.items():
        for codec, row in rows.items():
            lines.append(
                f"{value:6} {codec:8} {row['bytes']:6} "
                f"{row['encode_ns']:9,} {row['decode_ns']:9,}"
            )
    bars = result["bars"]
    assert isinstance(bars, list)
    for bar in bars:
        verdict = "met" if bar["pass"] else "MISSED"
        lines.append(
            f"{bar['key']:24} {bar['value']:7} {bar['op']} {bar['limit']:4} {verdict}"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
