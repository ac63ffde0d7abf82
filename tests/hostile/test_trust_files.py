"""A pin that cannot be read or stored refuses its name, and is never taken for none."""

from __future__ import annotations

import logging
import os
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.auth.machine import Wanted
from barrel_p2p.auth.signing import fingerprint
from barrel_p2p.auth.trust import TrustStore, Verdict
from barrel_p2p.core.clock import SystemClock
from barrel_p2p.errors import StorageError
from tests.handshakes import Link, Party, Side, key_pair, talk

NOBODY = 65_534
KEY, OTHER = (key_pair().public_key for _ in range(2))


def opened(directory: Path, mode: str = "tofu") -> TrustStore:
    return TrustStore(directory, mode=mode, clock=SystemClock())


def meet(dialled_by: Party, accepted_by: Party) -> tuple[Side, Side]:
    link = Link()
    sides = dialled_by.dial(link, accepted_by.name), accepted_by.accept(link)
    talk(*sides)
    return sides


def gone(trusted: Path) -> None:
    trusted.rename(trusted.with_name("elsewhere"))


def a_file(trusted: Path) -> None:
    gone(trusted)
    trusted.write_text("no directory")


def a_link_to_nowhere(trusted: Path) -> None:
    gone(trusted)
    trusted.symlink_to("nowhere")


@pytest.mark.parametrize("broken", [gone, a_file, a_link_to_nowhere])
@pytest.mark.parametrize("who", ["dialler", "acceptor"])
def test_without_a_place_for_the_pin_the_session_is_refused(
    tmp_path: Path, broken: Callable[[Path], None], who: str
) -> None:
    """A7: on either side, and the other side is not told of a success."""
    a, b = Party(tmp_path, "a@h"), Party(tmp_path, "b@h")
    victim, other = (a, b) if who == "dialler" else (b, a)
    broken(victim.trust_directory / "trusted")
    sides = meet(a, b)
    assert [side.code for side in sides] == ["pin_failed", "pin_failed"]
    assert not victim.trust.is_trusted(other.name, other.keys.public_key)
    trusted = victim.trust_directory / "trusted"
    if os.path.lexists(trusted):
        trusted.unlink()
    trusted.with_name("elsewhere").rename(trusted)
    assert all(side.admitted for side in meet(a, b))
    assert victim.trust.is_trusted(other.name, other.keys.public_key)


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow: what a full disk looks like to a program."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_on_a_full_disk_the_session_is_refused(tmp_path: Path) -> None:
    """A7: and works again once there is room, with exactly one pin."""
    a, b = Party(tmp_path, "a@h"), Party(tmp_path, "b@h")
    b.trust.store_key("a@h", a.keys.public_key)
    with full_disk():
        dialler, acceptor = meet(a, b)
    assert [dialler.code, acceptor.code] == ["pin_failed", "pin_failed"]
    assert a.trust.list_trusted() == []
    assert not any(p.suffix == ".tmp" for p in a.trust_directory.rglob("*"))
    assert all(side.admitted for side in meet(a, b))
    assert [p.node for p in a.trust.list_trusted()] == ["b@h"]


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


def test_a_read_only_or_unreadable_store_refuses(as_ordinary_user: Path) -> None:
    """A7: where the disk may be read but not written, and where not even that."""
    a, b = (Party(as_ordinary_user, name) for name in ("a@h", "b@h"))
    trusted = b.trust_directory / "trusted"
    b.trust.store_key("pinned@h", KEY)
    again = opened(b.trust_directory)
    for mode in (0o500, 0o000):
        trusted.chmod(mode)
        try:
            _, acceptor = meet(a, b)
            assert acceptor.code == "pin_failed"
            # What was read before still holds; what was not is not taken for absent.
            assert again.check("pinned@h", KEY) is Verdict.TRUSTED
            assert again.check("pinned@h", OTHER) in (
                Verdict.MISMATCH,
                Verdict.UNREADABLE,
            )
        finally:
            trusted.chmod(0o700)
    trusted.chmod(0o000)
    try:
        assert again.check("new@h", KEY) is Verdict.UNREADABLE
        with pytest.raises(StorageError):
            opened(b.trust_directory)
    finally:
        trusted.chmod(0o700)
    assert meet(a, b)[1].admitted


