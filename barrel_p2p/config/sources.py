"""Where configuration comes from besides code: the environment, and files.

Bounded by ``TOML_BYTES_MAX`` and ``COOKIE_FILE_BYTES_MAX``.

Source: TOML 1.0.
"""

from __future__ import annotations

import os
import shlex
import stat
import tomllib
from collections.abc import Iterable, Mapping

from barrel_p2p.config.suggestions import did_you_mean, nearest
from barrel_p2p.errors import ConfigError

__all__ = [
    "COOKIE_FILE_BYTES_MAX",
    "TOML_BYTES_MAX",
    "VARIABLE_PREFIX",
    "check_keys",
    "read_cookie_file",
    "read_environment",
    "read_toml",
]

TOML_BYTES_MAX = 1_048_576
COOKIE_FILE_BYTES_MAX = 4_096
VARIABLE_PREFIX = "BARREL_P2P_"

# Read elsewhere: by the build, the engine and the tests.
_OTHER_VARIABLES = frozenset({"DEEP", "ONLY", "PICOQUIC", "SANITIZE"})


def check_keys(found: Iterable[str], known: tuple[str, ...], origin: str) -> None:
    """Refuse a key that does not exist.

    Raises:
        ConfigError: One does not; the text says which one was probably meant.
    """
    for key in found:
        if key not in known:
            raise ConfigError(
                f"unknown key {key!r} from {origin}{did_you_mean(key, known)}",
                hint="all keys are in docs/reference/config.md",
            )


def read_environment(
    environment: Mapping[str, str], known: tuple[str, ...]
) -> dict[str, tuple[str, str]]:
    """Keys that ``environment`` sets: each with its variable and its text.

    Raises:
        ConfigError: A variable looks like a key with a slip in it. Any other variable
            with our prefix is somebody else's business.
    """
    found: dict[str, tuple[str, str]] = {}
    for variable, text in environment.items():
        if not variable.startswith(VARIABLE_PREFIX):
            continue
        name = variable.removeprefix(VARIABLE_PREFIX)
        key = name.lower()
        if name in _OTHER_VARIABLES:
            continue
        if key in known and name == key.upper():
            found[key] = (variable, text)
        elif meant := nearest(key, known):
            raise ConfigError(
                f"environment variable {variable} is no key; did you mean "
                f"{VARIABLE_PREFIX}{meant.upper()}?"
            )
    return found


def read_toml(path: str | os.PathLike[str]) -> dict[str, object]:
    """The keys of a TOML file.

    Raises:
        ConfigError: It cannot be read, is larger than ``TOML_BYTES_MAX`` or no TOML.
    """
    data = _read(path, TOML_BYTES_MAX, private=False)
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigError(f"{os.fspath(path)} is no TOML: {error}") from error


def read_cookie_file(path: str) -> str:
    """The secret in ``path``, without the line end behind it.

    Raises:
        ConfigError: It cannot be read, others may read it, or it is no text.
    """
    data = _read(path, COOKIE_FILE_BYTES_MAX, private=True)
    try:
        return data.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the cookie in {path} is not UTF-8") from error


def _read(path: str | os.PathLike[str], bytes_max: int, *, private: bool) -> bytes:
    # A pipe without a writer must not hold up the start.
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(path, flags), "rb") as file:
            _check_file(path, os.fstat(file.fileno()), private=private)
            data = file.read(bytes_max + 1)
    except ConfigError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ConfigError(f"cannot read {os.fspath(path)!r}: {reason}") from error
    if len(data) > bytes_max:
        raise ConfigError(f"{os.fspath(path)} is larger than {bytes_max} bytes")
    return data


def _check_file(
    path: str | os.PathLike[str], found: os.stat_result, *, private: bool
) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise ConfigError(f"{os.fspath(path)} is no regular file")
    if not private:
        return
    quoted = shlex.quote(os.fspath(path))
    if found.st_uid not in (os.geteuid(), 0):
        raise ConfigError(
            f"{os.fspath(path)} belongs to user {found.st_uid}, not to us",
            hint=f"chown {os.geteuid()} {quoted}",
        )
    if found.st_mode & 0o077:
        raise ConfigError(
            f"others have access to {os.fspath(path)}: its mode is "
            f"{stat.S_IMODE(found.st_mode):04o}",
            hint=f"chmod 600 {quoted}",
        )
