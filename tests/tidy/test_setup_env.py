"""`make setup` takes the right Python from a PATH full of wrong ones."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.tree import ROOT

SCRIPTS = [ROOT / ".ci" / "setup_env.py", ROOT / ".ci" / "run_tests.py"]
SHIM = "#!/bin/sh\necho 'pyenv: python3.13: command not found' >&2\nexit 127\n"
GARBAGE = "#!/bin/sh\necho hello\n"
SLOW = "#!/bin/sh\nexec sleep 60\n"


@pytest.fixture(scope="module")
def setup_env() -> ModuleType:
    spec = importlib.util.spec_from_file_location("setup_env", SCRIPTS[0])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["setup_env"] = module  # NamedTuple looks its module up.
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with nothing on PATH but a shell's own folder for programs."""
    (tmp_path / "bin").mkdir()
    return {"PATH": str(tmp_path / "bin"), "HOME": str(tmp_path)}


def test_a_failing_shim_is_passed_over(
    setup_env: ModuleType, environ: dict[str, str]
) -> None:
    put(environ, "python3.13", SHIM)
    real = put(environ, "python3.12", real_python())
    assert list(setup_env.candidates(environ)) == [str(real.with_name(n)) for n in BOTH]
    assert setup_env.probe(str(real.with_name("python3.13"))) == (
        "pyenv: python3.13: command not found"
    )
    assert setup_env.find(environ) == setup_env.probe(sys.executable)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GARBAGE, "does not answer like a Python"),
        (SLOW, "does not run (TimeoutExpired)"),
        ("not a program", "does not run (OSError)"),
        (SHIM, "pyenv: python3.13: command not found"),
    ],
    ids=["garbage", "slow", "no program", "shim"],
)
def test_what_is_no_python_says_why(
    setup_env: ModuleType,
    environ: dict[str, str],
    text: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(setup_env, "PROBE_TIMEOUT_S", 5 if text != SLOW else 0.2)
    assert setup_env.probe(str(put(environ, "python3", text))) == reason


def test_an_old_python_is_refused_by_what_it_prints(
    setup_env: ModuleType, environ: dict[str, str]
) -> None:
    put(environ, "python3.13", answering([3, 11, 9]))
    real = put(environ, "python3", real_python())
    assert setup_env.probe(str(real.with_name("python3.13"))) == "is Python 3.11.9"
    assert setup_env.find(environ) == setup_env.probe(str(real))


@pytest.mark.parametrize("missing", ["ssl", "sqlite3", "venv", "ctypes"])
def test_a_python_without_a_needed_module_is_refused(
    setup_env: ModuleType, environ: dict[str, str], missing: str
) -> None:
    text = real_python(f"import sys; sys.modules['{missing}'] = None")
    answer = setup_env.probe(str(put(environ, "python3", text)))
    assert answer.startswith("ModuleNotFoundError")
    assert missing in answer


def test_candidates_come_in_the_promised_order(
    setup_env: ModuleType, environ: dict[str, str], tmp_path: Path
) -> None:
    names = ["python3", "python3.14", "python3.12", "python3.13"]
    on_path = [str(put(environ, name, SHIM)) for name in names]
    versions = ["3.14.0", "3.12.1", "3.13.2", "3.13.10", "3.11.7"]
    in_pyenv = [
        put({"PATH": str(tmp_path / "pyenv" / "versions" / v / "bin")}, "python3", SHIM)
        for v in versions
    ]
    put(environ, "pyenv", f"#!/bin/sh\necho {tmp_path / 'pyenv'}\n")
    environ["PYTHON"] = "/chosen/python"
    preferred = [in_pyenv[i] for i in (3, 2, 1, 0)]
    expected = ["/chosen/python", *on_path[::-1]]
    assert list(setup_env.candidates(environ)) == expected + [str(p) for p in preferred]


def test_pyenv_is_found_by_its_folder_when_it_is_not_on_path(
    setup_env: ModuleType, environ: dict[str, str], tmp_path: Path
) -> None:
    bin_folder = tmp_path / ".pyenv" / "versions" / "3.12.1" / "bin"
    only = put({"PATH": str(bin_folder)}, "python3", real_python())
    assert list(setup_env.candidates(environ)) == [str(only)]
    assert setup_env.find(environ) == setup_env.probe(sys.executable)


def test_a_refused_choice_is_said_and_the_search_goes_on(
    setup_env: ModuleType, environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    put(environ, "python3", real_python())
    environ["PYTHON"] = "/no/such/python"
    assert setup_env.find(environ) == setup_env.probe(sys.executable)
    assert "PYTHON=/no/such/python does not run" in capsys.readouterr().out


def test_no_python_is_one_line_that_says_how_to_get_one(
    setup_env: ModuleType, environ: dict[str, str]
) -> None:
    put(environ, "python3", SHIM)
    with pytest.raises(setup_env.Missing, match=r"no Python >= 3\.12 .*pyenv install"):
        setup_env.find(environ)


def test_no_compiler_is_one_line_that_says_how_to_get_one(
    setup_env: ModuleType, environ: dict[str, str]
) -> None:
    found = setup_env.probe(sys.executable)
    with pytest.raises(setup_env.Missing, match=r"no C compiler .*get install gcc"):
        setup_env.require_compiler(found, environ)
    put(environ, "my-cc", SHIM)
    bare = found._replace(include="/no/such/folder")
    with pytest.raises(setup_env.Missing, match=r"no Python\.h .*-dev"):
        setup_env.require_compiler(bare, {**environ, "CC": "my-cc -O2"})
    setup_env.require_compiler(found, {**environ, "CC": "my-cc -O2"})
    with pytest.raises(setup_env.Missing, match=r"no C\+\+ compiler .*install g\+\+"):
        setup_env.require_compiler(found, {**environ, "CC": "my-cc -O2"}, "bench")


def test_each_minor_version_gets_one_environment(
    setup_env: ModuleType, environ: dict[str, str]
) -> None:
    put(environ, "python3.13", answering([3, 13, 2], "/a/python"))
    put(environ, "python3.12", answering([3, 12, 9], "/b/python"))
    put(environ, "python3", answering([3, 13, 1], "/c/python"))
    found = setup_env.environments(environ)
    assert [(e.folder.name, e.interpreter.path) for e in found] == [
        (".venv", "/a/python"),
        (".venv-3.12", "/b/python"),
    ]


def test_an_environment_of_another_python_is_made_anew(
    setup_env: ModuleType, tmp_path: Path
) -> None:
    home = tmp_path / ".venv"
    environment = setup_env.Environment(home, setup_env.probe(sys.executable))
    (home / "bin").mkdir(parents=True)
    (home / "bin" / "python").touch()
    (home / "barrel-setup.json").write_text("{}")
    path = environment.interpreter.path
    (home / "pyvenv.cfg").write_text(f"executable = {path}\nversion = 3.12.99\n")
    assert setup_env._create(environment)
    assert not (home / "barrel-setup.json").exists()
    (home / "barrel-setup.json").write_text("{}")
    assert not setup_env._create(environment)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_run_on_python_3_8_and_the_standard_library(script: Path) -> None:
    tree = ast.parse(script.read_text(), feature_version=(3, 8))
    nodes = [n for n in ast.walk(tree) if isinstance(n, ast.Import | ast.ImportFrom)]
    names = {a.name for n in nodes if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module or "" for n in nodes if isinstance(n, ast.ImportFrom)}
    assert names <= sys.stdlib_module_names | {"setup_env"}


BOTH = ("python3.13", "python3.12")


def put(environ: dict[str, str], name: str, text: str) -> Path:
    """Write a program into the only folder on ``PATH``."""
    path = Path(environ["PATH"]) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def real_python(first: str = "") -> str:
    """A program that is this Python, after running ``first``."""
    if not first:
        return f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
    return f'#!/bin/sh\nexec "{sys.executable}" -c "{first}\n$2"\n'


def answering(version: list[int], path: str = "/x/python") -> str:
    """A program that answers the probe with ``version``, whatever it is asked."""
    told = {"version": version, "path": path, "include": "", "cc": "cc", "gil": True}
    return f"#!/bin/sh\necho '{json.dumps(told)}'\n"


assert os.sep == "/"  # The fakes are shell scripts.
