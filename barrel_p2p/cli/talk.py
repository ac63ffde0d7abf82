"""``call``, ``send``, ``nodes``, ``stop``: one request to a node, here or elsewhere."""

from __future__ import annotations

import json as json_text
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import msgspec
from cyclopts import Parameter

from barrel_p2p.cli.exit_codes import ExitCode
from barrel_p2p.cli.local_node import ControlClient, answered, running_directory
from barrel_p2p.cli.options import Json, Local, Target, timeout_ms
from barrel_p2p.cli.output import say
from barrel_p2p.cli.refusals import Refused
from barrel_p2p.core.names import NodeReference
from barrel_p2p.errors import BarrelError, InvalidValue
from barrel_p2p.node.failures import describe
from barrel_p2p.node.requests import (
    LOOKS,
    CallProcess,
    Connect,
    Nodes,
    Request,
    SendMessage,
    Stop,
)

__all__ = ["ask", "asking_peer", "call", "nodes", "send", "stop"]

type Text = Annotated[str, Parameter(allow_leading_hyphen=True)]

_STOP_GRACE_S = 10.0


def call(
    name: str,
    method: str,
    /,
    *arguments: Text,
    on: str | None = None,
    target: Target = Target(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Call a method of a server and print what it answers.

    Args:
        name: The server's name on its node.
        method: One of its @call methods.
        arguments: Each one JSON value, such as 5, '"text"' or '[1, 2]'.
        on: The node that has the server; default: the one that is asked.
        target: Which node is asked.
        json: Print {"value": ...}.
    """
    values = [_value(text) for text in arguments]
    request = CallProcess(name, method, values, on, timeout_ms(target.timeout))
    answer = ask(request, target)
    say(answer, _value_lines(answer["value"]), as_json=json)
    return ExitCode.OK


def send(
    name: str,
    message: Text,
    /,
    *,
    on: str | None = None,
    target: Target = Target(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Send a message to a process. Nobody answers.

    Args:
        name: The process's name on its node.
        message: One JSON value.
        on: The node that has the process; default: the one that is asked.
        target: Which node is asked.
        json: Print {"sent": true}.
    """
    request = SendMessage(name, _value(message), on, timeout_ms(target.timeout))
    answer = ask(request, target)
    say(answer, [], as_json=json)
    return ExitCode.OK


def nodes(
    *,
    target: Target = Target(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """List the nodes to which a node has a channel.

    Args:
        target: Which node is asked.
        json: Print {"node": ..., "nodes": [...]}.
    """
    answer = ask(Nodes(), target)
    say(answer, answer["nodes"], as_json=json)
    return ExitCode.OK


def stop(
    *,
    drain: float = 5.0,
    local: Local = Local(),  # noqa: B008 -- immutable
    json: Json = False,
) -> int:
    """Stop a running node of this host in good order.

    Args:
        drain: Seconds that processes and peers have for that.
        local: Which node.
        json: Print {"stopping": ..., "pid": ...}.
    """
    if not 0 <= drain <= 3_600:
        raise InvalidValue(f"--drain {drain:g} is not within 0 to 3,600 seconds")
    directory = running_directory(local.node, local.data_dir)
    with ControlClient(directory) as client:
        answer = client.ask(Stop(int(drain * 1_000)))
        client.wait_closed(drain + _STOP_GRACE_S)
    say(answer, [f"{answer['stopping']} stops"], as_json=json)
    return ExitCode.OK


def ask(request: Request, target: Target, *, patience_s: float = 0.0) -> Any:
    """What a node answers, here or elsewhere.

    Args:
        request: What is asked.
        target: Which node.
        patience_s: Seconds that the answer may take, beyond ``target.timeout``.

    Raises:
        Refused, BarrelError: The node says why not, or there is no way to it.
    """
    limit_ms = timeout_ms(target.timeout)
    if target.peer is not None:
        # A whole node takes longer to import than a local command to run.
        from barrel_p2p.node.run import run

        return run(_ask_peer(request, target, target.peer, patience_s))
    directory = running_directory(target.node, target.data_dir)
    with ControlClient(directory) as client:
        return client.ask(request, patience_s=limit_ms / 1_000 + patience_s)


async def _ask_peer(
    request: Request, target: Target, peer: str, patience_s: float
) -> Any:
    async with asking_peer(target, peer, patience_s=patience_s) as ask_it:
        return await ask_it(request)


@asynccontextmanager
async def asking_peer(
    target: Target, peer: str, *, patience_s: float = 0.0
) -> AsyncIterator[Callable[[Request], Awaitable[Any]]]:
    """A probe that has a channel to ``peer``, and the way to ask through it.

    Raises:
        Refused: There is no way to ``peer``, or it refused.
    """
    from barrel_p2p.cli.probe import open_probe, probe_directory
    from barrel_p2p.node.cluster_operations import LOOK
    from barrel_p2p.node.operations import Operations

    reference = NodeReference.parse(peer)
    limit_ms = timeout_ms(target.timeout)
    async with open_probe(
        reference,
        config_path=target.config,
        ephemeral=target.ephemeral,
        timeout_s=target.timeout,
    ) as node:
        operations = Operations(node)
        try:
            await operations.perform(Connect(peer, limit_ms))
        except BarrelError as error:
            # What is advised has to be done to the probe's own pins.
            kept = None if target.ephemeral else str(probe_directory())
            raise Refused({**describe(error), "directory": kept}) from error

        async def ask_it(request: Request) -> Any:
            if isinstance(request, LOOKS):
                question = msgspec.json.encode(request)
                timeout = limit_ms / 1_000 + patience_s
                answer = await node.rpc(reference.name, LOOK, question, timeout=timeout)
                return answered(answer)
            # The others are done here, as a node of this host would have done them.
            if isinstance(request, CallProcess | SendMessage) and request.on is None:
                request = msgspec.structs.replace(request, on=reference.name)
            return await operations.perform(request)

        yield ask_it


def _value(text: str) -> object:
    try:
        return json_text.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidValue(
            f"{text[:80]!r} is not JSON: {error}",
            hint="text needs its own quotes: '\"text\"'",
        ) from error


def _value_lines(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    else:
        yield json_text.dumps(value, ensure_ascii=False)
