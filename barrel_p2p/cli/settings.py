"""``config``: what a node would be told, or a running one was told, and by whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cyclopts import App

from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.local_node import ControlClient, directory_of
from barrel_p2p.cli.options import Json, Local
from barrel_p2p.cli.output import columns, say
from barrel_p2p.config import Config
from barrel_p2p.config.settings import keys
from barrel_p2p.config.suggestions import did_you_mean
from barrel_p2p.errors import InvalidValue
from barrel_p2p.node.plain import plain
from barrel_p2p.node.requests import ExplainConfig

__all__ = ["check", "explain", "show"]

app = App(name="config", help="Look at the configuration, secrets masked.")

type _Explained = dict[str, dict[str, Any]]


@app.command
def show(
    *,
    config: Path | None = None,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Print every key with its value.

    Args:
        config: A TOML file.
        local: A running node, instead of what one started here would be told.
        json: Print {key: value}.
    """
    found = _explained(config, local)
    value = {key: each["value"] for key, each in found.items()}
    say(
        value,
        columns([(key, _text(each)) for key, each in value.items()]),
        as_json=json,
    )
    return ExitCode.OK


@app.command
def explain(
    key: str | None = None,
    /,
    *,
    config: Path | None = None,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Print where each value comes from: code, environment, file or default.

    Args:
        key: One key alone.
        config: A TOML file.
        local: A running node, instead of what one started here would be told.
        json: Print {key: {"value": ..., "source": ...}}.
    """
    if key is not None and key not in keys():
        raise InvalidValue(f"there is no key {key!r}{did_you_mean(key, keys())}")
    found = _explained(config, local)
    if key is not None:
        found = {key: found[key]}
    rows = [
        (name, _text(each["value"]), each["source"]) for name, each in found.items()
    ]
    say(found, columns(rows), as_json=json)
    return ExitCode.OK


@app.command
def check(*, config: Path | None = None, json: Json = False) -> int:
    """Check file and environment. Exit code 2 if a node would not start with them.

    Args:
        config: A TOML file.
        json: Print {"valid": true, "warnings": [...]}.
    """
    warnings = list(Config.load(config).warnings())
    lines = ["valid", *(f"warning: {each}" for each in warnings)]
    say({"valid": True, "warnings": warnings}, lines, as_json=json)
    return ExitCode.OK


def _explained(config: Path | None, local: Local) -> _Explained:
    if local.node is not None or local.data_dir is not None:
        with ControlClient(directory_of(local.node, local.data_dir)) as client:
            answer: _Explained = client.ask(ExplainConfig())
        return answer
    return {
        key: {"value": plain(value), "source": source}
        for key, (value, source) in Config.load(config).explain().items()
    }


def _text(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return str(value).lower()
        case [*items]:
            return ", ".join(map(str, items)) or "-"
        case _:
            return str(value)
