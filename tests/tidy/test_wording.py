"""The repository speaks of the product: of no machine and of nobody's servers."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

from tests.tree import ROOT, files

# Documents that a reader may follow; anything else is somebody's infrastructure.
HOSTS = {
    "127.0.0.1",
    "datatracker.ietf.org",
    "docs.python.org",
    "github.com",
    "keepachangelog.com",
    "localhost",
    "semver.org",
    "www.apache.org",
    "www.erlang.org",
    "www.rfc-editor.org",
    "www.w3.org",
}
URL = re.compile(r"\b(?:https?|file|git|ssh)://[^\s)>\"'`]+")
HOME = re.compile(r"(?<![\w.$}])/(?:home|root|Users|work|opt|mnt)/\w")
TALK = re.compile(
    r"co-authored-by|generated (?:with|by) an? |\bissue \d+\b", re.IGNORECASE
)
TEXT = (
    ".py",
    ".pyi",
    ".pyx",
    ".pxd",
    ".pxi",
    ".c",
    ".h",
    ".md",
    ".toml",
    ".cmake",
    ".txt",
)


def test_no_file_names_a_path_of_one_machine() -> None:
    assert _lines_with(HOME) == []


def test_no_file_talks_about_how_it_was_made() -> None:
    assert _lines_with(TALK) == []


def test_links_lead_to_public_documents_only() -> None:
    strange = {
        host
        for path in _texts()
        for url in URL.findall(path.read_text())
        if (host := urlsplit(url).hostname) not in HOSTS
        and not (host or "").endswith((".example", "example.org", "example.com"))
    }
    assert strange == set()


def _lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in _texts()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]


def _texts() -> list[Path]:
    named = [ROOT / "Makefile", ROOT / ".python-version", ROOT / ".ci" / "run"]
    found = [path for path in files() if path.suffix in TEXT or path in named]
    return [path for path in found if path != Path(__file__)]
