"""The transport's certificate: self-signed, made once, renewed before it expires.

A node's identity is its Ed25519 key, not this certificate: no authority signs it and
the handshake binds whatever certificate a connection shows. So an expired pair is
simply replaced, private key included. Files that somebody else put here are checked
and used, but never overwritten.

Bounded by ``PEM_BYTES_MAX``, ``DAYS_MIN`` and ``DAYS_MAX``.

Source: RFC 5280 (4.1.2.2 serial, 4.1.2.5 validity, 4.2.1 extensions); RFC 5958 (key).
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from barrel_p2p.errors import InvalidValue, StorageError
from barrel_p2p.storage.files import (
    PUBLIC_MODE,
    ensure_private_directory,
    read_file,
    remove_file,
    remove_leftovers,
    rename_durable,
    write_atomic,
)

__all__ = [
    "DAYS_MAX",
    "DAYS_MIN",
    "PEM_BYTES_MAX",
    "CertificateFiles",
    "ensure_certificate",
]

PEM_BYTES_MAX = 65_536
"""Size of a certificate file (which may hold a chain) or of a key file."""

DAYS_MIN = 8
DAYS_MAX = 36_500

_BACKDATE = dt.timedelta(seconds=300)
_RENEW_BEFORE = dt.timedelta(days=DAYS_MIN - 1)
_SERIAL_BITS = 127
_ORGANIZATION = "Barrel P2P"
_COMMON_NAME_DEFAULT = "barrel_p2p-node"
_COMMON_NAME_BYTES_MAX = 64  # RFC 5280, ub-common-name

_log = logging.getLogger("barrel_p2p.auth")


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A pair on disk that was found fit for use.

    ``der_sha256`` is the SHA-256 of the (first) certificate in DER, 32 bytes.
    """

    cert_file: Path
    key_file: Path
    not_after: dt.datetime
    der_sha256: bytes


def ensure_certificate(
    directory: str | os.PathLike[str],
    node_name: str | None = None,
    *,
    now: dt.datetime | None = None,
    days: int = 365,
) -> CertificateFiles:
    """Return the pair ``node.crt`` and ``node.key`` in ``directory``, fit for use now.

    An existing pair is checked and left untouched. A new one (ECDSA P-256, mode 0600
    for the key) is made when a file is missing, or when the pair is one of ours and
    expired, expires within a week, or is not valid yet.

    Args:
        directory: Created with mode 0700 if missing. No other process may call this
            for the same directory at the same time.
        node_name: Common name of a new certificate, cut after 64 bytes. It is for
            human readers; nothing trusts it.
        now: Aware; the current time if None.
        days: Validity of a new certificate, ``DAYS_MIN`` to ``DAYS_MAX``.

    Raises:
        InvalidValue: ``days`` is out of range, ``node_name`` is empty, or ``now`` is
            naive or too far from the present for a certificate.
        StorageError: A file cannot be read or written, is not what it should be, is
            open to others, does not match its partner, or holds a certificate that we
            did not make and that is not valid now. No existing file was changed, or
            the next call finishes what could not be finished.

    Guarantee:
        A crash at any point leaves a state that the next call repairs by itself.

    Source:
        Barrel P2P documentation, "Authentication".
    """
    terms = _Terms.checked(node_name, now, days)
    pair = _Pair(Path(directory))
    ensure_private_directory(pair.directory)
    remove_leftovers(pair.directory)
    pair.settle()
    if pair.is_complete():
        cert = pair.load()
        reason = _why_renew(cert, pair.cert_file, terms.now)
        if reason is None:
            return pair.described(cert)
    else:
        reason = "a file of the pair was missing"
    cert, key = _issue(terms)
    pair.replace(cert, key)
    _log.info(
        "made the transport certificate %s, valid until %s: %s",
        pair.cert_file,
        cert.not_valid_after_utc.date(),
        reason,
    )
    return pair.described(cert)


@dataclass(frozen=True, slots=True)
class _Terms:
    """What a new certificate is to say, already within its bounds."""

    common_name: str
    now: dt.datetime
    not_before: dt.datetime
    not_after: dt.datetime

    @classmethod
    def checked(
        cls, node_name: str | None, now: dt.datetime | None, days: int
    ) -> _Terms:
        if not DAYS_MIN <= days <= DAYS_MAX:
            raise InvalidValue(f"days={days} is not from {DAYS_MIN} to {DAYS_MAX}")
        at = dt.datetime.now(dt.UTC) if now is None else now
        if at.utcoffset() is None:
            raise InvalidValue(f"now={at} is naive", hint="Give it a tzinfo.")
        try:
            at = at.astimezone(dt.UTC).replace(microsecond=0)
            not_before, not_after = at - _BACKDATE, at + dt.timedelta(days=days)
        except OverflowError as error:
            raise InvalidValue(
                f"now={at} and {days} days leave the calendar"
            ) from error
        if not_before.year < 1950:
            raise InvalidValue(f"now={at} is before 1950, where X.509 time begins")
        return cls(_common_name(node_name), at, not_before, not_after)


