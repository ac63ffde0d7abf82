"""Ask one back-end after another, and remember what each of them said.

The first that knows wins. A back-end that raises, hangs or gives nonsense is one line
of the answer and stops nobody else; only against one that blocks the event loop itself
is there no help. To publish, all are told at once.

Bounded by ``DEADLINE_MS_DEFAULT`` a question, ``ADDRESSES_MAX`` and ``NODES_MAX``.

Source: Barrel P2P documentation, "Discovery".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

from barrel_p2p.core.clock import Clock
from barrel_p2p.core.names import Address, HasAddress, NodeReference, node_name
from barrel_p2p.discovery.backend import (
    Discovery,
    LooksUpAll,
    Withdraws,
    checked_address,
)
from barrel_p2p.errors import InvalidValue

__all__ = [
    "ADDRESSES_MAX",
    "DEADLINE_MS_DEFAULT",
    "NODES_MAX",
    "Answer",
    "Chain",
    "Listing",
    "Said",
]

ADDRESSES_MAX = 16
DEADLINE_MS_DEFAULT = 3_000
NODES_MAX = 10_000

_ERROR_CHARS_MAX = 300

type _Question = Callable[[], Awaitable[Sequence[Address]]]


@final
@dataclass(frozen=True, slots=True)
class Said:
    """What one back-end said.

    Args:
        backend: Its name.
        addresses: What it found, the best first.
        error: Why it found nothing, or None when it has no entry.
        elapsed_ms: How long it took.
    """

    backend: str
    addresses: tuple[Address, ...]
    error: str | None
    elapsed_ms: int

    def __str__(self) -> str:
        if self.error is not None:
            return f"{self.backend}: {self.error}"
        hosts = dict.fromkeys(address.host for address in self.addresses)
        return f"{self.backend}: {', '.join(hosts) or 'no entry'}"


@final
@dataclass(frozen=True, slots=True)
class Answer:
    """What a lookup found, and how.

    ``str()`` is the line that explains a failed dial:
    ``static: no entry · dir: no entry · dns: 10.0.0.5 (4 ms)``.
    """

    node: str
    said: tuple[Said, ...]

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where to dial, the best first; empty when nobody knew."""
        return self.said[-1].addresses if self.said else ()

    @property
    def address(self) -> Address | None:
        """The best address, or None."""
        return self.addresses[0] if self.addresses else None

    def __str__(self) -> str:
        return _line(self.said)


@final
@dataclass(frozen=True, slots=True)
class Listing:
    """All nodes that somebody knew, each address once, by name; and who said what."""

    addresses: tuple[Address, ...]
    said: tuple[Said, ...]

    def __str__(self) -> str:
        return _line(self.said)


