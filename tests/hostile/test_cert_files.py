"""Files that somebody tampered with, and crashes, never lead to a wrong pair."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.auth.certs import PEM_BYTES_MAX, ensure_certificate
from barrel_p2p.errors import StorageError
from barrel_p2p.storage.files import (
    ensure_private_directory,
    read_file,
    write_atomic,
)
from tests.tree import ROOT

NOBODY = 65_534


@pytest.fixture
def pair(tmp_path: Path) -> Path:
    """A directory that holds a good pair."""
    ensure_certificate(tmp_path, "a@host")
    return tmp_path


@pytest.fixture
def as_ordinary_user() -> Iterator[Path]:
    """A directory of a user who is not root, with us being that user."""
    before = os.geteuid()
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        if before == 0:
            os.chown(path, NOBODY, -1)
            os.seteuid(NOBODY)
        try:
            yield path
        finally:
            os.seteuid(before)


def contents(directory: Path) -> dict[str, bytes | None]:
    return {
        path.name: path.read_bytes() if path.is_file() else None
        for path in directory.iterdir()
    }


def refuses(directory: Path, match: str) -> StorageError:
    """Expect a StorageError with a way out, and not one byte changed."""
    before = contents(directory)
    with pytest.raises(StorageError, match=match) as caught:
        ensure_certificate(directory, "a@host")
    assert contents(directory) == before
    return caught.value


def pem_of(key: PrivateKeyTypes, password: bytes | None = None) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password)
        if password
        else serialization.NoEncryption(),
    )


@pytest.mark.parametrize("name", ["node.crt", "node.key"])
def test_a_link_in_place_of_a_file_is_refused(pair: Path, name: str) -> None:
    (pair / name).rename(pair / "elsewhere")
    (pair / name).symlink_to(pair / "elsewhere")
    error = refuses(pair, f"cannot read .*{name}: it is a symbolic link")
    assert error.hint == "Put the file itself there."


def test_dangling_links_are_refused_and_not_written_through(tmp_path: Path) -> None:
    for name in ("node.crt", "node.key"):
        (tmp_path / name).symlink_to(tmp_path / f"created-{name}")
    refuses(tmp_path, "it is a symbolic link")


def test_a_link_in_place_of_the_directory_is_refused(pair: Path) -> None:
    link = pair / "link"
    link.symlink_to(pair)
    with pytest.raises(StorageError, match="link is a symbolic link, not a directory"):
        ensure_certificate(link)


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "quic").touch()
    with pytest.raises(StorageError, match="quic is a file, not a directory"):
        ensure_certificate(tmp_path / "quic")
    with pytest.raises(StorageError, match="Not a directory"):
        ensure_certificate(tmp_path / "quic" / "deeper")


@pytest.mark.parametrize("name", ["node.crt", "node.key"])
def test_what_is_no_regular_file_is_refused_without_waiting(
    pair: Path, name: str
) -> None:
    path = pair / name
    path.unlink()
    path.mkdir()
    refuses(pair, f"{name} is a directory, not a regular file")
    path.rmdir()
    os.mkfifo(path, 0o600)
    refuses(pair, f"{name} is a pipe, not a regular file")


def test_a_socket_and_a_device_are_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(StorageError, match=r"cannot read .*No such device"):
            read_file(tmp_path / "s", bytes_max=10)
    with pytest.raises(StorageError, match="is a device, not a regular file"):
        read_file(Path("/dev/zero"), bytes_max=10)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o777])
def test_a_key_that_others_can_reach_is_refused_with_the_remedy(
    pair: Path, mode: int
) -> None:
    key = pair / "node.key"
    key.chmod(mode)
    error = refuses(pair, f"node.key is private.*its mode is {mode:04o}")
    assert error.hint == f"chmod 600 {key}"


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o720, 0o702, 0o1777])
def test_a_directory_that_others_can_write_is_refused(pair: Path, mode: int) -> None:
    pair.chmod(mode)
    error = refuses(pair, f"others may write to .*its mode is {mode:04o}")
    assert error.hint == f"chmod 700 {pair}"


def test_an_unreadable_key_is_named(as_ordinary_user: Path) -> None:
    ensure_certificate(as_ordinary_user)
    (as_ordinary_user / "node.key").chmod(0o000)
    with pytest.raises(StorageError, match=r"cannot read .*node.key: Permission"):
        ensure_certificate(as_ordinary_user)


def test_an_unwritable_directory_is_named(as_ordinary_user: Path) -> None:
    as_ordinary_user.chmod(0o500)
    with pytest.raises(StorageError, match=r"cannot write .*: Permission denied"):
        ensure_certificate(as_ordinary_user)
    with pytest.raises(StorageError, match=r"cannot create .*: Permission denied"):
        ensure_certificate(as_ordinary_user / "quic")
    as_ordinary_user.chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_belongs_to_somebody_else_is_refused(pair: Path) -> None:
    key = pair / "node.key"
    os.chown(key, NOBODY, -1)
    error = refuses(pair, f"node.key belongs to user {NOBODY}, not to us")
    assert error.hint == f"chown 0 {key}"
    os.chown(key, 0, -1)
    os.chown(pair, NOBODY, -1)
    refuses(pair, f"belongs to user {NOBODY}, not to us")


@pytest.mark.parametrize(
    ("garble", "what"),
    [
        (lambda pem: b"", "empty"),
        (lambda pem: b"\0\xff" * 500, "binary"),
        (lambda pem: pem[: len(pem) // 2], "cut"),
        (lambda pem: pem.replace(b"-----END", b"-----end"), "unended"),
        (lambda pem: pem[:40] + b"!!!!" + pem[44:], "garbled"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("name", ["node.crt", "node.key"])
def test_garbage_is_refused_and_kept(
    pair: Path, name: str, garble: Callable[[bytes], bytes], what: str
) -> None:
    path = pair / name
    path.write_bytes(garble(path.read_bytes()))
    error = refuses(pair, f"{name} holds no .* in PEM")
    assert error.hint is not None
    assert "remove it and its" in error.hint


@given(st.binary(max_size=400))
def test_no_bytes_of_a_certificate_raise_anything_else(noise: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "node.crt").write_bytes(noise)
        write_atomic(directory / "node.key", noise)
        with pytest.raises(StorageError):
            ensure_certificate(directory)


@pytest.mark.parametrize("name", ["node.crt", "node.key"])
def test_a_huge_file_is_refused_by_its_limit(pair: Path, name: str) -> None:
    with (pair / name).open("ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(StorageError, match=f"{name} is larger than bytes_max=65536"):
        ensure_certificate(pair)
    assert PEM_BYTES_MAX == 65_536


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (rsa.generate_private_key(65_537, 2_048), "RSAPrivateKey;"),
        (ec.generate_private_key(ec.SECP384R1()), "ECPrivateKey secp384r1;"),
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519PrivateKey;"),
    ],
    ids=["rsa", "p384", "ed25519"],
)
def test_a_key_of_another_kind_is_named(
    pair: Path, key: PrivateKeyTypes, kind: str
) -> None:
    (pair / "node.key").write_bytes(pem_of(key))
    refuses(pair, f"holds a key of type {kind} the transport signs with ECDSA P-256")


def test_an_encrypted_key_is_refused_without_asking(pair: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    (pair / "node.key").write_bytes(pem_of(key, b"password"))
    refuses(pair, "node.key holds no unencrypted private key")


def test_an_error_never_quotes_the_key_file(pair: Path) -> None:
    (pair / "node.key").write_bytes(b"-----BEGIN PRIVATE KEY-----\nSECRET\n")
    error = refuses(pair, "holds no unencrypted private key")
    assert "SECRET" not in str(error)


def test_a_key_of_another_pair_names_both_files_and_the_way_out(pair: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    (pair / "node.key").write_bytes(pem_of(other))
    error = refuses(pair, r"node\.crt was not made for .*node\.key")
    assert error.hint is not None
    assert "remove both" in error.hint


def test_a_full_disk_leaves_the_old_file_and_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomic(path, b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, before[1]))
    try:
        with pytest.raises(StorageError, match=r"cannot write .*: File too large"):
            write_atomic(path, bytes(8_192))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert contents(tmp_path) == {"file": b"old"}


def test_a_write_replaces_a_link_and_spares_what_it_leads_to(tmp_path: Path) -> None:
    victim, link = tmp_path / "victim", tmp_path / "link"
    victim.write_bytes(b"precious")
    link.symlink_to(victim)
    write_atomic(link, b"new")
    assert victim.read_bytes() == b"precious"
    assert not link.is_symlink()


def test_a_directory_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "dir").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*dir: Is a directory"):
        write_atomic(tmp_path / "dir", b"new")
    assert contents(tmp_path) == {"dir": None}


def test_a_dangling_link_is_no_private_directory(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "created")
    with pytest.raises(StorageError, match="is a symbolic link, not a directory"):
        ensure_private_directory(tmp_path / "link")
    assert not (tmp_path / "created").exists()


@pytest.mark.parametrize("staged", [b"garbage", None])
def test_a_strange_staged_file_is_dropped_or_named(
    pair: Path, staged: bytes | None
) -> None:
    before = contents(pair)
    if staged is None:
        (pair / "node.crt.next").symlink_to(pair / "node.crt")
    else:
        (pair / "node.crt.next").write_bytes(staged)
    ensure_certificate(pair)
    assert contents(pair) == before
    (pair / "node.crt.next").mkdir()
    refuses(pair, "cannot remove .*node.crt.next")


# Each audit event is a place to die: the child leaves at the n-th, without cleaning up.
CRASHES = """
import datetime as dt, os, shutil, sys
from pathlib import Path
from barrel_p2p.auth.certs import ensure_certificate

