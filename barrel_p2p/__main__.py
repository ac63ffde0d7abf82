"""``python -m barrel_p2p`` is ``barrel-p2p``."""

from __future__ import annotations

import sys

from barrel_p2p.cli.main import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
