"""Every file is where a newcomer looks for it."""

from __future__ import annotations

import re
import tomllib
from collections import Counter

from tests.tree import ROOT, files

TOP_FOLDERS = {".ci", "barrel_p2p", "bench", "csrc", "docs", "tests"}
TOP_FILES = {
    ".clang-format",
    ".gitignore",
    ".python-version",
    "CHANGELOG.md",
    "CMakeLists.txt",
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "pyproject.toml",
    "setup.py",
}
TARGETS = ["setup", "demo", "sim", "test", "test-all", "lint", "bench"]
TARGETS += ["state-faults", "deep", "wheel", "docs", "clean"]
FRAGMENT = re.compile(r"(?:\d+|\+[a-z0-9-]+)\.(?:added|changed|fixed|security)\.md")
LINK = re.compile(r"\]\((?!https?://|#|mailto:)([^)#\s]+)")
SHIPPED_BY_HAND = {"_engine"}  # cffi builds it; there is no .pyx.


def test_the_top_level_stays_as_it_is() -> None:
    tops = {path.relative_to(ROOT).parts for path in files()}
    assert {parts[0] for parts in tops if len(parts) > 1} <= TOP_FOLDERS
    assert {parts[0] for parts in tops if len(parts) == 1} <= TOP_FILES


def test_every_compiled_module_has_a_stub_and_a_face() -> None:
    bare = [
        str(path.relative_to(ROOT))
        for path in files(".pyx")
        if not path.with_suffix(".pyi").exists()
        or not path.with_name(path.stem.removeprefix("_") + ".py").exists()
    ]
    assert bare == []


def test_every_stub_describes_a_compiled_module() -> None:
    stale = [
        str(path.relative_to(ROOT))
        for path in files(".pyi", under="barrel_p2p")
        if not path.with_suffix(".pyx").exists() and path.stem not in SHIPPED_BY_HAND
    ]
    assert stale == []


def test_test_files_have_unique_names_and_folders_are_no_packages() -> None:
    names = Counter(path.name for path in files(".py", under="tests"))
    packages = {"tests/__init__.py", "tests/models/__init__.py"}
    found = {p for p in files(".py", under="tests") if p.name == "__init__.py"}
    assert {str(p.relative_to(ROOT)) for p in found} == packages
    assert [n for n, count in names.items() if count > 1 and n != "__init__.py"] == []


def test_every_room_says_what_it_is() -> None:
    for path in files(".py", under="barrel_p2p"):
        if path.name == "__init__.py" and path.parent.name != "barrel_p2p":
            text = path.read_text()
            assert all(f"\n{word}:" in text for word in ("In", "Out", "From")), path


def test_the_makefile_has_the_promised_targets_each_with_a_line() -> None:
    rules = re.findall(r"^([a-z-]+):(.*)$", (ROOT / "Makefile").read_text(), re.M)
    assert [name for name, _ in rules if name != "help"] == TARGETS
    assert all("## " in rest for name, rest in rules if name != "help")


def test_every_command_of_the_readme_exists() -> None:
    text = (ROOT / "README.md").read_text()
    used = set(re.findall(r"(?:^|[`\d] ?)make ([a-z-]+)", text, re.M))
    assert used <= set(TARGETS)
    assert {"setup", "test", "lint"} <= used


def test_every_link_inside_the_repository_leads_to_a_file() -> None:
    broken = [
        f"{path.relative_to(ROOT)}: {target}"
        for path in files(".md")
        for target in LINK.findall(path.read_text())
        if not (path.parent / target).exists()
    ]
    assert broken == []


def test_declared_pythons_are_the_listed_ones() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = (ROOT / ".python-version").read_text().split()
    prefix = "Programming Language :: Python :: 3."
    declared = [c.rsplit(" ", 1)[1] for c in project["classifiers"] if prefix in c]
    assert sorted(declared) == sorted(listed) == ["3.12", "3.13"]
    assert listed[0] == "3.13"


def test_change_fragments_are_named_so_that_the_changelog_finds_them() -> None:
    folder = ROOT / "docs" / "changes"
    names = {p.name for p in files(".md", under="docs/changes")} - {"README.md"}
    assert folder.is_dir()
    assert {name for name in names if not FRAGMENT.fullmatch(name)} == set()
