"""The certificate says what RFC 5280 wants, is made once, and is renewed in time."""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import ssl
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from barrel_p2p.auth.certs import (
    DAYS_MAX,
    DAYS_MIN,
    CertificateFiles,
    ensure_certificate,
)
from barrel_p2p.errors import InvalidValue, StorageError

NOW = dt.datetime(2026, 3, 1, 12, 0, 0, tzinfo=dt.UTC)
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18


def certificate(files: CertificateFiles) -> x509.Certificate:
    return x509.load_pem_x509_certificate(files.cert_file.read_bytes())


def der_items(der: bytes) -> list[tuple[int, bytes]]:
    """The elements that follow one another in ``der``, as tag and content."""
    items, at = [], 0
    while at < len(der):
        tag, length, at = der[at], der[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(der[at : at + size]), at + size
        items.append((tag, der[at : at + length]))
        at += length
    return items


def validity(files: CertificateFiles) -> list[tuple[int, bytes]]:
    """The two times of a certificate, as they are encoded."""
    der = certificate(files).public_bytes(serialization.Encoding.DER)
    ((_, whole),) = der_items(der)
    fields = der_items(der_items(whole)[0][1])
    return der_items(fields[4][1])


def test_both_times_are_utc_time_before_2050(tmp_path: Path) -> None:
    """CRT-01: both bounds are UTCTime today."""
    assert validity(ensure_certificate(tmp_path, now=NOW)) == [
        (UTC_TIME, b"260301115500Z"),
        (UTC_TIME, b"270301120000Z"),
    ]


@pytest.mark.parametrize(
    ("ends", "tags"),
    [
        ("2049-12-31T23:59:59Z", [UTC_TIME, UTC_TIME]),
        ("2050-01-01T00:00:00Z", [UTC_TIME, GENERALIZED_TIME]),
        ("2051-01-01T00:04:59Z", [UTC_TIME, GENERALIZED_TIME]),
        ("2051-01-01T00:05:00Z", [GENERALIZED_TIME, GENERALIZED_TIME]),
    ],
)
def test_each_time_from_2050_is_generalized_time(
    tmp_path: Path, ends: str, tags: list[int]
) -> None:
    end = dt.datetime.fromisoformat(ends)
    files = ensure_certificate(tmp_path, now=end - dt.timedelta(days=365))
    assert [tag for tag, _ in validity(files)] == tags
    assert files.not_after == end
    _, last = validity(files)[1]
    assert last.endswith(end.strftime("%y%m%d%H%M%SZ").encode())


def test_serials_are_distinct_positive_and_of_127_bits(tmp_path: Path) -> None:
    """CRT-03: two certificates differ in serial."""
    serials = [
        certificate(ensure_certificate(tmp_path / str(n))).serial_number
        for n in range(20)
    ]
    assert len(set(serials)) == 20
    assert all(0 < serial < 2**127 for serial in serials)
    assert max(serial.bit_length() for serial in serials) > 120


def test_the_certificate_says_what_the_documentation_describes(tmp_path: Path) -> None:
    cert = certificate(ensure_certificate(tmp_path, "a@host", now=NOW, days=10))
    assert cert.version is x509.Version.v3
    assert cert.subject == cert.issuer
    assert cert.subject.rfc4514_string() == "O=Barrel P2P,CN=a@host"
    assert cert.not_valid_before_utc == NOW - dt.timedelta(seconds=300)
    assert cert.not_valid_after_utc == NOW + dt.timedelta(days=10)
    assert isinstance(cert.signature_hash_algorithm, hashes.SHA256)
    key = cert.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    cert.verify_directly_issued_by(cert)


def test_the_extensions_allow_signing_as_server_and_client_only(tmp_path: Path) -> None:
    extensions = certificate(ensure_certificate(tmp_path)).extensions
    assert [(type(e.value), e.critical) for e in extensions] == [
        (x509.BasicConstraints, True),
        (x509.KeyUsage, True),
        (x509.ExtendedKeyUsage, False),
    ]
    assert extensions[0].value == x509.BasicConstraints(ca=False, path_length=None)
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    assert not usage.key_agreement
    roles = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(roles) == {
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    }


@pytest.mark.parametrize(
    ("name", "common_name"),
    [
        (None, "barrel_p2p-node"),
        ("n" * 200, "n" * 64),
        ("é" * 40, "é" * 32),
        ("x" * 63 + "é", "x" * 63),
    ],
)
def test_the_common_name_is_cut_after_64_bytes(
    tmp_path: Path, name: str | None, common_name: str
) -> None:
    subject = certificate(ensure_certificate(tmp_path, name)).subject
    (attribute,) = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert attribute.value == common_name


def test_the_files_are_private_and_described(tmp_path: Path) -> None:
    directory = tmp_path / "data" / "quic"
    files = ensure_certificate(directory)
    assert files.cert_file == directory / "node.crt"
    assert files.key_file == directory / "node.key"
    modes = [
        stat.S_IMODE(path.lstat().st_mode)
        for path in (directory, files.key_file, files.cert_file)
    ]
    assert modes == [0o700, 0o600, 0o644]
    der = certificate(files).public_bytes(serialization.Encoding.DER)
    assert files.der_sha256 == hashlib.sha256(der).digest()


def test_a_second_call_touches_nothing(tmp_path: Path) -> None:
    first = ensure_certificate(tmp_path, "a@host", now=NOW)
    before = [path.stat() for path in (first.cert_file, first.key_file)]
    assert ensure_certificate(tmp_path, "b@host", now=NOW) == first
    assert [path.stat() for path in (first.cert_file, first.key_file)] == before


@pytest.mark.parametrize(
    ("later", "renewed"),
    [
        (dt.timedelta(seconds=-300), False),
        (dt.timedelta(seconds=-301), True),
        (dt.timedelta(days=358), False),
        (dt.timedelta(days=358, seconds=1), True),
        (dt.timedelta(days=4_000), True),
    ],
)
def test_a_pair_is_renewed_outside_its_time_or_a_week_before_the_end(
    tmp_path: Path,
    later: dt.timedelta,
    renewed: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    first = ensure_certificate(tmp_path, now=NOW)
    key = first.key_file.read_bytes()
    caplog.set_level(logging.INFO, "barrel_p2p.auth")
    second = ensure_certificate(tmp_path, now=NOW + later)
    assert (second != first) is renewed
    assert (second.key_file.read_bytes() != key) is renewed
    assert bool(caplog.messages) is renewed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["node.crt", "node.key"]


@pytest.mark.parametrize("missing", ["node.crt", "node.key"])
def test_half_a_pair_is_replaced_by_a_whole_one(tmp_path: Path, missing: str) -> None:
    first = ensure_certificate(tmp_path)
    (tmp_path / missing).unlink()
    second = ensure_certificate(tmp_path)
    assert second.der_sha256 != first.der_sha256
    assert ensure_certificate(tmp_path) == second


@pytest.mark.parametrize(
    "private_format",
    [
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.PrivateFormat.PKCS8,
    ],
)
def test_both_pem_forms_of_a_key_are_read(
    tmp_path: Path, private_format: serialization.PrivateFormat
) -> None:
    files = ensure_certificate(tmp_path)
    key = serialization.load_pem_private_key(files.key_file.read_bytes(), None)
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        private_format,
        serialization.NoEncryption(),
    )
    files.key_file.write_bytes(pem)
    assert ensure_certificate(tmp_path) == files
    assert files.key_file.read_bytes() == pem


def foreign_pair(directory: Path) -> None:
    """A certificate of another organisation, valid for 30 days from NOW."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Acme")])
    cert = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + dt.timedelta(days=30))
        .sign(key, hashes.SHA256())
    )
    own = ensure_certificate(directory)
    own.cert_file.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    own.key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@pytest.mark.parametrize("days", [-1, 31])
def test_a_foreign_certificate_that_is_not_valid_is_never_replaced(
    tmp_path: Path, days: int
) -> None:
    foreign_pair(tmp_path)
    before = (tmp_path / "node.crt").read_bytes()
    with pytest.raises(
        StorageError, match=r"node\.crt is valid from 2026-03-01 .* not"
    ):
        ensure_certificate(tmp_path, now=NOW + dt.timedelta(days=days))
    assert (tmp_path / "node.crt").read_bytes() == before


@pytest.mark.parametrize(("days", "warnings"), [(1, 0), (29, 1)])
def test_a_foreign_certificate_is_used_with_a_warning_in_its_last_week(
    tmp_path: Path, days: int, warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    foreign_pair(tmp_path)
    caplog.set_level(logging.WARNING, "barrel_p2p.auth")
    files = ensure_certificate(tmp_path, now=NOW + dt.timedelta(days=days))
    assert certificate(files).serial_number == 7
    assert len(caplog.messages) == warnings


@pytest.mark.parametrize("days", [DAYS_MIN - 1, DAYS_MAX + 1, 0, -1])
def test_days_out_of_range_are_refused(tmp_path: Path, days: int) -> None:
    with pytest.raises(InvalidValue, match=f"days={days} is not from 8 to 36500"):
        ensure_certificate(tmp_path / "quic", days=days)
    assert not (tmp_path / "quic").exists()


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (dt.datetime(2026, 1, 1), "is naive"),
        (dt.datetime(9999, 12, 1, tzinfo=dt.UTC), "leave the calendar"),
        (dt.datetime(1, 1, 1, tzinfo=dt.UTC), "leave the calendar"),
        (dt.datetime(1950, 1, 1, 0, 4, 59, tzinfo=dt.UTC), "before 1950"),
    ],
)
def test_a_time_that_no_certificate_can_state_is_refused(
    tmp_path: Path, now: dt.datetime, reason: str
) -> None:
    with pytest.raises(InvalidValue, match=reason):
        ensure_certificate(tmp_path, now=now)


@pytest.mark.parametrize("name", ["", "a@\udc80"])
def test_a_name_that_no_certificate_can_hold_is_refused(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(InvalidValue, match="node_name"):
        ensure_certificate(tmp_path, name)


def test_tls_accepts_the_pair_and_shows_the_hash_we_report(tmp_path: Path) -> None:
    files = ensure_certificate(tmp_path, "a@host")
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(files.cert_file, files.key_file)
    client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_side.check_hostname = False
    client_side.verify_mode = ssl.CERT_NONE
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(down, up)
    server = server_side.wrap_bio(up, down, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
    assert waiting == []
    shown = client.getpeercert(binary_form=True)
    assert shown is not None
    assert hashlib.sha256(shown).digest() == files.der_sha256
