"""Every example that the documentation marks `test` runs, and prints what it says.

The mark stands in the line that opens a block: ```` ```python test ````. If the next
block is a ```` ```text output ````, that is what the example prints, to the byte.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from tests.tree import ROOT, files

SECONDS_MAX = 30
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
STRICT = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: where it is, what its opening line says, what it holds."""

    place: str
    info: str
    text: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(
            f"{page.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}",
            match.group(1).strip(),
            match.group(2),
        )
        for match in FENCE.finditer(text)
    ]


PAGES = [path for path in files(".md") if path.is_relative_to(ROOT / "docs")]
BLOCKS = [blocks(page) for page in (ROOT / "README.md", *PAGES)]
EXAMPLES = [
    (block, following.text if following and following.info == "text output" else None)
    for page in BLOCKS
    for block, following in pairwise([*page, None])
    if block is not None and block.info == "python test"
]


DEFAULT_COOKIE = "dist_cookie is the default, which everybody knows"


@pytest.mark.parametrize(
    ("example", "printed"), EXAMPLES, ids=[block.place for block, _ in EXAMPLES]
)
def test_an_example_runs_and_prints_what_the_page_says(
    example: Block, printed: str | None, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", example.text],
        cwd=tmp_path,
        env=os.environ | STRICT,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
    )
    # What a node says of its cookie on loopback is right, and part of no page.
    said = [line for line in done.stderr.splitlines() if DEFAULT_COOKIE not in line]
    assert (done.returncode, said) == (0, [])
    if printed is not None:
        assert done.stdout == printed


def test_the_first_program_is_the_same_wherever_it_is_shown() -> None:
    hello = (ROOT / "docs/examples/hello.py").read_text()
    shown = [block for page in BLOCKS for block in page if "Greeter" in block.text]
    assert {block.place.split(":")[0] for block in shown} == {
        "README.md",
        "docs/tutorials/getting-started.md",
    }
    assert all(block.text == hello for block in shown)


def test_the_tutorial_and_the_settings_have_an_example_that_runs() -> None:
    pages = {block.place.partition(":")[0] for block, _ in EXAMPLES}
    assert {"docs/tutorials/first-connection.md", "docs/reference/settings.md"} <= pages


def test_an_example_that_does_not_run_is_python_all_the_same() -> None:
    for page in BLOCKS:
        for block in page:
            if block.info.startswith("python"):
                compile(block.text, block.place, "exec")


def test_the_two_terminals_of_the_tutorial_talk(tmp_path: Path) -> None:
    page = (ROOT / "docs/tutorials/first-connection.md").read_text()
    port = free_udp_port()
    for name in ("listen.py", "dial.py"):
        code = page.partition(f"`{name}`:\n")[2].partition("```python\n")[2]
        assert code.count("9100") > 0
        text = code.partition("```\n")[0].replace("9100", str(port))
        (tmp_path / name).write_text(text)
    python = [sys.executable, "-u"]
    environment = os.environ | STRICT
    with subprocess.Popen(
        [*python, "listen.py"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as listener:
        try:
            assert listener.stdout is not None
            dial_until_it_works([*python, "dial.py"], tmp_path, environment)
            assert listener.stdout.readline().startswith("b'hello' from ('127.0.0.1', ")
        finally:
            listener.kill()
    assert (tmp_path / "data" / "listener" / "node.crt").exists()


def dial_until_it_works(
    command: list[str], folder: Path, environment: dict[str, str]
) -> None:
    """A listener that is still starting refuses; it says nothing when it is ready."""
    for _ in range(SECONDS_MAX):
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True
        )
        if done.returncode == 0:
            return
        assert "PeerUnreachable" in done.stderr
    pytest.fail("the listener of the tutorial never answered")


def free_udp_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        assert isinstance(port, int)
        return port
