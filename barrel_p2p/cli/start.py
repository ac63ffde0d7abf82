"""``start``: run a node until it is told to stop.

SIGTERM and Ctrl-C stop it in good order: processes end, peers are told, files go.
"""

from __future__ import annotations

import asyncio
import inspect
import ipaddress
import pkgutil
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from barrel_p2p.auth.trust import fingerprint
from barrel_p2p.cli.detach import launch
from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.joining import Joins
from barrel_p2p.cli.logs import log_to
from barrel_p2p.cli.options import Flag, Json
from barrel_p2p.cli.output import columns, say
from barrel_p2p.cli.reach import answers
from barrel_p2p.config import Config
from barrel_p2p.core.names import NodeReference, default_node_name, host_of
from barrel_p2p.errors import InvalidValue
from barrel_p2p.node.node import Node
from barrel_p2p.node.run import run
from barrel_p2p.storage.files import ensure_private_directory

__all__ = ["join_line", "named", "start"]

type Setup = Callable[[Node], Awaitable[object] | object]

type Tell = Callable[[dict[str, Any]], None]

_ANY = ("0.0.0.0", "::")
_DETACH_S = 60.0


def start(
    *,
    name: str | None = None,
    port: int | None = None,
    bind: str | None = None,
    advertise: str | None = None,
    join: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    config: Path | None = None,
    data_dir: Path | None = None,
    app: str | None = None,
    detach: Flag = False,
    log: Path | None = None,
    json: Json = False,
) -> int:
    """Run a node until SIGTERM or Ctrl-C.

    Args:
        name: name@host, or the part before the @; default: node@<this host>.
        port: UDP port; 0 takes any that is free.
        bind: Address to bind, 0.0.0.0 for all; default: 127.0.0.1.
        advertise: What others are told to dial: HOST or HOST:PORT.
        join: A node to join, name@host:port, with #SHA256:... to insist on its key.
        config: A TOML file. The cookie comes from there, from dist_cookie_file or from
            BARREL_P2P_DIST_COOKIE, never from an option.
        data_dir: What the node keeps; default: ./data/<name>.
        app: Your code, pkg.mod:setup; called with the node before it joins.
        detach: Return once the node runs and answers commands; it goes on alone.
        log: With --detach: the file it logs to; default: node.log in its directory.
        json: Print the banner as a JSON object.
    """
    given: dict[str, Any] = {
        "listen_port": port,
        "bind_host": bind,
        "data_dir": None if data_dir is None else str(data_dir),
        **_advertised(advertise),
    }
    settings = Config.load(
        config, **{key: value for key, value in given.items() if value is not None}
    )
    node = Node(named(name, settings), settings)
    setup = None if app is None else _setup(app)
    tell: Tell = _teller(as_json=json)
    if detach:
        directory = Path(settings.data_dir or f"data/{node.name}")
        ensure_private_directory(directory)
        launched = launch(log or directory / "node.log")
        if not launched.is_node:
            banner = launched.wait(directory, _DETACH_S)
            say(banner, _lines(banner), as_json=json)
            return ExitCode.OK
        tell = launched.tell
    log_to()
    return run(_serve(node, join, setup, tell))


def named(name: str | None, config: Config) -> str:
    """The node's whole name: a bare one gets the host that others will dial."""
    chosen = name or config.node_name
    if chosen is None:
        return default_node_name()
    if "@" in chosen:
        return chosen
    host = config.advertise_host or config.bind_host
    if host in _ANY or ":" in host:
        host = host_of(default_node_name())
    return f"{chosen}@{host}"


def join_line(node: Node) -> str:
    """The command that makes a second node join this one, and insist on its key."""
    address = node.address
    reference = NodeReference(*address, fingerprint(node.public_key))
    first = node.name.partition("@")[0]
    second = "b" if first != "b" else "c"
    bind = _bind_option(node.config.bind_host)
    return f"barrel-p2p start --name {second}{bind} --join {reference}"


def _teller(*, as_json: bool) -> Tell:
    def tell(banner: dict[str, Any]) -> None:
        say(banner, _lines(banner), as_json=as_json)
        sys.stdout.flush()

    return tell


async def _serve(
    node: Node, join: tuple[str, ...], setup: Setup | None, tell: Tell
) -> int:
    # Until `serve_forever` listens to signals, SIGTERM does what Ctrl-C does.
    loop = asyncio.get_running_loop()
    main = asyncio.current_task()
    assert main is not None
    loop.add_signal_handler(signal.SIGTERM, main.cancel)
    try:
        async with node, Joins(node) as joins:
            if setup is not None:
                found = setup(node)
                if inspect.isawaitable(found):
                    await found
            for reference in join:
                await joins.join(reference)
            tell(await _banner(node, joins.waiting))
            await node.serve_forever()
    except asyncio.CancelledError:
        return ExitCode.INTERRUPTED
    return ExitCode.OK


async def _banner(node: Node, waiting: list[str]) -> dict[str, Any]:
    host, port = node.address.host, node.address.port
    return {
        "name": node.name,
        "address": str(node.address),
        "host": host,
        "port": port,
        "fingerprint": fingerprint(node.public_key).ssh,
        "trust_mode": node.keys.get_trust_mode(),
        "nodes": node.nodes(),
        "waiting": list(waiting),
        "answers_ms": await asyncio.to_thread(answers, host, port),
        "join": join_line(node),
    }


def _lines(banner: dict[str, Any]) -> Iterator[str]:
    rows = [
        ("node", banner["name"]),
        ("address", f"{banner['address']}  (UDP)"),
        ("key", banner["fingerprint"]),
        ("trust", banner["trust_mode"]),
    ]
    if banner["nodes"]:
        rows.append(("joined", ", ".join(banner["nodes"])))
    if banner["waiting"]:
        rows.append(("not yet", f"{', '.join(banner['waiting'])}; tried again"))
    if "pid" in banner:
        rows += [("process", banner["pid"]), ("log", banner["log"])]
    yield from columns(rows)
    if banner["answers_ms"] is None:
        yield ""
        yield f"warning: nothing answers at {banner['host']} UDP port {banner['port']},"
        yield "  not even from this host. Name what others can dial with --advertise."
    yield ""
    yield "A second node joins with:"
    yield f"  {banner['join']}"


def _setup(spelt: str) -> Setup:
    """The application's function. Its name comes from the command line alone."""
    if ":" not in spelt:
        raise InvalidValue(f"--app {spelt!r} is not pkg.mod:setup")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        found = pkgutil.resolve_name(spelt)
    except (ImportError, AttributeError, ValueError) as error:
        raise InvalidValue(f"--app {spelt} cannot be loaded: {error}") from error
    if not callable(found):
        raise InvalidValue(f"--app {spelt} is a {type(found).__name__}, no function")
    setup: Setup = found
    return setup


def _advertised(text: str | None) -> dict[str, object]:
    if text is None:
        return {}
    host, colon, port = text.rpartition(":")
    if colon and port.isdigit() and not host.endswith(":") and host.count(":") != 1:
        host = host.removeprefix("[").removesuffix("]")
        return {"advertise_host": host, "advertise_port": int(port)}
    return {"advertise_host": text.removeprefix("[").removesuffix("]")}


def _bind_option(host: str) -> str:
    """What another host needs; on this one the default will do."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "" if host == "localhost" else " --bind 0.0.0.0"
    if address.is_loopback:
        return "" if address.version == 4 else " --bind ::1"
    return " --bind 0.0.0.0" if address.version == 4 else " --bind ::"
