"""Find a Python >= 3.12, keep a virtual environment in step with it, build.

Runs on the standard library of Python 3.8 or later, so that ``make setup`` works
where the newest Python is not the one called ``python3``. A second run finds its
stamps unchanged and does nothing. What is missing is said in one line.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import (
    Any,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Union,
)

ROOT = Path(__file__).resolve().parent.parent
PYTHON_MIN = (3, 12)
PIP_MIN = "25.1"  # The first with --group.
NAMES = ("python3.13", "python3.12", "python3.14", "python3")
PYENV_PREFERENCE = ("3.13", "3.12", "3.14")
PROBE_TIMEOUT_S = 30
PROBE = """
import ssl, sqlite3, venv, ctypes
import json, os, sys, sysconfig
print(json.dumps({
    "version": list(sys.version_info[:3]),
    "path": os.path.realpath(getattr(sys, "_base_executable", sys.executable)),
    "include": sysconfig.get_path("include"),
    "cc": sysconfig.get_config_var("CC") or "cc",
    "gil": not sysconfig.get_config_var("Py_GIL_DISABLED"),
}))
"""


class Missing(Exception):
    """Something this script cannot install itself; the text is one line."""


class Interpreter(NamedTuple):
    """A Python that ran and has what we need."""

    path: str
    version: str
    include: str
    compiler: str

    @property
    def minor(self) -> str:
        """``3.13`` for ``3.13.0``."""
        return ".".join(self.version.split(".")[:2])


class Environment(NamedTuple):
    """A virtual environment of this checkout and the interpreter it belongs to."""

    folder: Path
    interpreter: Interpreter

    @property
    def python(self) -> Path:
        """Its own ``python``."""
        return self.folder / "bin" / "python"


def say(text: str) -> None:
    """Print one line of progress at once."""
    print(f"setup: {text}", flush=True)


def pyenv_pythons(environ: Mapping[str, str]) -> List[str]:
    """Every Python >= 3.12 that pyenv has, the preferred series first."""
    root = environ.get("PYENV_ROOT", "")
    pyenv = shutil.which("pyenv", path=environ.get("PATH"))
    if pyenv is not None:
        done = subprocess.run(
            [pyenv, "root"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        root = done.stdout.decode().strip() or root
    folder = Path(root or Path(environ.get("HOME", "/")) / ".pyenv")
    found: List[str] = []
    for series in PYENV_PREFERENCE:
        matches = folder.glob(f"versions/{series}*/bin/python3")
        found += sorted((str(p) for p in matches), key=_patch, reverse=True)
    return found


def candidates(environ: Mapping[str, str]) -> Iterator[str]:
    """What may be a Python >= 3.12, in the order in which it is tried."""
    if environ.get("PYTHON"):
        yield environ["PYTHON"]
    for name in NAMES:
        path = shutil.which(name, path=environ.get("PATH"))
        if path is not None:
            yield path
    for path in pyenv_pythons(environ):
        yield path


def probe(candidate: str) -> Union[Interpreter, str]:
    """Run ``candidate``; return it as an Interpreter, or why it will not do."""
    try:
        done = subprocess.run(
            [candidate, "-c", PROBE],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            timeout=PROBE_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run ({error.__class__.__name__})"
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip() or "says nothing"
        # A version manager's first line says it; a traceback's last one does.
        return said.splitlines()[-1 if "Traceback" in said else 0]
    try:
        told = json.loads(done.stdout)
        version = tuple(told["version"])
        text = ".".join(str(part) for part in version)
        if version < PYTHON_MIN:
            return f"is Python {text}"
        if not told["gil"]:
            return "is a free-threaded build, for which our dependencies have no wheels"
        return Interpreter(told["path"], text, told["include"], told["cc"])
    except (ValueError, KeyError, TypeError):
        return "does not answer like a Python"


def interpreters(environ: Mapping[str, str]) -> Iterator[Interpreter]:
    """Every interpreter that will do, each once, in order of preference."""
    seen = set()
    for candidate in candidates(environ):
        answer = probe(candidate)
        if isinstance(answer, str):
            if candidate == environ.get("PYTHON"):
                say(f"PYTHON={candidate} {answer}; looking further")
        elif answer.path not in seen:
            seen.add(answer.path)
            yield answer


def find(environ: Mapping[str, str]) -> Interpreter:
    """The preferred interpreter.

    Raises:
        Missing: None was found; says how to get one.
    """
    for interpreter in interpreters(environ):
        return interpreter
    raise Missing(
        "no Python >= 3.12 with ssl, sqlite3, venv and ctypes found: install one"
        " (pyenv install 3.13, or your system's python3.13 and python3.13-venv)"
        " or name it in PYTHON=/path/to/python3"
    )


def environments(environ: Mapping[str, str]) -> List[Environment]:
    """One environment per minor version found; the preferred one is ``.venv``."""
    by_minor: Dict[str, Interpreter] = {}
    for interpreter in interpreters(environ):
        by_minor.setdefault(interpreter.minor, interpreter)
    if not by_minor:
        find(environ)
    first = next(iter(by_minor))
    return [
        Environment(ROOT / (".venv" if minor == first else f".venv-{minor}"), found)
        for minor, found in by_minor.items()
    ]


def require_compiler(
    interpreter: Interpreter, environ: Mapping[str, str], group: str = "dev"
) -> None:
    """Check for what compiling ``group`` and ourselves needs.

    Raises:
        Missing: There is no C compiler, no ``Python.h``, or no C++ compiler.
    """
    cpp = environ.get("CXX", "g++").split()[0]
    if group == "bench" and shutil.which(cpp, path=environ.get("PATH")) is None:
        raise Missing(f"no C++ compiler ({cpp}) for erlpack: apt-get install g++")
    compiler = (environ.get("CC") or interpreter.compiler).split()[0]
    if shutil.which(compiler, path=environ.get("PATH")) is None:
        raise Missing(
            f"no C compiler ({compiler}): apt-get install gcc libc6-dev, or set CC"
        )
    if not (Path(interpreter.include) / "Python.h").exists():
        raise Missing(
            f"no Python.h for Python {interpreter.version}:"
            f" apt-get install python{interpreter.minor}-dev"
        )


def prepare(environment: Environment, group: str = "dev") -> None:
    """Bring one environment up to date: create, install, build, as far as needed.

    Raises:
        Missing: A step failed for something to be installed by hand.
    """
    started_s = time.monotonic()
    require_compiler(environment.interpreter, os.environ, group)
    fresh = _create(environment)
    stamp = _read_stamp(environment)
    groups = sorted({"dev", group, *stamp.get("groups", [])})
    wanted = {
        "groups": groups,
        "installed": _digest([], extra=_requirements() + ",".join(groups)),
        "built": _digest(_sources(), extra=os.environ.get("BARREL_P2P_SANITIZE", "")),
    }
    install = fresh or stamp.get("installed") != wanted["installed"]
    outputs = [ROOT / name for name in stamp.get("outputs", [])]
    built = stamp.get("built") == wanted["built"] and all(p.exists() for p in outputs)
    if install:
        _install(environment, groups)
    elif not built:
        setup = [str(environment.python), "setup.py", "-q", "build_ext", "--inplace"]
        _step(environment, "building the extensions", setup)
    if not install and built:
        say(f"{environment.folder.name} is up to date ({_title(environment)})")
        return
    wanted["outputs"] = sorted(
        str(p.relative_to(ROOT)) for p in ROOT.glob("barrel_p2p/**/_*.so")
    )
    _stamp_path(environment).write_text(json.dumps(wanted, indent=1) + "\n")
    say(f"{environment.folder.name} is ready, {time.monotonic() - started_s:.0f} s")


def _create(environment: Environment) -> bool:
    # The key is what venv itself wrote down: the real interpreter and its version.
    folder, interpreter = environment
    facts = _facts(folder / "pyvenv.cfg")
    same = (
        os.path.realpath(facts.get("executable", "")) == interpreter.path
        and facts.get("version") == interpreter.version
    )
    if same and environment.python.exists():
        return not _stamp_path(environment).exists()
    if folder.exists():
        say(f"{folder.name} belongs to another Python; making it anew")
        shutil.rmtree(str(folder))
    say(f"{folder.name} for {_title(environment)}")
    command = [interpreter.path, "-m", "venv", str(folder)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        shutil.rmtree(str(folder), ignore_errors=True)
        raise Missing(
            f"{interpreter.path} -m venv fails:"
            f" apt-get install python{interpreter.minor}-venv"
        )
    return True


def _install(environment: Environment, groups: List[str]) -> None:
    pip = [str(environment.python), "-m", "pip", "install", "-q", "--no-input"]
    _step(environment, "updating pip", [*pip, f"pip>={PIP_MIN}"])
    # The project is built without isolation, so what builds it comes first.
    flags = [flag for name in groups for flag in ("--group", name)]
    _step(environment, f"installing packages ({', '.join(groups)})", [*pip, *flags])
    project = [*pip, "--no-build-isolation", "-e", "."]
    _step(environment, "installing the project and building its extensions", project)


def _step(environment: Environment, what: str, command: List[str]) -> None:
    log = environment.folder / "setup.log"
    started_s = time.monotonic()
    say(what)
    with log.open("wb") as output:
        child = subprocess.Popen(
            command, cwd=str(ROOT), stdout=output, stderr=subprocess.STDOUT
        )
        while True:
            try:
                code = child.wait(timeout=15)
                break
            except subprocess.TimeoutExpired:
                say(f"  still {what}, {time.monotonic() - started_s:.0f} s")
    if code != 0:
        tail = log.read_text(errors="replace").splitlines()[-40:]
        print("\n".join(tail), flush=True)
        raise Missing(f"{what} failed, the whole output is in {log.relative_to(ROOT)}")


def _requirements() -> str:
    # Settings of tools come last in the file, and do not change what is installed.
    return (ROOT / "pyproject.toml").read_text().partition("\n[tool.")[0]


def _sources() -> List[Path]:
    patterns = (
        "setup.py",
        "barrel_p2p/**/*.pyx",
        "barrel_p2p/**/*.px[di]",
        "barrel_p2p/**/_build.py",
        "csrc/**/*.[ch]",
    )
    # What Cython and cffi generate lies beside its source and is no source.
    return sorted(path for pattern in patterns for path in ROOT.glob(pattern))


def _digest(paths: Iterable[Path], *, extra: str) -> str:
    total = hashlib.sha256(extra.encode())
    for path in paths:
        total.update(str(path.relative_to(ROOT)).encode() + b"\0")
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def _read_stamp(environment: Environment) -> Dict[str, Any]:
    try:
        return dict(json.loads(_stamp_path(environment).read_text()))
    except (OSError, ValueError, TypeError):
        return {}


def _stamp_path(environment: Environment) -> Path:
    return environment.folder / "barrel-setup.json"


def _facts(path: Path) -> Dict[str, str]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    return {k.strip(): v.strip() for k, _, v in (line.partition("=") for line in lines)}


def _title(environment: Environment) -> str:
    return f"Python {environment.interpreter.version}, {environment.interpreter.path}"


def _patch(path: str) -> List[int]:
    name = Path(path).parents[1].name
    return [int("".join(filter(str.isdigit, part)) or 0) for part in name.split(".")]


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold this checkout's lock: two builds in one tree spoil each other."""
    folder = ROOT / ".cache"
    folder.mkdir(exist_ok=True)
    with (folder / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(argv: Optional[List[str]] = None) -> int:
    """Prepare one environment, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--group", default="dev", help="dependency group to add")
    parser.add_argument("--every", action="store_true", help="every Python found")
    options = parser.parse_args(argv)
    try:
        with alone():
            if options.every:
                for environment in environments(os.environ):
                    prepare(environment, options.group)
            else:
                prepare(Environment(ROOT / ".venv", find(os.environ)), options.group)
    except Missing as missing:
        print(f"setup: {missing}", file=sys.stderr, flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