def wrong_size(pin: Path) -> None:
    pin.write_bytes(KEY[:31])


def too_long(pin: Path) -> None:
    pin.write_bytes(KEY + b"\n")


def empty(pin: Path) -> None:
    pin.write_bytes(b"")


def no_key(pin: Path) -> None:
    pin.write_bytes(bytes(32))


def directory(pin: Path) -> None:
    pin.unlink()
    pin.mkdir()


def link(pin: Path) -> None:
    pin.rename(pin.with_suffix(".moved"))
    pin.symlink_to(pin.with_suffix(".moved"))


def dangling(pin: Path) -> None:
    pin.unlink()
    pin.symlink_to("nowhere")


def pipe(pin: Path) -> None:
    pin.unlink()
    os.mkfifo(pin)


@pytest.mark.parametrize(
    "damage", [wrong_size, too_long, empty, no_key, directory, link, dangling, pipe]
)
def test_a_damaged_pin_is_never_taken_for_no_pin(
    tmp_path: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    """A7: whoever comes under its name is refused, with the old key or another."""
    a, b = Party(tmp_path, "a@h"), Party(tmp_path, "b@h")
    b.knows(a)
    pin = b.trust_directory / "trusted" / "a@h.pub"
    damage(pin)
    with caplog.at_level(logging.ERROR):
        b.trust = opened(b.trust_directory)
    assert "nobody gets in as a@h" in caplog.text
    before = os.lstat(pin)
    for keys in (a.keys, key_pair()):
        a.keys = keys
        _, acceptor = meet(a, b)
        assert (acceptor.code, acceptor.told()) == ("pin_failed", "pin_failed")
    assert os.lstat(pin) == before
    assert not b.trust.is_trusted("a@h", KEY)
    for call in (b.trust.lookup_key, b.trust.lookup_pin):
        with pytest.raises(StorageError):
            call("a@h")
    with pytest.raises(StorageError):
        b.trust.pin("a@h", KEY)


def test_a_damaged_pin_can_be_revoked_and_deleted(tmp_path: Path) -> None:
    trust = opened(tmp_path)
    trust.store_key("a@h", KEY)
    empty(tmp_path / "trusted" / "a@h.pub")
    trust = opened(tmp_path)
    trust.revoke("a@h")
    assert trust.check("a@h", KEY) is Verdict.REVOKED
    assert opened(tmp_path).check("a@h", OTHER) is Verdict.REVOKED


@pytest.mark.parametrize("who_first", [0, 1])
def test_of_two_first_contacts_at_once_exactly_one_is_pinned(
    tmp_path: Path, who_first: int
) -> None:
    """A7: two nodes of one name race through the same handshake, step by step."""
    b = Party(tmp_path, "b@h")
    rivals = [Party(tmp_path / str(n), "a@h") for n in range(2)]
    races = []
    for rival in rivals:
        joined = Link()
        races.append((rival.dial(joined, "b@h"), b.accept(joined)))
    for _, acceptor in races:
        acceptor.answer = None
    for sides in races:
        talk(*sides)
    order = races if who_first == 0 else races[::-1]
    for _, acceptor in order:
        assert acceptor.asked is not None
        assert acceptor.asked.peer.first_contact
    for dialler, acceptor in order:
        acceptor.feed(Wanted())
        talk(dialler, acceptor)
    assert order[0][1].admitted
    assert [side.code for side in order[1]] == ["key_mismatch", "key_mismatch"]
    (pinned,) = b.trust.list_trusted()
    assert pinned.key == rivals[who_first].keys.public_key


@pytest.fixture(scope="module")
def pinned_at(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which ``a@h`` is pinned."""
    directory = tmp_path_factory.mktemp("pinned")
    opened(directory).pin("a@h", KEY)
    return directory


@given(content=st.binary(max_size=200))
def test_metadata_of_any_content_harms_nobody(pinned_at: Path, content: bytes) -> None:
    (pinned_at / "trusted" / "a@h.json").write_bytes(content)
    (pinned,) = opened(pinned_at).list_trusted()
    assert (pinned.node, pinned.key) == ("a@h", KEY)
    assert pinned.level == "permanent"


def test_metadata_of_another_key_is_not_believed(tmp_path: Path) -> None:
    opened(tmp_path).pin("a@h", KEY)
    (tmp_path / "trusted" / "a@h.pub").write_bytes(OTHER)
    (pinned,) = opened(tmp_path).list_trusted()
    assert (pinned.key, pinned.level, pinned.last_seen) == (OTHER, "permanent", 0)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"revoked_at":1,"keys":["zz"]}', b"x" * 70_000]
)
def test_a_damaged_revocation_still_revokes_its_name(
    tmp_path: Path, content: bytes
) -> None:
    opened(tmp_path).revoke("a@h")
    (tmp_path / "revoked" / "a@h.json").write_bytes(content)
    assert opened(tmp_path).check("a@h", KEY) is Verdict.REVOKED
    assert opened(tmp_path).check("b@h", KEY) is Verdict.FIRST_CONTACT


def test_files_of_other_names_are_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trusted = tmp_path / "trusted"
    trusted.mkdir(mode=0o700)
    for name in ("A@H.pub", "a.pub", ".pub", "a@h.pub.bak", "README", "a@h.json"):
        (trusted / name).write_bytes(KEY)
    before = sorted(trusted.iterdir())
    assert opened(tmp_path).list_trusted() == []
    assert sorted(trusted.iterdir()) == before
    assert "'A@H' is no node name" in caplog.text


@pytest.mark.parametrize("folder", ["trusted", "revoked"])
def test_a_store_that_others_may_write_to_is_refused(
    tmp_path: Path, folder: str
) -> None:
    opened(tmp_path)
    (tmp_path / folder).chmod(0o777)
    with pytest.raises(StorageError, match="others may write"):
        opened(tmp_path)
    (tmp_path / folder).chmod(0o700)
    shutil.rmtree(tmp_path / folder)
    (tmp_path / folder).symlink_to(tmp_path)
    with pytest.raises(StorageError, match="symbolic link"):
        opened(tmp_path)


def test_a_pin_whose_metadata_cannot_be_written_is_no_pin(tmp_path: Path) -> None:
    trust = opened(tmp_path)
    (tmp_path / "trusted" / "a@h.json").mkdir()
    with pytest.raises(StorageError):
        trust.pin("a@h", KEY)
    assert trust.check("a@h", OTHER) is Verdict.FIRST_CONTACT
    assert not (tmp_path / "trusted" / "a@h.pub").exists()


def test_a_crash_between_the_two_files_of_a_pin_leaves_no_pin(tmp_path: Path) -> None:
    opened(tmp_path).pin("a@h", KEY)
    (tmp_path / "trusted" / "a@h.pub").unlink()
    (tmp_path / "trusted" / ".barrel_p2p-0123456789abcdef.tmp").write_bytes(KEY)
    trust = opened(tmp_path)
    assert trust.check("a@h", OTHER) is Verdict.FIRST_CONTACT
    trust.pin("a@h", OTHER)
    (pinned,) = opened(tmp_path).list_trusted()
    assert (pinned.key, pinned.level) == (OTHER, "tofu")
    names = {path.name for path in (tmp_path / "trusted").iterdir()}
    assert names == {"a@h.pub", "a@h.json"}
    assert fingerprint(OTHER).ssh in (tmp_path / "trusted" / "a@h.json").read_text()