base, start, now = Path(sys.argv[1]), sys.argv[2], dt.datetime.now(dt.UTC)
if start == "renewal":
    ensure_certificate(base / "start", now=now - dt.timedelta(days=400))
else:
    (base / "start").mkdir(mode=0o700)

def die_at(n):
    def hook(event, args):
        nonlocal n
        n -= 1
        if n < 0:
            os._exit(9)
    sys.addaudithook(hook)

crashes = 0
while True:
    directory = base / str(crashes)
    shutil.copytree(base / "start", directory)
    pid = os.fork()
    if pid == 0:
        die_at(crashes)
        ensure_certificate(directory, now=now)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    repaired = ensure_certificate(directory, now=now)
    assert ensure_certificate(directory, now=now) == repaired
    assert sorted(os.listdir(directory)) == ["node.crt", "node.key"]
    assert (repaired.not_after - now).days >= 364
    if status == 0:
        break
    assert status == 9, status
    crashes += 1
print(crashes)
"""


@pytest.mark.parametrize("start", ["renewal", "first"])
def test_a_crash_at_any_step_is_repaired_by_the_next_call(
    tmp_path: Path, start: str
) -> None:
    child = subprocess.run(
        [sys.executable, "-c", CRASHES, str(tmp_path), start],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) >= 8


def test_a_swap_that_stopped_half_way_is_finished(tmp_path: Path) -> None:
    """The new key is in place and the new certificate still waits under its side."""
    new, broken = tmp_path / "new", tmp_path / "broken"
    wanted = ensure_certificate(new)
    ensure_certificate(broken)
    shutil.copy2(new / "node.key", broken / "node.key")
    shutil.copy2(new / "node.crt", broken / "node.crt.next")
    assert ensure_certificate(broken).der_sha256 == wanted.der_sha256
    assert sorted(contents(broken)) == ["node.crt", "node.key"]
