"""Every guarantee that a page gives is held by a test that exists."""

from __future__ import annotations

import re

import pytest

from tests.tree import ROOT, files

PAGES = ["docs/concepts/processes.md"]
NAMED = re.compile(r"`(test_\w+)`")
DEFINED = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_names_only_tests_that_exist(page: str) -> None:
    named = set(NAMED.findall((ROOT / page).read_text()))
    sources = (path.read_text() for path in files(".py", under="tests"))
    defined = {name for text in sources for name in DEFINED.findall(text)}
    assert named, f"{page} names no test"
    assert named - defined == set()
