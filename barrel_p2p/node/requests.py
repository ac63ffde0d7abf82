"""What a program on this host may ask of a node: a closed list, one struct each.

``op`` names the struct; its other fields are the struct's own. An unknown name, an
unknown field or a value of another type is refused before anything is done.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from barrel_p2p.errors import InvalidValue

__all__ = [
    "EVENT_KINDS",
    "LOOKS",
    "OWNERS_MAX",
    "REMINDERS_SHOWN_MAX",
    "TIMEOUT_MS_MAX",
    "CallProcess",
    "CancelReminder",
    "ClusterAction",
    "Connect",
    "DrainMs",
    "Elections",
    "EventKind",
    "ExplainConfig",
    "GetFromMap",
    "Info",
    "Join",
    "KeyAction",
    "Leave",
    "ListKeys",
    "ListMaps",
    "ListReminders",
    "MapAction",
    "Members",
    "Nodes",
    "Owners",
    "Place",
    "PutInMap",
    "ReminderAction",
    "RemoveFromMap",
    "Request",
    "RevokeKey",
    "SendMessage",
    "Services",
    "SetReminder",
    "SetTrustMode",
    "Stop",
    "TimeoutMs",
    "TrustKey",
    "UntrustKey",
    "Views",
    "WatchEvents",
    "WatchMap",
    "WhereisService",
    "read_request",
]

TIMEOUT_MS_MAX = 3_600_000
OWNERS_MAX = 1_000
REMINDERS_SHOWN_MAX = 1_000

type TimeoutMs = Annotated[int, msgspec.Meta(ge=1, le=TIMEOUT_MS_MAX)]
type WaitMs = Annotated[int, msgspec.Meta(ge=0, le=TIMEOUT_MS_MAX)]
type EventKind = Literal["peer", "member", "channel", "service", "leader"]
EVENT_KINDS: Final[tuple[EventKind, ...]] = (
    "peer",
    "member",
    "channel",
    "service",
    "leader",
)
type DrainMs = Annotated[int, msgspec.Meta(ge=0, le=TIMEOUT_MS_MAX)]


class _Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="op"):
    pass


class Info(_Asked, frozen=True, tag="info"):
    """Who the node is: name, address, fingerprint, trust mode, life, process."""


class Nodes(_Asked, frozen=True, tag="nodes"):
    """The nodes it has a channel to."""


class Connect(_Asked, frozen=True, tag="connect"):
    """Open a channel to ``ref``."""

    ref: str
    timeout_ms: TimeoutMs = 10_000


class CallProcess(_Asked, frozen=True, tag="call"):
    """Call ``method`` of the server ``to``, a name here or on the node ``on``."""

    to: str
    method: str
    args: list[object] = []
    on: str | None = None
    timeout_ms: TimeoutMs = 5_000


class SendMessage(_Asked, frozen=True, tag="send"):
    """Send ``message`` to the process that is called ``to``, here or on ``on``."""

    to: str
    message: object
    on: str | None = None
    timeout_ms: TimeoutMs = 5_000


class Join(_Asked, frozen=True, tag="join"):
    """Become part of the cluster of ``ref``."""

    ref: str
    timeout_ms: TimeoutMs = 10_000


class Leave(_Asked, frozen=True, tag="leave"):
    """Leave the cluster, and stay out until the next join."""

    timeout_ms: TimeoutMs = 10_000


class Members(_Asked, frozen=True, tag="members"):
    """The nodes of the cluster, each with its state and the way to it."""


class Views(_Asked, frozen=True, tag="views"):
    """The active and the passive view, and how large they may be."""


class Services(_Asked, frozen=True, tag="services"):
    """Every instance of every service, or with ``everything`` false of one name."""

    name: object = None
    everything: bool = True


class WhereisService(_Asked, frozen=True, tag="whereis"):
    """A process of the service ``name``; waits for one up to ``wait_ms``.

    A name is text, an integer, or a list of those, which stands for a tuple.
    """

    name: object
    wait_ms: WaitMs = 0


class Place(_Asked, frozen=True, tag="place"):
    """The node that should have ``key``: text, an integer, or a list of those."""

    key: object


class Owners(_Asked, frozen=True, tag="owners"):
    """The ``count`` nodes that should have ``key``."""

    key: object
    count: Annotated[int, msgspec.Meta(ge=1, le=OWNERS_MAX)] = 3


class Elections(_Asked, frozen=True, tag="leaders"):
    """Who leads what, or with ``everything`` false one name, and who would."""

    name: object = None
    everything: bool = True


class GetFromMap(_Asked, frozen=True, tag="map.get"):
    """The value under ``key`` of a map. A list in a key stands for a tuple."""

    name: str
    key: object


class PutInMap(_Asked, frozen=True, tag="map.put"):
    """Write ``value``, made of what JSON has, under ``key``."""

    name: str
    key: object
    value: object


class RemoveFromMap(_Asked, frozen=True, tag="map.rm"):
    """Remove ``key`` everywhere."""

    name: str
    key: object


class ListMaps(_Asked, frozen=True, tag="map.ls"):
    """The maps of the node, or with ``name`` the keys and values of one."""

    name: str | None = None


class WatchMap(_Asked, frozen=True, tag="map.watch"):
    """What changes in a map: an answer, then a change a line until the end.

    ``snapshot`` first tells of every key there is, as of one that was put.
    """

    name: str
    snapshot: bool = False


class SetReminder(_Asked, frozen=True, tag="reminders.set"):
    """Set a reminder at ``at_ms``, or in ``after_ms``; see ``Node.remind``."""

    key: object
    at_ms: int | None = None
    after_ms: int = 0
    payload: object = None
    every_ms: int | None = None
    missed: Literal["fire", "skip", "coalesce"] = "coalesce"


class ListReminders(_Asked, frozen=True, tag="reminders.list"):
    """The next ``count`` reminders of the cluster, and how many there are."""

    count: Annotated[int, msgspec.Meta(ge=1, le=REMINDERS_SHOWN_MAX)] = 100


class CancelReminder(_Asked, frozen=True, tag="reminders.cancel"):
    """Take the reminder of ``key`` back."""

    key: object


class WatchEvents(_Asked, frozen=True, tag="events"):
    """What happens from now on: an answer, then an event a line until the end."""

    kinds: tuple[EventKind, ...] = EVENT_KINDS


class ListKeys(_Asked, frozen=True, tag="keys.list"):
    """Pins and revoked names."""


class TrustKey(_Asked, frozen=True, tag="keys.trust"):
    """Pin a key for ``node`` for good.

    Either ``key``, base64 of 32 bytes, or ``fingerprint``, ``SHA256:...``: then the
    node is dialled, and its key is pinned if it has that fingerprint.
    """

    node: str
    key: str | None = None
    fingerprint: str | None = None
    replace: bool = False
    timeout_ms: TimeoutMs = 10_000


class UntrustKey(_Asked, frozen=True, tag="keys.untrust"):
    """Forget the pin of ``node``."""

    node: str


class RevokeKey(_Asked, frozen=True, tag="keys.revoke"):
    """Refuse ``node`` and its key from now on, or with ``undo`` no longer."""

    node: str
    undo: bool = False


class SetTrustMode(_Asked, frozen=True, tag="keys.mode"):
    """The trust mode; with ``mode``, change it until the node stops."""

    mode: Literal["tofu", "strict"] | None = None


class ExplainConfig(_Asked, frozen=True, tag="config"):
    """Every key of its configuration, secrets masked, and where each is from."""


class Stop(_Asked, frozen=True, tag="stop"):
    """Stop in good order, ``drain_ms`` at most for what is in progress."""

    drain_ms: DrainMs = 5_000


type KeyAction = ListKeys | TrustKey | UntrustKey | RevokeKey | SetTrustMode
type ReminderAction = SetReminder | ListReminders | CancelReminder
type ClusterAction = (
    Join
    | Leave
    | Members
    | Views
    | Services
    | WhereisService
    | Place
    | Owners
    | Elections
)
type MapAction = GetFromMap | PutInMap | RemoveFromMap | ListMaps
type Request = (
    Info
    | Nodes
    | Connect
    | CallProcess
    | SendMessage
    | ClusterAction
    | ReminderAction
    | MapAction
    | WatchMap
    | WatchEvents
    | KeyAction
    | ExplainConfig
    | Stop
)


LOOKS: Final = (Members, Views, Services, WhereisService, Place, Owners, Elections)
"""What a node answers to whomever it admits."""


def read_request(line: bytes) -> Request:
    """The request in a line of JSON.

    Raises:
        InvalidValue: It is not JSON, or none of the requests there are.
    """
    try:
        return _DECODER.decode(line)
    except msgspec.ValidationError as error:
        raise InvalidValue(f"no request: {str(error).replace('`', '')}") from error
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise InvalidValue(f"a request is one JSON object a line: {error}") from error


_DECODER: msgspec.json.Decoder[Request] = msgspec.json.Decoder(
    Info
    | Nodes
    | Connect
    | CallProcess
    | SendMessage
    | Join
    | Leave
    | Members
    | Views
    | Services
    | WhereisService
    | Place
    | Owners
    | Elections
    | GetFromMap
    | PutInMap
    | RemoveFromMap
    | ListMaps
    | WatchMap
    | SetReminder
    | ListReminders
    | CancelReminder
    | WatchEvents
    | ListKeys
    | TrustKey
    | UntrustKey
    | RevokeKey
    | SetTrustMode
    | ExplainConfig
    | Stop
)
