"""``keys``: pins and keys, of a node that runs as of one that does not.

A running node is asked over its socket, because it holds pins in memory; the directory
of one that does not run is locked meanwhile, so that none starts in between.

Source: Barrel P2P documentation, "Manage node keys"; ssh-keygen(1).
"""

from __future__ import annotations

import base64
import datetime as dt
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from cyclopts import App

from barrel_p2p.auth.identity import PUBLIC_FILE, ensure_key_pair, load_key_pair
from barrel_p2p.auth.trust import TrustStore, fingerprint
from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.local_node import ControlClient, directory_of
from barrel_p2p.cli.options import Flag, Json, Local, timeout_ms
from barrel_p2p.cli.output import columns, say
from barrel_p2p.config import Config
from barrel_p2p.core.clock import SystemClock
from barrel_p2p.core.names import NodeReference
from barrel_p2p.errors import ConfigError, InvalidValue, PeerUnreachable, StorageError
from barrel_p2p.node.data_dir import DataDir
from barrel_p2p.node.key_operations import KEY_HINT, perform_on_keys
from barrel_p2p.node.requests import (
    ExplainConfig,
    KeyAction,
    ListKeys,
    RevokeKey,
    SetTrustMode,
    TrustKey,
    UntrustKey,
)
from barrel_p2p.storage.files import PUBLIC_MODE, read_file, write_atomic

__all__ = [
    "export",
    "list_keys",
    "mode",
    "revoke",
    "show_fingerprint",
    "trust",
    "untrust",
]

app = App(name="keys", help="Look after keys: the node's own, and those it trusts.")

_KEY_BYTES = 32


