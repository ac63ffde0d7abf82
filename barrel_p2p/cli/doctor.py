"""``doctor``: why a node does not start, or does not reach another one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from barrel_p2p.cli.check import Check
from barrel_p2p.cli.checks import checks_of
from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.options import Flag, Json, timeout_ms
from barrel_p2p.cli.output import columns, say
from barrel_p2p.cli.probe import open_probe
from barrel_p2p.cli.refusals import report_lines
from barrel_p2p.cli.start import named
from barrel_p2p.config import Config
from barrel_p2p.core.names import NodeReference, node_name
from barrel_p2p.node.node import Node
from barrel_p2p.node.run import run

__all__ = ["doctor"]


def doctor(
    *,
    peer: str | None = None,
    name: str | None = None,
    port: int | None = None,
    bind: str | None = None,
    data_dir: Path | None = None,
    config: Path | None = None,
    ephemeral: Flag = False,
    timeout: float = 10.0,
    json: Json = False,
) -> int:
    """Check this host, or with --peer the way to a node. Exit code 1 if a check fails.

    Args:
        peer: A node, name@host:port: dial it, and tell each step with its time.
        name: As for start.
        port: As for start.
        bind: As for start.
        data_dir: As for start.
        config: As for start.
        ephemeral: With --peer: a new identity for this command alone.
        timeout: With --peer: seconds.
        json: Print {"checks": [...]}, or {"report": ..., "connected": ...}.
    """
    if peer is not None:
        timeout_ms(timeout)
        return run(_peer(peer, config, ephemeral=ephemeral, timeout=timeout, json=json))
    given: dict[str, Any] = {"listen_port": port, "bind_host": bind}
    settings = Config.load(
        config, **{key: value for key, value in given.items() if value is not None}
    )
    node = node_name(named(name, settings))
    directory = data_dir or Path(settings.data_dir or f"data/{node}")
    found = list(checks_of(settings, node, directory))
    say({"checks": [_as_dict(each) for each in found]}, _lines(found), as_json=json)
    failed = any(each.state == "fail" for each in found)
    return ExitCode.FAILED if failed else ExitCode.OK


async def _peer(
    peer: str, config: Path | None, *, ephemeral: bool, timeout: float, json: bool
) -> int:
    reference = NodeReference.parse(peer)
    async with open_probe(
        reference, config_path=config, ephemeral=ephemeral, timeout_s=timeout
    ) as node:
        report = (await node.diagnose(reference, timeout=timeout)).as_dict()
        connected = reference.name in node.nodes()
    value = {"connected": connected, "report": report}
    say(value, _report(report, node, connected=connected), as_json=json)
    return ExitCode.OK if connected else ExitCode.CONNECT


def _report(report: dict[str, Any], node: Node, *, connected: bool) -> list[str]:
    verdict = "connected" if connected else "not connected"
    took = f"{report['took_ms']:.0f} ms"
    head = f"{report['target']}: {verdict} after {took}, as {node.name}"
    return [head, *report_lines(report)]


def _as_dict(check: Check) -> dict[str, object]:
    return dataclasses.asdict(check)


def _lines(found: list[Check]) -> list[str]:
    lines = []
    rows = [(f"  {each.state}", each.name, each.text) for each in found]
    for check, line in zip(found, columns(rows), strict=True):
        lines.append(line)
        if check.fix is not None:
            lines.append(f"          {check.fix}")
    return lines
