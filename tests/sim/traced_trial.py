"""Prints the trace hashes of whole nodes under faults; see ``test_node_trials.py``."""

from __future__ import annotations

import sys

from barrel_p2p.testing.nodes.trial import trial

__all__ = ["digest_of"]


def digest_of(seed: int) -> str:
    """The trace hash of a seed."""
    return trial(seed).digest


if __name__ == "__main__":
    sys.stdout.write(" ".join(digest_of(int(seed)) for seed in sys.argv[1:]))
