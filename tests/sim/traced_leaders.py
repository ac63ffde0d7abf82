"""Prints the trace hashes of elections under the seeds that it is given."""

from __future__ import annotations

import sys

from barrel_p2p.testing.nodes.leader_trial import leader_trial

__all__ = ["digest_of"]


def digest_of(seed: int) -> str:
    """What a seed gives, wherever it is run."""
    tried = leader_trial(seed, faulty_s=5.0, deeds=False)
    return f"{tried.digest}/{tried.terms}/{tried.stale}"


if __name__ == "__main__":
    for text in sys.argv[1:]:
        sys.stdout.write(digest_of(int(text)) + "\n")
