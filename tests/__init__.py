"""Tests, arranged by what they need: see the markers in ``pyproject.toml``."""