class _Pair:
    """The two files, and the third that exists only while they are being replaced.

    ``replace`` writes the new certificate under ``staged_file``, then the key, then
    renames the certificate into place. So if the staged certificate fits the key, only
    the last step is missing; otherwise the old pair still stands.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.cert_file = directory / "node.crt"
        self.key_file = directory / "node.key"
        self.staged_file = directory / "node.crt.next"

    def is_complete(self) -> bool:
        return os.path.lexists(self.cert_file) and os.path.lexists(self.key_file)

    def settle(self) -> None:
        """Finish or undo a replacement that a crash interrupted."""
        if not os.path.lexists(self.staged_file):
            return
        if os.path.lexists(self.key_file) and self._staged_fits():
            rename_durable(self.staged_file, self.cert_file)
            _log.info("finished an interrupted renewal of %s", self.cert_file)
        else:
            remove_file(self.staged_file)

    def load(self) -> x509.Certificate:
        """Return the certificate, once it is known to belong to the key."""
        cert, key = _read_cert(self.cert_file), _read_key(self.key_file)
        if cert.public_key() != key.public_key():
            raise StorageError(
                f"{self.cert_file} was not made for {self.key_file}",
                hint="Restore the one that is wrong, or remove both to get a new pair.",
            )
        return cert

    def replace(self, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        """Put a new pair in place, in steps that ``settle`` can finish."""
        cert_pem = cert.public_bytes(serialization.Encoding.PEM)
        key_pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_atomic(self.staged_file, cert_pem, mode=PUBLIC_MODE)
        write_atomic(self.key_file, key_pem)
        rename_durable(self.staged_file, self.cert_file)

    def described(self, cert: x509.Certificate) -> CertificateFiles:
        der = cert.public_bytes(serialization.Encoding.DER)
        return CertificateFiles(
            self.cert_file,
            self.key_file,
            cert.not_valid_after_utc,
            hashlib.sha256(der).digest(),
        )

    def _staged_fits(self) -> bool:
        key = _read_key(self.key_file)
        try:
            return _read_cert(self.staged_file).public_key() == key.public_key()
        except StorageError:
            return False  # Not written by us: ours appear whole.


def _why_renew(cert: x509.Certificate, path: Path, now: dt.datetime) -> str | None:
    """Say why ``cert`` has to be replaced, or None; refuse to replace a foreign one."""
    not_before, not_after = cert.not_valid_before_utc, cert.not_valid_after_utc
    if now > not_after:
        reason = f"the last one expired on {not_after.date()}"
    elif now < not_before:
        reason = f"the last one was valid only from {not_before.date()}"
    elif now > not_after - _RENEW_BEFORE:
        reason = f"the last one would expire on {not_after.date()}"
    else:
        return None
    if _is_ours(cert):
        return reason
    if not_before <= now <= not_after:
        _log.warning("the certificate in %s expires on %s", path, not_after.date())
        return None
    raise StorageError(
        f"the certificate in {path} is valid from {not_before} to {not_after}, not now",
        hint="Replace it and its key, or remove both to get a self-signed pair.",
    )


def _is_ours(cert: x509.Certificate) -> bool:
    organizations = cert.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)
    ours = [attribute.value for attribute in organizations] == [_ORGANIZATION]
    return ours and cert.issuer == cert.subject


def _issue(terms: _Terms) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, terms.common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANIZATION),
        ]
    )
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    roles = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1 + secrets.randbelow(2**_SERIAL_BITS - 1))
        .not_valid_before(terms.not_before)
        .not_valid_after(terms.not_after)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(roles), critical=False)
    )
    return builder.sign(key, hashes.SHA256()), key


def _common_name(node_name: str | None) -> str:
    if node_name is None:
        return _COMMON_NAME_DEFAULT
    try:
        cut = node_name.encode()[:_COMMON_NAME_BYTES_MAX].decode(errors="ignore")
    except UnicodeEncodeError as error:
        raise InvalidValue(f"node_name={node_name!r} is not valid text") from error
    if not cut:
        raise InvalidValue("node_name='' is empty", hint="Leave it out, or name it.")
    return cut


def _read_cert(path: Path) -> x509.Certificate:
    pem = read_file(path, bytes_max=PEM_BYTES_MAX)
    try:
        cert = x509.load_pem_x509_certificate(pem)
        cert.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StorageError(
            f"{path} holds no certificate in PEM that can be used: {error}",
            hint="Restore it, or remove it and its key to get a new pair.",
        ) from error
    return cert


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    pem = read_file(path, bytes_max=PEM_BYTES_MAX, private=True)
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # The text of the error may quote what it read, and this file is secret.
        raise StorageError(
            f"{path} holds no unencrypted private key in PEM",
            hint="Restore it, or remove it and its certificate to get a new pair.",
        ) from error
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name == "secp256r1":
        return key
    curve = f" {key.curve.name}" if isinstance(key, ec.EllipticCurvePrivateKey) else ""
    raise StorageError(
        f"{path} holds a key of type {type(key).__name__}{curve}; "
        "the transport signs with ECDSA P-256",
        hint="Use a P-256 key, or remove it and its certificate to get a new pair.",
    )
