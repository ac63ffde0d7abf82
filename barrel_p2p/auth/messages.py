"""What travels on the auth streams: five messages and their bytes.

Every length is exact, so a message has one encoding and nothing can hide behind it. The
layout of HELLO never changes, because it is read before the versions are agreed on.

Bounded by ``BODY_BYTES_MAX``, ``FAIL_CODE_CHARS_MAX`` and ``FAIL_TEXT_BYTES_MAX``.

Source: docs/reference/wire.md, "Handshake".
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, assert_never

from barrel_p2p.errors import WireError
from barrel_p2p.wire.fields import Reader, misfit, short

__all__ = [
    "BODY_BYTES_MAX",
    "FAIL_CODE_CHARS_MAX",
    "FAIL_TEXT_BYTES_MAX",
    "NONCE_BYTES",
    "PROOF_BYTES",
    "PUBLIC_KEY_BYTES",
    "SIGNATURE_BYTES",
    "AuthKind",
    "Challenge",
    "Fail",
    "Hello",
    "Message",
    "Mode",
    "Ok",
    "Response",
    "cut",
    "decode",
    "encode",
]

NONCE_BYTES: Final = 32
PROOF_BYTES: Final = 32
PUBLIC_KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64

FAIL_CODE_CHARS_MAX: Final = 32
FAIL_TEXT_BYTES_MAX: Final = 512

BODY_BYTES_MAX: Final = 3 + FAIL_CODE_CHARS_MAX + FAIL_TEXT_BYTES_MAX
"""Bytes of the longest body, that of FAIL."""

_HELLO: Final = struct.Struct(">HHB")
_CHALLENGE: Final = struct.Struct(f">{NONCE_BYTES}sQ")
_CODE: Final = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)


class AuthKind(IntEnum):
    """Frame kinds of the auth streams, which have a table of their own."""

    HELLO = 1
    CHALLENGE = 2
    RESPONSE = 3
    OK = 4
    FAIL = 5


class Mode(IntEnum):
    """What a node is asked to prove."""

    COOKIE = 1
    """That it knows the cookie."""

    IDENTITY = 2
    """That, and that it holds the private key of its name."""


@dataclass(frozen=True, slots=True)
class Hello:
    """Who I am, and what I can speak.

    Args:
        protocol_min: Lowest version, 1 to 65,535.
        protocol_max: Highest version, not below ``protocol_min``.
        mode: What I want to be proved, both ways.
        name: My node name, as ``core.names`` checks it.
        public_key: ``PUBLIC_KEY_BYTES`` bytes; none if ``mode`` is COOKIE.
    """

    protocol_min: int
    protocol_max: int
    mode: Mode
    name: str
    public_key: bytes


@dataclass(frozen=True, slots=True)
class Challenge:
    """Answer this.

    Args:
        nonce: ``NONCE_BYTES`` bytes, never used before.
        wall_ms: What my clock shows, milliseconds since 1970.
    """

    nonce: bytes
    wall_ms: int


@dataclass(frozen=True, slots=True)
class Response:
    """The answer.

    Args:
        signature: ``SIGNATURE_BYTES`` bytes over the transcript; none in mode COOKIE.
        proof: ``PROOF_BYTES`` bytes, made with the cookie and the transcript.
    """

    signature: bytes
    proof: bytes


@dataclass(frozen=True, slots=True)
class Ok:
    """All I asked for was proved, and on this side nothing is left to be done."""


@dataclass(frozen=True, slots=True)
class Fail:
    """I refuse you.

    Args:
        code: For programs: ``[a-z][a-z0-9_]*``, at most ``FAIL_CODE_CHARS_MAX``.
        text: For people, at most ``FAIL_TEXT_BYTES_MAX`` bytes of UTF-8.
    """

    code: str
    text: str


Message = Hello | Challenge | Response | Ok | Fail


def encode(message: Message) -> tuple[int, bytes]:
    """Frame kind and body of ``message``, whose fields have to be within bounds."""
    match message:
        case Hello(protocol_min, protocol_max, mode, name, public_key):
            head = _HELLO.pack(protocol_min, protocol_max, mode)
            return AuthKind.HELLO, head + short(name) + public_key
        case Challenge(nonce, wall_ms):
            return AuthKind.CHALLENGE, _CHALLENGE.pack(nonce, wall_ms)
        case Response(signature, proof):
            return AuthKind.RESPONSE, signature + proof
        case Ok():
            return AuthKind.OK, b""
        case Fail(code, text):
            return AuthKind.FAIL, _encode_fail(code, text)
        case _:
            assert_never(message)


def decode(kind: int, body: bytes) -> Message:
    """The message in a frame of an auth stream.

    Args:
        kind: The frame's kind, 0 to 255.
        body: The frame's body, from somebody who has proved nothing yet.

    Raises:
        WireError: It is none, or not to the byte what ``encode`` makes.
    """
    match kind:
        case AuthKind.HELLO:
            return _decode_hello(body)
        case AuthKind.CHALLENGE:
            _need(len(body) == _CHALLENGE.size, "CHALLENGE", body)
            return Challenge(*_CHALLENGE.unpack(body))
        case AuthKind.RESPONSE:
            return _decode_response(body)
        case AuthKind.OK:
            _need(not body, "OK", body)
            return Ok()
        case AuthKind.FAIL:
            return _decode_fail(body)
        case _:
            raise WireError(f"kind {kind} is no message of the handshake")


def cut(text: str) -> str:
    """``text`` within ``FAIL_TEXT_BYTES_MAX``, and without what steers a terminal."""
    plain = "".join(c if c.isprintable() else "?" for c in text[:FAIL_TEXT_BYTES_MAX])
    # Surrogates are not printable, so this cannot fail.
    return plain.encode()[:FAIL_TEXT_BYTES_MAX].decode(errors="ignore")


def _decode_hello(body: bytes) -> Hello:
    reader = Reader(body, "HELLO")
    lowest, highest, mode = reader.unpack(_HELLO)
    if mode not in (Mode.COOKIE, Mode.IDENTITY):
        raise WireError(f"HELLO with mode {mode}, which is neither 1 nor 2")
    if not 1 <= lowest <= highest:
        raise WireError(f"HELLO with protocol versions {lowest} to {highest}")
    name = reader.node()
    public_key = reader.take(PUBLIC_KEY_BYTES if mode == Mode.IDENTITY else 0)
    reader.end()
    return Hello(lowest, highest, Mode(mode), name, public_key)


def _decode_response(body: bytes) -> Response:
    signature_bytes = len(body) - PROOF_BYTES
    _need(signature_bytes in (0, SIGNATURE_BYTES), "RESPONSE", body)
    return Response(body[:signature_bytes], body[signature_bytes:])


def _decode_fail(body: bytes) -> Fail:
    _need(len(body) >= 1, "FAIL", body)
    code_end = 1 + body[0]
    _need(body[0] <= FAIL_CODE_CHARS_MAX and len(body) >= code_end + 2, "FAIL", body)
    size = int.from_bytes(body[code_end : code_end + 2])
    _need(
        size <= FAIL_TEXT_BYTES_MAX and len(body) == code_end + 2 + size, "FAIL", body
    )
    try:
        code, text = body[1:code_end].decode("ascii"), body[code_end + 2 :].decode()
    except UnicodeDecodeError as error:
        raise WireError("FAIL whose code is not ASCII or text not UTF-8") from error
    if not _CODE.fullmatch(code):
        raise WireError(f"FAIL with code {code!r}")
    return Fail(code, text)


def _encode_fail(code: str, text: str) -> bytes:
    short, long = code.encode("ascii"), text.encode()
    assert len(short) <= FAIL_CODE_CHARS_MAX
    assert _CODE.fullmatch(code)
    assert len(long) <= FAIL_TEXT_BYTES_MAX
    return bytes([len(short)]) + short + len(long).to_bytes(2) + long


def _need(condition: bool, name: str, body: bytes) -> None:
    if not condition:
        raise misfit(name, body)
