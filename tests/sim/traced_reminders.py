"""Prints what becomes of reminders under the seeds that it is given."""

from __future__ import annotations

import sys

from barrel_p2p.testing.nodes.reminder_trial import reminder_trial

__all__ = ["digest_of"]


def digest_of(seed: int) -> str:
    """What a seed gives, wherever it is run."""
    tried = reminder_trial(seed, reminders=60, nodes=3, churn="kill", spread_s=8.0)
    return f"{tried.digest}/{tried.acknowledged}/{tried.late_p99_ms:.6f}"


if __name__ == "__main__":
    for text in sys.argv[1:]:
        sys.stdout.write(digest_of(int(text)) + "\n")