@final
class Chain:
    """The back-ends of one node, in the order in which they are asked.

    Args:
        backends: The first that finds a node wins.
        clock: Tells how long each one took.
        deadline_ms: Longest that one of them may take for one question.
        options: What each back-end's ``init`` is given.
    """

    def __init__(
        self,
        backends: Sequence[Discovery],
        *,
        clock: Clock,
        deadline_ms: int = DEADLINE_MS_DEFAULT,
        options: Mapping[str, object] | None = None,
    ) -> None:
        self._backends = tuple(backends)
        self._clock = clock
        self._deadline_ms = deadline_ms
        self._stragglers: set[asyncio.Task[object]] = set()
        self._broken: dict[int, str] = {}  # back-ends whose init raised, and why
        for place, backend in enumerate(self._backends):
            try:
                backend.init(options or {})
            except Exception as error:  # noqa: BLE001 -- an application's own code
                self._broken[place] = f"init failed: {_text_of(error)}"

    async def resolve(
        self, reference: str | Address | NodeReference | HasAddress
    ) -> Answer:
        """Find out where to dial, whatever way a user named the node.

        Raises:
            InvalidValue: ``reference`` names no node.
        """
        parsed = NodeReference.parse(reference)
        if parsed.host is None or parsed.port is None:
            return await self.lookup(parsed.name)
        given = Address(parsed.name, parsed.host, parsed.port)
        return Answer(parsed.name, (Said("given", (given,), None, 0),))

    async def lookup(self, node: str) -> Answer:
        """Ask for ``node`` until somebody knows.

        Raises:
            InvalidValue: ``node`` is no node name.
        """
        node = node_name(node)
        said: list[Said] = []
        for place, backend in enumerate(self._backends):
            said.append(await self._ask(place, _lookup(backend, node)))
            if said[-1].addresses:
                break
        return Answer(node, tuple(said))

    async def list_nodes(self, host: str = "") -> Listing:
        """All that every back-end knows of ``host``, or of all hosts when empty."""
        said = await asyncio.gather(
            *(
                self._ask(place, _list(backend, host))
                for place, backend in enumerate(self._backends)
            )
        )
        found = {address for each in said for address in each.addresses}
        return Listing(tuple(sorted(found)[:NODES_MAX]), tuple(said))

    async def register(self, address: Address) -> list[Said]:
        """Publish ``address`` everywhere at once.

        Returns:
            One line for each back-end that keeps anything; an error there means that
            it did not.

        Raises:
            InvalidValue: ``address`` is none.
        """
        node, host, port = checked_address(address)
        return await asyncio.gather(
            *(
                self._ask(place, _register(backend, node, host, port))
                for place, backend in enumerate(self._backends)
                if getattr(backend, "publishes", True)
            )
        )

    async def withdraw(self, node: str) -> list[Said]:
        """Take back what ``register`` published, wherever that can be done.

        Returns:
            One line for each back-end that can.
        """
        return await asyncio.gather(
            *(
                self._ask(place, _withdraw(backend, node))
                for place, backend in enumerate(self._backends)
                if isinstance(backend, Withdraws)
            )
        )

    async def _ask(self, place: int, question: _Question) -> Said:
        name = _name_of(self._backends[place])
        if place in self._broken:
            return Said(name, (), self._broken[place], 0)
        began_ms = self._clock.now_ms()
        addresses: tuple[Address, ...] = ()
        error: str | None = None
        try:
            addresses = await self._in_time(question)
        except TimeoutError:
            error = f"no answer within {self._deadline_ms} ms"
        except asyncio.CancelledError:
            raise
        except Exception as raised:  # noqa: BLE001 -- an application's own code
            error = _text_of(raised)
        return Said(name, addresses, error, self._clock.now_ms() - began_ms)

    async def _in_time(self, question: _Question) -> tuple[Address, ...]:
        async def asked() -> object:
            return await question()

        task = asyncio.ensure_future(asked())
        try:
            # Unlike asyncio.timeout, this does not wait for a task that will not end.
            await asyncio.wait({task}, timeout=self._deadline_ms / 1_000)
        finally:
            if not task.done():
                task.cancel()
                self._stragglers.add(task)
                task.add_done_callback(self._forget)
        if not task.done():
            raise TimeoutError
        if task.cancelled():
            raise InvalidValue("gave up by itself")
        return _checked(task.result())

    def _forget(self, task: asyncio.Task[object]) -> None:
        self._stragglers.discard(task)
        if not task.cancelled():
            task.exception()  # Or asyncio complains that nobody looked.


def _lookup(backend: Discovery, node: str) -> _Question:
    async def question() -> Sequence[Address]:
        if isinstance(backend, LooksUpAll):
            found = (await backend.lookup_all(node))[:ADDRESSES_MAX]
        else:
            one = await backend.lookup(node)
            found = [] if one is None else [one]
        for address in found:
            if checked_address(address).name != node:
                raise InvalidValue(f"asked for {node}, it gave {address}")
        return found

    return question


def _register(backend: Discovery, node: str, host: str, port: int) -> _Question:
    async def question() -> Sequence[Address]:
        await backend.register(node, host, port)
        return ()

    return question


def _withdraw(backend: Withdraws, node: str) -> _Question:
    async def question() -> Sequence[Address]:
        await backend.withdraw(node)
        return ()

    return question


def _list(backend: Discovery, host: str) -> _Question:
    async def question() -> Sequence[Address]:
        return (await backend.list_nodes(host))[:NODES_MAX]

    return question


def _checked(found: object) -> tuple[Address, ...]:
    if not isinstance(found, Sequence):
        raise InvalidValue(f"gave a {type(found).__name__}, not addresses")
    return tuple(checked_address(address) for address in found)


def _name_of(backend: object) -> str:
    name = getattr(backend, "name", None)
    return name if isinstance(name, str) else type(backend).__name__


def _text_of(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text[:_ERROR_CHARS_MAX]


def _line(said: Sequence[Said]) -> str:
    elapsed_ms = sum(each.elapsed_ms for each in said)
    return f"{' · '.join(map(str, said)) or 'nobody to ask'} ({elapsed_ms} ms)"
