"""Two processes on loopback, QUIC beside raw TCP: ``python -m barrel_p2p.cli.demo``.

Exit codes: 0 when every hash matched, 1 when one did not or something failed, 2 for
wrong arguments, 130 when interrupted.

This module imports nothing that is compiled, so that it can say what is not built.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from barrel_p2p.errors import BarrelError

__all__ = ["main"]

_FAILED, _INTERRUPTED = 1, 130
_MESSAGES_MAX = 1_000_000_000
_ROUND_TRIPS_MAX = 10_000_000  # Each time is kept.
_MEGABYTES_MAX = 1_000_000


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo with command-line arguments; returns the exit code."""
    args = _parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        # One way out for all three: whatever was opened is closed, files are removed.
        signal.signal(number, _interrupt)
    try:
        from barrel_p2p.cli.demo_run import DemoFailed, run
    except ImportError as error:
        return _fail(_what_is_missing(error))
    try:
        report = run(
            messages=args.messages,
            stream_bytes=args.megabytes * 1_000_000,
            round_trips=args.round_trips,
            corrupt=args.corrupt,
            progress=sys.stderr if args.json else sys.stdout,
        )
    except KeyboardInterrupt:
        print("\ndemo: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except (BarrelError, DemoFailed, ImportError, OSError) as error:
        return _fail(str(error))
    if args.json:
        print(json.dumps(report.as_json(), indent=2))
    else:
        print("", *report.lines(), sep="\n", end="\n\n")
    if not report.verified:
        return _fail("what arrived is not what was sent")
    if not args.json:
        print(f"Every hash matched at both ends. {report.seconds:.1f} s.")
    return 0


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Do what Ctrl-C does at this moment: the loop's way out, or KeyboardInterrupt."""
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler):
        handler(signal.SIGINT, frame)
    else:  # SIGINT is ignored, as in a background job; this signal is not.
        raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m barrel_p2p.cli.demo",
        description="Two processes on loopback exchange messages and a long stream, "
        "over QUIC and over raw TCP, and both check by hash that all of it arrived.",
    )
    parser.add_argument(
        "--messages",
        type=_count_up_to(_MESSAGES_MAX),
        default=1_000_000,
        metavar="N",
        help="messages of 100 bytes to send, default 1,000,000",
    )
    parser.add_argument(
        "--megabytes",
        type=_count_up_to(_MEGABYTES_MAX),
        default=1_000,
        metavar="N",
        help="length of the stream, in 10^6 bytes, default 1,000",
    )
    parser.add_argument(
        "--round-trips",
        type=_count_up_to(_ROUND_TRIPS_MAX),
        default=10_000,
        metavar="N",
        help="pings of 64 bytes, one after another, default 10,000",
    )
    parser.add_argument(
        "--json", action="store_true", help="one JSON object; progress goes to stderr"
    )
    parser.add_argument(
        "--corrupt",
        choices=("messages", "stream"),
        help="change one byte of it after hashing, to see the check fail",
    )
    return parser


class _count_up_to:  # noqa: N801 - argparse shows the name of a type that refuses
    """Turns an argument into an integer from 1 to ``most``."""

    def __init__(self, most: int) -> None:
        self._most = most

    def __call__(self, text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = 0
        if not 1 <= value <= self._most:
            raise argparse.ArgumentTypeError(
                f"{text!r} is no integer from 1 to {self._most:,}"
            )
        return value


def _what_is_missing(error: ImportError) -> str:
    name = error.name or ""
    if name.startswith("barrel_p2p.") and name.rpartition(".")[2].startswith("_"):
        return f"the extension {name} is not built: run `make setup`"
    return f"{error}: run `make setup`"


def _fail(text: str) -> int:
    print(f"demo: {text}", file=sys.stderr)
    return _FAILED


if __name__ == "__main__":
    sys.exit(main())
