"""The way to a node that runs on this host: its directory, and the socket in it.

Bounded by ``NODES_MAX`` directories looked at.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from barrel_p2p.cli.refusals import Refused
from barrel_p2p.core.names import node_name
from barrel_p2p.errors import InvalidValue, PeerUnreachable, WireError
from barrel_p2p.node.control import ANSWER_BYTES_MAX
from barrel_p2p.node.data_dir import socket_path
from barrel_p2p.node.requests import Request

__all__ = [
    "DATA",
    "NODES_MAX",
    "ControlClient",
    "answered",
    "directory_of",
    "read_answer",
    "running_directory",
]

DATA: Final = Path("data")
NODES_MAX: Final = 1_000

_CHUNK_BYTES = 1 << 18
_GRACE_S = 5.0


def directory_of(node: str | None, data_dir: Path | None) -> Path:
    """Where a node keeps its things, whether it runs or not.

    Args:
        node: Its name; what stands before the ``@`` is enough if only one fits.
        data_dir: The directory itself, which beats ``node``.

    Raises:
        InvalidValue: None is there, or several and it was not said which.
    """
    if data_dir is not None:
        return data_dir
    found = _directories()
    if node is not None:
        if "@" in node:
            return DATA / node_name(node)
        found = [path for path in found if path.name.partition("@")[0] == node.lower()]
    return _only(found, node)


def running_directory(node: str | None, data_dir: Path | None) -> Path:
    """The directory of a node that runs: the only one of ``./data`` unless named.

    Raises:
        InvalidValue: Several run, and it was not said which.
        PeerUnreachable: None runs.
    """
    if node is not None or data_dir is not None:
        return directory_of(node, data_dir)
    running = [path for path in _directories() if _answers(path)]
    if not running:
        raise PeerUnreachable(
            f"no node runs under {DATA.absolute()}",
            hint="start one, or name one with --data-dir, --node or --peer",
        )
    return _only(running, None)


class ControlClient:
    """A conversation with a running node: ``with ControlClient(directory) as node``.

    Args:
        directory: The node's data directory.

    Raises:
        PeerUnreachable: No node takes commands there.
    """

    def __init__(self, directory: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path = socket_path(directory.absolute())
            self._socket.settimeout(_GRACE_S)
            self._socket.connect(os.fspath(path))
        except OSError as error:
            self._socket.close()
            raise PeerUnreachable(
                f"no node takes commands in {directory}: {error.strerror or error}",
                hint="start it, or name another with --data-dir, --node or --peer",
            ) from error
        except BaseException:
            self._socket.close()
            raise

    def ask(self, request: Request, *, patience_s: float = 0.0) -> Any:
        """What the node answers.

        Args:
            request: What is asked.
            patience_s: Seconds that it may take by itself.

        Raises:
            Refused: The node says why not.
            PeerUnreachable: It went away, or did not answer.
            WireError: What came is no answer.
        """
        self._socket.settimeout(patience_s + _GRACE_S)
        try:
            self._socket.sendall(msgspec.json.encode(request) + b"\n")
            line = self._line()
        except TimeoutError as error:
            raise PeerUnreachable("the node did not answer in time") from error
        except OSError as error:
            raise PeerUnreachable(f"the node went away: {error.strerror}") from error
        return read_answer(line)

    def wait_closed(self, seconds: float) -> bool:
        """Wait for the node to close the conversation; whether it did."""
        self._socket.settimeout(seconds)
        try:
            return self._socket.recv(1) == b""
        except TimeoutError:
            return False
        except OSError:
            return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def _line(self) -> bytes:
        parts: list[bytes] = []
        size = 0
        while not parts or not parts[-1].endswith(b"\n"):
            chunk = self._socket.recv(_CHUNK_BYTES)
            size += len(chunk)
            if not chunk:
                raise PeerUnreachable("the node went away without an answer")
            if size > ANSWER_BYTES_MAX + 1:
                raise WireError(
                    f"an answer exceeds ANSWER_BYTES_MAX={ANSWER_BYTES_MAX}"
                )
            parts.append(chunk)
        return b"".join(parts)


def read_answer(line: bytes) -> Any:
    """What a node has answered, or told of what happens.

    Raises:
        Refused: The node says why not.
        WireError: It is no answer.
    """
    try:
        return answered(json.loads(line))
    except (ValueError, RecursionError) as error:
        raise WireError(f"what came is no answer: {error}") from error


def answered(answer: object) -> Any:
    """What an answer holds. Raises as ``read_answer``."""
    if isinstance(answer, Mapping):
        for kind in ("ok", "event"):
            if kind in answer:
                return answer[kind]
        if isinstance(answer.get("error"), dict):
            raise Refused(answer["error"])
    raise WireError("what came is no answer")


def _directories() -> list[Path]:
    try:
        found = sorted(DATA.iterdir())[:NODES_MAX]
    except OSError:
        return []
    return [path for path in found if "@" in path.name and path.is_dir()]


def _only(found: list[Path], node: str | None) -> Path:
    if len(found) == 1:
        return found[0]
    said = "" if node is None else f" called {node!r}"
    if not found:
        raise InvalidValue(
            f"there is no node{said} under {DATA.absolute()}",
            hint="name its directory with --data-dir",
        )
    names = ", ".join(path.name for path in found[:10])
    raise InvalidValue(
        f"there are {len(found)} nodes{said}: {names}", hint="say which with --node"
    )


def _answers(directory: Path) -> bool:
    try:
        with ControlClient(directory):
            return True
    except (PeerUnreachable, InvalidValue):
        return False