@app.command(name="fingerprint")
def show_fingerprint(
    *,
    create: Flag = False,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Print the fingerprint of a node's own key, as ssh-keygen -l would.

    Args:
        create: Make the key pair if there is none yet.
        local: Which node.
        json: Print {"fingerprint": ..., "public_key": ...}.
    """
    key = _public_key(local, create=create)
    shown = fingerprint(key).ssh
    value = {"fingerprint": shown, "public_key": _base64(key)}
    say(value, [shown], as_json=json)
    return ExitCode.OK


@app.command
def export(
    *,
    out: Path | None = None,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Print a node's own public key in base64, or write it to a file as 32 bytes.

    Args:
        out: The file; put it as trusted/<node name>.pub in another node's keys.
        local: Which node.
        json: Print {"public_key": ..., "fingerprint": ..., "file": ...}.
    """
    key = _public_key(local, create=False)
    if out is not None:
        write_atomic(out, key, mode=PUBLIC_MODE)
    value = {
        "public_key": _base64(key),
        "fingerprint": fingerprint(key).ssh,
        "file": None if out is None else str(out),
    }
    say(value, [_base64(key) if out is None else f"wrote {out}"], as_json=json)
    return ExitCode.OK


@app.command(name="list")
def list_keys(
    *,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """List the keys that a node trusts, and the names it has revoked.

    Args:
        local: Which node.
        json: Print {"mode": ..., "pins": [...], "revoked": [...]}.
    """
    answer = _perform(ListKeys(), local)
    rows = [
        (pin["node"], pin["fingerprint"], pin["level"], _day(pin["last_seen_ms"]))
        for pin in answer["pins"]
    ]
    lines = [f"mode: {answer['mode']}", *columns(rows)]
    lines += [f"{name}  revoked" for name in answer["revoked"]]
    say(answer, lines, as_json=json)
    return ExitCode.OK


@app.command
def trust(
    node_ref: str,
    key: str,
    /,
    *,
    replace: Flag = False,
    timeout: float = 10.0,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Pin a node's key for good.

    Args:
        node_ref: The node's name. With a fingerprint it is dialled, so that
            name@host:port helps.
        key: A file of 32 bytes, base64 of 32 bytes, or SHA256:... of the key that the
            node must show.
        replace: Also if another key is pinned.
        timeout: Seconds for that dial.
        local: Which node is to trust it.
        json: Print {"node": ..., "pinned": ..., "replaced": ...}.
    """
    request = TrustKey(
        node_ref,
        replace=replace,
        timeout_ms=timeout_ms(timeout),
        **_spelt_key(key),
    )
    NodeReference.parse(node_ref)
    answer = _perform(request, local, patience_s=timeout)
    lines = [f"{answer['node']} is pinned to {answer['pinned']}"]
    if answer["replaced"]:
        lines.append(f"instead of {answer['replaced']}")
    say(answer, lines, as_json=json)
    return ExitCode.OK


@app.command
def untrust(
    name: str,
    /,
    *,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Forget the key that is pinned for a node. No channel is closed.

    Args:
        name: The node.
        local: Which node is to forget it.
        json: Print {"node": ..., "pinned": null}.
    """
    answer = _perform(UntrustKey(name), local)
    say(answer, [f"nothing is pinned for {answer['node']} any more"], as_json=json)
    return ExitCode.OK


@app.command
def revoke(
    name: str,
    /,
    *,
    undo: Flag = False,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Refuse a node, and its key under any name, from now on; its channel is closed.

    Args:
        name: The node.
        undo: Take the revocation back.
        local: Which node is to refuse it.
        json: Print {"node": ..., "revoked": ...}.
    """
    answer = _perform(RevokeKey(name, undo), local)
    what = "is revoked" if answer["revoked"] else "is not revoked any more"
    say(answer, [f"{answer['node']} {what}"], as_json=json)
    return ExitCode.OK


@app.command
def mode(
    new: Literal["tofu", "strict"] | None = None,
    /,
    *,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Print the trust mode of a running node, or change it until the node stops.

    Args:
        new: tofu pins the first key it sees for a name; strict wants each beforehand.
            To keep it, set auth_trust_mode.
        local: Which node.
        json: Print {"mode": ...}.
    """
    directory = directory_of(local.node, local.data_dir)
    with ControlClient(directory) as client:
        answer = client.ask(SetTrustMode(new))
    say(answer, [answer["mode"]], as_json=json)
    return ExitCode.OK


def _perform(request: KeyAction, local: Local, *, patience_s: float = 0.0) -> Any:
    directory = directory_of(local.node, local.data_dir)
    client = _running(directory)
    if client is not None:
        with client:
            return client.ask(request, patience_s=patience_s)
    if isinstance(request, TrustKey) and request.fingerprint is not None:
        return _dial_and_trust(directory, request, patience_s)
    with _stopped(directory) as keys:
        trust_mode = Config.load().auth_trust_mode
        store = TrustStore(keys, mode=trust_mode, clock=SystemClock())
        return perform_on_keys(store, request)


def _dial_and_trust(directory: Path, request: TrustKey, seconds: float) -> Any:
    """Only a node can see which key another one shows, so be that node for a moment."""
    from barrel_p2p.cli.probe import open_probe
    from barrel_p2p.node.operations import Operations
    from barrel_p2p.node.run import run

    async def dial() -> Any:
        reference = NodeReference.parse(request.node)
        async with open_probe(
            reference, directory=directory, timeout_s=seconds
        ) as node:
            return await Operations(node).perform(request)

    return run(dial())


def _running(directory: Path) -> ControlClient | None:
    try:
        return ControlClient(directory)
    except (PeerUnreachable, ConfigError):
        return None


@contextmanager
def _stopped(directory: Path) -> Iterator[Path]:
    """The key directory of a node that does not run, and does not start meanwhile."""
    with DataDir.open(directory, clock=SystemClock()) as opened:
        yield opened.resolve(Config.load().auth_key_dir)


def _public_key(local: Local, *, create: bool) -> bytes:
    directory = directory_of(local.node, local.data_dir)
    keys = directory / _key_directory(directory)
    if os.path.lexists(keys / PUBLIC_FILE):
        return load_key_pair(keys).public_key
    if not create:
        raise StorageError(
            f"there is no key pair in {keys}",
            hint="the node's first start makes one, and so does "
            "`barrel-p2p keys fingerprint --create`",
        )
    with _stopped(directory) as place:
        return ensure_key_pair(place).public_key


def _key_directory(directory: Path) -> str:
    """Where the keys are; a running node may have had a file that says so."""
    client = _running(directory)
    if client is None:
        return Config.load().auth_key_dir
    with client:
        config: Mapping[str, Any] = client.ask(ExplainConfig())
    return str(config["auth_key_dir"]["value"])


def _spelt_key(text: str) -> dict[str, str]:
    if text.startswith("SHA256:"):
        return {"fingerprint": text}
    path = Path(text)
    if not path.is_file():
        return {"key": text}
    key = read_file(path, bytes_max=_KEY_BYTES)
    if len(key) != _KEY_BYTES:
        raise InvalidValue(f"{path} holds {len(key)} bytes", hint=KEY_HINT)
    return {"key": _base64(key)}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _day(wall_ms: int | None) -> str:
    if not wall_ms:
        return "never seen"
    seen = dt.datetime.fromtimestamp(wall_ms / 1_000, tz=dt.UTC)
    return f"seen {seen:%Y-%m-%d %H:%M}Z"
