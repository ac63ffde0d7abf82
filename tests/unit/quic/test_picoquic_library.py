"""Whoever lacks picoquic learns which file or symbol is missing, and what to do.

The library is bound once a process, so every case is a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from barrel_p2p.quic._engine import ffi, lib
from barrel_p2p.quic.library import PICOQUIC_VARIABLE, WHEEL_VERSION, picoquic_path
from tests.endpoints import certificate
from tests.tools import require_file, require_tool
from tests.tree import ROOT

BIND = "from barrel_p2p.quic.library import picoquic_table; picoquic_table()"
HIDDEN = "import sys; sys.modules['aiopquic'] = None; "
SYMBOLS = re.compile(r"\bX\([^,]+?,\s*(picoquic_\w+)")
BUILT = ROOT / "build" / "release" / "libpicoquic_barrel.so"
BUILD_IT = (
    "cmake -S . -B build/release && "
    "cmake --build build/release --target picoquic_barrel"
)
CONVERSATION = """
import asyncio, json, sys
from pathlib import Path
from barrel_p2p.auth.certs import ensure_certificate
from barrel_p2p.carrier.endpoint import Endpoint
from barrel_p2p.quic._engine import ffi, lib

async def main():
    pair = ensure_certificate(Path(sys.argv[1]))
    near = await Endpoint.open("127.0.0.1", 0, certificate=pair)
    far = await Endpoint.open("127.0.0.1", 0, certificate=pair)
    async with asyncio.timeout(20):
        dialled, accepted = await asyncio.gather(
            near.connect(*far.address), far.accept())
        stream = dialled.open_stream(priority=16)
        await stream.write(bytes(range(256)) * 1000)
        stream.finish()
        other = await accepted.accept_stream()
        got = bytearray()
        while chunk := await other.read():
            got += chunk
        refused = dialled.open_stream(uni=True)
        await refused.write(b"x")
        refused.reset(9)
        other = await accepted.accept_stream()
        try:
            await other.readexactly(2)
        except Exception as error:
            outcome = type(error).__name__
        same = dialled.exporter("EXPORTER-test") == accepted.exporter("EXPORTER-test")
        moved = await dialled.migrate(near.add_socket("127.0.0.1"))
        accepted.close(0x123, "bye")
        how = await dialled.wait_closed()
    await near.close()
    await far.close()
    sizes = ffi.new("size_t[4]")
    lib.bp_engine_sizes(sizes)
    whole = bytes(got) == bytes(range(256)) * 1000
    print(json.dumps({"whole": whole, "outcome": outcome, "same": same,
        "moved": moved, "how": str(how), "sizes": list(sizes)}))

