"""Every acceptance row of a finished section has a test, or a reason why not."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter

from tests.tree import ROOT, files, parsed

FOLDER = ROOT / "tests" / "acceptance"
ID = re.compile(r"\b(?:[A-Z]{3}-\d{2}|E\d{1,2})\b")
ROW = re.compile(r"^\| ((?:[A-Z]{3}-\d{2})|E\d{1,2}) \| (.{20,}) \|$", re.M)
REASONS = "not_applicable.md"


def test_ids_are_listed_once_and_look_like_ids() -> None:
    ids = (FOLDER / "ids.txt").read_text().split()
    assert [i for i, n in Counter(ids).items() if n > 1 or not ID.fullmatch(i)] == []
    assert len(ids) > 0


def test_every_finished_row_is_tested_or_has_a_reason() -> None:
    assert finished() - covered() - set(reasons()) == set()


def test_a_row_with_a_reason_is_known_and_not_tested() -> None:
    assert set(reasons()) <= known()
    assert set(reasons()) & covered() == set()
    text = (FOLDER / REASONS).read_text()
    assert len(reasons()) == text.count("\n| ") - 1, "a row is malformed"


def test_tests_and_lists_name_known_rows_only() -> None:
    assert covered() <= known()
    assert finished() <= known()


def known() -> set[str]:
    """Every id of the checklist."""
    return set((FOLDER / "ids.txt").read_text().split())


def finished() -> set[str]:
    """Ids that must hold now."""
    lists = tomllib.loads((FOLDER / "finished.toml").read_text())
    sections = set(lists["sections"])
    rows = {i for i in known() if i.partition("-")[0] in sections}
    assert {i.partition("-")[0] for i in rows} == sections, "an unknown section"
    return rows | set(lists["rows"])


def reasons() -> dict[str, str]:
    """Id to the reason why its row does not apply to us."""
    return dict(ROW.findall((FOLDER / REASONS).read_text()))


def covered() -> set[str]:
    """Ids named in the docstring of a test function."""
    return {
        i
        for path in files(".py", under="tests")
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        for i in ID.findall(ast.get_docstring(node) or "")
    }
