"""The handshake: decide whether the other end is who it says, and one of us.

::

    dialler                            acceptor
    HELLO                         ->
                                  <-   HELLO, CHALLENGE
    CHALLENGE, RESPONSE           ->
                                  <-   RESPONSE
    pin stored, OK                ->
                                  <-   OK, once wanted and pin stored

The dialler proves first, so a stranger who dials learns a name, a key and a nonce, and
nothing to guess the cookie with. Nobody signs before the other's claims were checked,
and nobody is told of a success that is not on the disk. One handshake a connection, no
second try, and the owner's deadline over all of it.

Source: docs/reference/wire.md, "Handshake"; Krawczyk, "SIGMA", CRYPTO 2003 (why each
side has to sign the other's identity).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol, assert_never

from barrel_p2p.auth.events import (
    Admitted,
    AskWanted,
    DeadlinePassed,
    Effect,
    Event,
    Malformed,
    PeerEnded,
    PeerIdentity,
    PinFailed,
    PinStored,
    Received,
    Refused,
    SendMessage,
    Started,
    StorePin,
    Unwanted,
    Wanted,
)
from barrel_p2p.auth.messages import (
    NONCE_BYTES,
    Challenge,
    Fail,
    Hello,
    Message,
    Mode,
    Ok,
    Response,
    cut,
)
from barrel_p2p.auth.signing import KeyPair, fingerprint, is_public_key, verify
from barrel_p2p.auth.transcript import (
    EXPORTER_BYTES,
    HASH_BYTES,
    Exchange,
    Role,
    is_proof,
    proof,
    transcript,
)
from barrel_p2p.auth.verdict import Verdict
from barrel_p2p.core.names import NodeReference
from barrel_p2p.errors import BarrelError, InvalidValue

__all__ = [
    "Admitted",
    "AskWanted",
    "DeadlinePassed",
    "Effect",
    "Event",
    "Handshake",
    "LocalNode",
    "Malformed",
    "Mode",
    "PeerEnded",
    "PeerIdentity",
    "PinFailed",
    "PinStored",
    "Received",
    "Refused",
    "Role",
    "SendMessage",
    "Started",
    "StorePin",
    "Trust",
    "Unwanted",
    "Wanted",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalNode:
    """What a handshake knows of its own node.

    Args:
        name: Our node name.
        key_pair: Our identity; None only where no peer is asked for one.
        cookie_key: What ``auth.cookie.cookie_key`` made of the cookie.
        protocol_min: Lowest version we speak, 1 to 65,535.
        protocol_max: Highest version we speak.
        timestamp_window_ms: How far the clocks may differ, either way.
        mode_of: What a peer of that name has to prove.
    """

    name: str
    key_pair: KeyPair | None
    cookie_key: bytes = field(repr=False)
    protocol_min: int
    protocol_max: int
    timestamp_window_ms: int
    mode_of: Callable[[str], Mode]


class Trust(Protocol):
    """What a handshake asks of the store of pins."""

    def check(self, name: str, key: bytes | None) -> Verdict:
        """What is known of ``name`` with this key; None when only the cookie counts."""
        ...


class _Next(Enum):
    """What the handshake waits for."""

    START = 0
    HELLO = 1
    CHALLENGE = 2
    RESPONSE = 3
    OK = 4
    WANTED = 5
    PIN = 6
    NOTHING = 7


@dataclass(frozen=True, slots=True)
class _Fault:
    """Why the peer is refused, and what it is told if that is less."""

    code: str
    text: str
    told: str | None = None
    presented: bytes | None = None


_MESSAGE_OF: Final = {
    _Next.HELLO: Hello,
    _Next.CHALLENGE: Challenge,
    _Next.RESPONSE: Response,
    _Next.OK: Ok,
}


class Handshake:
    """One side of one handshake. Pure: no clock, no chance, no disk, no socket.

    Args:
        role: DIALLER or ACCEPTOR.
        local: Our node.
        trust: The pins.
        reference: Whom we dialled; None exactly for an acceptor. Its fingerprint, if it
            has one, is the only key accepted, and is as good as a pin.
        certificate_hash: SHA-256 of the acceptor's certificate in DER.
        exporter: ``EXPORTER_BYTES`` of the connection, with ``EXPORTER_LABEL``.
        nonce: ``NONCE_BYTES`` fresh random bytes.

    Raises:
        InvalidValue: ``reference`` does not fit ``role``, or one of the last three has
            the wrong length.
    """

    def __init__(
        self,
        role: Role,
        local: LocalNode,
        trust: Trust,
        *,
        reference: NodeReference | None,
        certificate_hash: bytes,
        exporter: bytes,
        nonce: bytes,
    ) -> None:
        _check_sizes(certificate_hash, exporter, nonce)
        if (reference is None) != (role is Role.ACCEPTOR):
            raise InvalidValue(f"{role.name} with reference={reference}")
        self._role = role
        self._local = local
        self._trust = trust
        self._reference = reference
        self._certificate_hash = certificate_hash
        self._exporter = exporter
        self._nonce = nonce
        self._next = _Next.START
        self._mode = Mode.IDENTITY
        self._wall_at_zero_ms = 0  # Our wall clock when the monotonic one showed 0.
        self._peer: PeerIdentity | None = None  # As it claims, until it has proved it.
        self._our_hello: Hello | None = None
        self._their_hello: Hello | None = None
        self._our_challenge: Challenge | None = None
        self._exchange: Exchange | None = None

    def handle(self, event: Event, *, now_ms: int, wall_ms: int) -> list[Effect]:
        """Advance by one event.

        Args:
            event: What happened.
            now_ms: Monotonic time.
            wall_ms: The wall clock. Only that of Started counts: a step of the clock in
                the middle of a handshake changes nothing.

        Returns:
            The effects to perform, in order. Admitted or Refused comes once, last;
            whatever happens afterwards has no effect.
        """
        if self._next is _Next.NOTHING:
            return []
        match event:
            case Started():
                return self._start(now_ms, wall_ms)
            case Received(message):
                return self._receive(message, now_ms)
            case Malformed(error):
                return self._refuse(_Fault("malformed", str(error)))
            case PeerEnded(how):
                return self._end(Refused("nodedown", f"{how}, unfinished", False))
            case DeadlinePassed():
                text = f"the handshake still waited for {self._next.name} in the end"
                return self._refuse(_Fault("auth_stream_timeout", text))
            case Wanted():
                return self._settle() if self._next is _Next.WANTED else []
            case Unwanted(code, text):
                return self._refuse(_Fault(code, text))
            case PinStored():
                return self._pinned() if self._next is _Next.PIN else []
            case PinFailed(error):
                return self._refuse(_pin_fault(error))
            case _:
                assert_never(event)

    def _start(self, now_ms: int, wall_ms: int) -> list[Effect]:
        if self._next is not _Next.START:
            return []
        self._wall_at_zero_ms = wall_ms - now_ms
        self._next = _Next.HELLO
        if self._reference is None:
            return []
        # Whoever names a key wants it proved, whatever the patterns say.
        named = self._reference.fingerprint is not None
        self._mode = (
            Mode.IDENTITY if named else self._local.mode_of(self._reference.name)
        )
        if self._reference.name == self._local.name:
            return self._refuse(_Fault("self_connect", "we dialled our own name"))
        return self._say_hello()

    def _receive(self, message: Message, now_ms: int) -> list[Effect]:
        if isinstance(message, Fail):
            return self._end(Refused(message.code, cut(message.text), True))
        if not isinstance(message, _MESSAGE_OF.get(self._next, ())):
            text = f"{type(message).__name__} came before {self._next.name}"
            return self._refuse(_Fault("malformed", text))
        match message:
            case Hello():
                return self._on_hello(message, now_ms)
            case Challenge():
                return self._on_challenge(message, now_ms)
            case Response():
                return self._on_response(message)
            case Ok():
                return self._on_ok()
            case _:
                assert_never(message)

    def _on_hello(self, hello: Hello, now_ms: int) -> list[Effect]:
        if self._role is Role.ACCEPTOR:
            self._mode = self._local.mode_of(hello.name)
        fault = (
            self._version_fault(hello)
            or self._name_fault(hello)
            or self._key_fault(hello)
            or _trust_fault(hello, self._verdict(hello))
        )
        if fault is not None:
            return self._refuse(fault)
        self._their_hello = hello
        self._next = _Next.CHALLENGE
        if self._role is Role.DIALLER:
            return []
        said = self._say_hello()
        return said if self._next is _Next.NOTHING else [*said, self._ask(now_ms)]

    def _on_challenge(self, challenge: Challenge, now_ms: int) -> list[Effect]:
        skew_ms = challenge.wall_ms - (self._wall_at_zero_ms + now_ms)
        window_ms = self._local.timestamp_window_ms
        if abs(skew_ms) > window_ms:
            text = f"the clocks are {skew_ms} ms apart, more than {window_ms}"
            return self._refuse(_Fault("peer_ts_skew", text))
        self._next = _Next.RESPONSE
        if self._role is Role.ACCEPTOR:
            self._agree(challenge)
            return []
        asked = self._ask(now_ms)
        self._agree(challenge)
        return [asked, SendMessage(self._respond())]

    def _on_response(self, response: Response) -> list[Effect]:
        fault = self._response_fault(response)
        if fault is not None:
            return self._refuse(fault)
        if self._role is Role.DIALLER:
            return self._settle()
        self._next = _Next.OK
        return [SendMessage(self._respond())]

    def _on_ok(self) -> list[Effect]:
        if self._role is Role.DIALLER:
            assert self._peer is not None
            return self._end(Admitted(self._peer))
        assert self._their_hello is not None
        self._next = _Next.WANTED
        return [AskWanted(self._identity(self._verdict(self._their_hello)))]

    def _settle(self) -> list[Effect]:
        """Everything is proved and wanted: pin what is new, then say OK."""
        assert self._their_hello is not None
        # The pins may have changed since HELLO: another first contact, a revocation.
        # One look, for both answers: another thread may pin between two of them.
        verdict = self._verdict(self._their_hello)
        fault = _trust_fault(self._their_hello, verdict)
        if fault is not None:
            return self._refuse(fault)
        self._peer = peer = self._identity(verdict)
        if peer.first_contact and peer.key is not None:
            self._next = _Next.PIN
            return [StorePin(peer.name, peer.key)]
        return self._confirm()

    def _pinned(self) -> list[Effect]:
        assert self._their_hello is not None
        # Storing takes a while, and the peer may have been revoked meanwhile.
        fault = _trust_fault(self._their_hello, self._verdict(self._their_hello))
        return self._confirm() if fault is None else self._refuse(fault)

    def _confirm(self) -> list[Effect]:
        assert self._peer is not None
        ok = SendMessage(Ok())
        if self._role is Role.ACCEPTOR:
            return [ok, *self._end(Admitted(self._peer))]
        self._next = _Next.OK
        return [ok]

    def _say_hello(self) -> list[Effect]:
        local, key = self._local, b""
        if self._mode is Mode.IDENTITY:
            if local.key_pair is None:
                return self._refuse(_Fault("mode", "this node has no key to show"))
            key = local.key_pair.public_key
        self._our_hello = Hello(
            local.protocol_min, local.protocol_max, self._mode, local.name, key
        )
        return [SendMessage(self._our_hello)]

    def _ask(self, now_ms: int) -> SendMessage:
        wall_ms = max(0, self._wall_at_zero_ms + now_ms)
        self._our_challenge = Challenge(self._nonce, wall_ms)
        return SendMessage(self._our_challenge)

    def _agree(self, theirs: Challenge) -> None:
        """Fix what both sides are about to sign."""
        ours, hello, peer = self._our_challenge, self._our_hello, self._their_hello
        assert ours is not None
        assert hello is not None
        assert peer is not None
        we_dialled = self._role is Role.DIALLER
        self._exchange = Exchange(
            protocol=min(hello.protocol_max, peer.protocol_max),
            dialler=hello if we_dialled else peer,
            acceptor=peer if we_dialled else hello,
            dialler_challenge=ours if we_dialled else theirs,
            acceptor_challenge=theirs if we_dialled else ours,
            certificate_hash=self._certificate_hash,
            exporter=self._exporter,
        )

    def _respond(self) -> Response:
        assert self._exchange is not None
        signature = b""
        if self._mode is Mode.IDENTITY:
            assert self._local.key_pair is not None
            signed = transcript(self._exchange, self._role)
            signature = self._local.key_pair.sign(signed)
        return Response(
            signature, proof(self._local.cookie_key, self._exchange, self._role)
        )

    def _version_fault(self, hello: Hello) -> _Fault | None:
        lowest, highest = self._local.protocol_min, self._local.protocol_max
        common = min(highest, hello.protocol_max)
        if common >= max(lowest, hello.protocol_min):
            return None
        return _Fault(
            "version",
            f"{hello.name} speaks versions {hello.protocol_min} to"
            f" {hello.protocol_max}, {self._local.name} speaks {lowest} to {highest}",
        )

    def _name_fault(self, hello: Hello) -> _Fault | None:
        ours = self._local.key_pair
        if hello.name == self._local.name:
            return _Fault("self_connect", f"both ends call themselves {hello.name}")
        if ours is not None and hello.public_key == ours.public_key:
            text = (
                f"{hello.name} has the key of {self._local.name}: a copied directory?"
            )
            return _Fault("self_connect", text)
        if self._reference is not None and hello.name != self._reference.name:
            text = f"dialled {self._reference.name}, but {hello.name} answered"
            return _Fault("name_mismatch", text)
        return None

    def _key_fault(self, hello: Hello) -> _Fault | None:
        if hello.mode is not self._mode:
            text = f"{hello.name} offers {hello.mode.name}, we want {self._mode.name}"
            return _Fault("mode", text)
        if hello.mode is Mode.COOKIE:
            return None
        if not is_public_key(hello.public_key):
            return _Fault("malformed", f"{hello.name} showed no valid Ed25519 key")
        expected = None if self._reference is None else self._reference.fingerprint
        shown = fingerprint(hello.public_key)
        if expected is not None and shown != expected:
            text = f"{hello.name} showed {shown}, not the key that the reference names"
            told = "you were dialled for another key"
            return _Fault("key_mismatch", text, told, shown)
        return None

    def _response_fault(self, response: Response) -> _Fault | None:
        assert self._exchange is not None
        assert self._their_hello is not None
        name = self._their_hello.name
        prover = Role.ACCEPTOR if self._role is Role.DIALLER else Role.DIALLER
        if self._mode is Mode.IDENTITY:
            signed = transcript(self._exchange, prover)
            key = self._their_hello.public_key
            if not verify(key, response.signature, signed):
                return _Fault("signature_invalid", f"the signature of {name} is wrong")
        elif response.signature:
            return _Fault("malformed", f"{name} signed where no signature belongs")
        local_key = self._local.cookie_key
        if not is_proof(local_key, self._exchange, prover, response.proof):
            return _Fault("cookie", f"{name} does not have the cookie of this node")
        return None

    def _verdict(self, hello: Hello) -> Verdict:
        verdict = self._trust.check(hello.name, hello.public_key or None)
        # A reference that names the key is what a strict node asks of its operator.
        named = self._reference is not None and self._reference.fingerprint is not None
        if verdict is Verdict.UNKNOWN and named:
            return Verdict.FIRST_CONTACT
        return verdict

    def _identity(self, verdict: Verdict) -> PeerIdentity:
        assert self._exchange is not None
        hello = self._their_hello
        assert hello is not None
        return PeerIdentity(
            hello.name,
            hello.public_key or None,
            self._exchange.protocol,
            self._mode,
            verdict is Verdict.FIRST_CONTACT,
        )

    def _refuse(self, fault: _Fault) -> list[Effect]:
        told = fault.text if fault.told is None else fault.told
        refused = Refused(fault.code, fault.text, False, fault.presented)
        return [SendMessage(Fail(fault.code, cut(told))), *self._end(refused)]

    def _end(self, result: Admitted | Refused) -> list[Effect]:
        self._next = _Next.NOTHING
        return [result]


def _trust_fault(hello: Hello, verdict: Verdict) -> _Fault | None:
    name = hello.name
    shown = f" with {fingerprint(hello.public_key)}" if hello.public_key else ""
    match verdict:
        case Verdict.TRUSTED | Verdict.FIRST_CONTACT:
            return None
        case Verdict.UNKNOWN:
            text = f"no key is pinned for {name}, which came{shown}"
            return _Fault("untrusted_key", text, f"no key is pinned for {name}")
        case Verdict.MISMATCH:
            text = f"{name} came{shown}, but another key is pinned for it"
            told = f"another key is pinned for {name}"
            presented = fingerprint(hello.public_key)
            return _Fault("key_mismatch", text, told, presented)
        case Verdict.REVOKED:
            text = f"{name} came{shown}: the name or the key is revoked"
            return _Fault("revoked_key", text, "the name or the key is revoked")
        case Verdict.UNREADABLE:
            text = f"what is pinned for {name} cannot be read"
            return _Fault("pin_failed", text)
        case _:
            assert_never(verdict)


def _pin_fault(error: BarrelError) -> _Fault:
    code = error.code if error.code in ("key_mismatch", "revoked_key") else "pin_failed"
    return _Fault(code, str(error), "the key could not be pinned")


def _check_sizes(certificate_hash: bytes, exporter: bytes, nonce: bytes) -> None:
    # One that is short or empty would still sign and verify, and bind nothing.
    for name, value, size in (
        ("certificate_hash", certificate_hash, HASH_BYTES),
        ("exporter", exporter, EXPORTER_BYTES),
        ("nonce", nonce, NONCE_BYTES),
    ):
        if len(value) != size:
            raise InvalidValue(f"{name} has {len(value)} bytes, not {size}")
