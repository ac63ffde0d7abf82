"""Prints the trace hashes of maps under the seeds that it is given."""

from __future__ import annotations

import sys

from barrel_p2p.testing.nodes.map_trial import map_trial

__all__ = ["digest_of"]


def digest_of(seed: int) -> str:
    """What a seed gives, wherever it is run."""
    tried = map_trial(seed)
    return f"{tried.digest}/{tried.acknowledged}/{tried.superseded}/{tried.revived}"


if __name__ == "__main__":
    for text in sys.argv[1:]:
        sys.stdout.write(digest_of(int(text)) + "\n")