asyncio.run(main())
"""


def run(
    code: str, *arguments: str, path: Path | None = None, library: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a fresh interpreter, ``path`` first on its module path."""
    environment = {k: v for k, v in os.environ.items() if k != PICOQUIC_VARIABLE}
    environment["PYTHONPATH"] = os.pathsep.join(str(p) for p in (path, ROOT) if p)
    if library is not None:
        environment[PICOQUIC_VARIABLE] = str(library)
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=50
    )


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The last line of a run that must have ended with an ImportError."""
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("ImportError: ")
    return last


def compiled(path: Path, symbols: list[str]) -> Path:
    """A shared object that exports ``symbols`` and nothing else."""
    source = path.with_suffix(".c")
    source.write_text("".join(f"void {name}(void) {{}}\n" for name in symbols))
    command = [require_tool("gcc"), "-shared", "-fPIC", "-o", str(path), str(source)]
    subprocess.run(command, check=True, timeout=50)
    return path


def wanted_symbols() -> list[str]:
    """Every picoquic function the engine asks for."""
    return SYMBOLS.findall((ROOT / "csrc/quic/picoquic_symbols.h").read_text())


def fake_wheel(directory: Path, version: str) -> Path:
    """A package aiopquic of some version, with no picoquic inside."""
    (directory / "aiopquic").mkdir()
    (directory / "aiopquic" / "__init__.py").write_text("raise RuntimeError\n")
    information = directory / f"aiopquic-{version}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Name: aiopquic\nVersion: {version}\n")
    return directory


def test_the_wheel_is_bound_without_importing_its_package() -> None:
    done = run(f"{BIND}; import sys; sys.exit('aiopquic' in sys.modules)")
    assert (done.returncode, done.stderr) == (0, "")


def test_without_the_wheel_the_error_names_it_and_the_way_out() -> None:
    text = complaint(run(HIDDEN + BIND))
    assert "no package aiopquic" in text
    assert f"pip install aiopquic=={WHEEL_VERSION}" in text
    assert PICOQUIC_VARIABLE in text


def test_another_release_of_the_wheel_is_refused_by_version(tmp_path: Path) -> None:
    text = complaint(run(BIND, path=fake_wheel(tmp_path, "9.9.9")))
    assert "aiopquic 9.9.9 is installed" in text
    assert f"pip install aiopquic=={WHEEL_VERSION}" in text


def test_a_wheel_without_the_shared_object_is_refused_by_file(tmp_path: Path) -> None:
    text = complaint(run(BIND, path=fake_wheel(tmp_path, WHEEL_VERSION)))
    assert f"_transport{sysconfig.get_config_var('EXT_SUFFIX')}" in text
    assert str(tmp_path / "aiopquic") in text
    assert f"pip install aiopquic=={WHEEL_VERSION}" in text


def test_a_named_library_that_is_no_file_is_refused_by_path(tmp_path: Path) -> None:
    text = complaint(run(BIND, library=tmp_path / "absent.so"))
    assert str(tmp_path / "absent.so") in text
    assert PICOQUIC_VARIABLE in text


def test_a_named_library_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"not an object")
    text = complaint(run(BIND, library=broken))
    assert str(broken) in text
    assert "pip install" in text


@pytest.mark.parametrize("place", [0, 1, -1])
def test_one_missing_symbol_is_named(tmp_path: Path, place: int) -> None:
    names = wanted_symbols()
    missing = names.pop(place)
    library = compiled(tmp_path / "partial.so", names)
    text = complaint(run(BIND, library=library))
    assert re.search(rf"\b{missing}\b", text)
    assert str(library) in text
    assert "pip install" in text


def test_the_wheels_own_object_may_be_named() -> None:
    there = picoquic_path()
    done = run(BIND, library=there)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_library_that_failed_once_can_be_replaced_in_the_same_process(
    tmp_path: Path,
) -> None:
    code = (
        "import os\n"
        "from barrel_p2p.quic.library import picoquic_table\n"
        "try:\n    picoquic_table()\n"
        "except ImportError:\n"
        f"    del os.environ[{PICOQUIC_VARIABLE!r}]\n"
        "    picoquic_table()\n"
        "    print('bound')\n"
    )
    library = compiled(tmp_path / "empty.so", ["something_else"])
    assert run(code, library=library).stdout == "bound\n"


def test_sizes_of_the_engine_are_those_its_callers_use() -> None:
    sizes = ffi.new("size_t[4]")
    lib.bp_engine_sizes(sizes)
    names = ("bp_config_t", "bp_event_t", "bp_path_stats_t")
    assert list(sizes)[:3] == [ffi.sizeof(name) for name in names]


def test_the_built_library_behaves_as_the_wheels(tmp_path: Path) -> None:
    built = require_file(BUILT, BUILD_IT)
    directory = str(certificate().cert_file.parent)
    outcomes = []
    for library in (None, built):
        done = run(CONVERSATION, directory, library=library)
        assert done.stderr == ""
        outcomes.append(json.loads(done.stdout))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0]["whole"]
    assert outcomes[0]["moved"]
    assert outcomes[0]["outcome"] == "StreamReset"
