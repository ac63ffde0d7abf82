"""One name, one key: pinned, kept over restarts, replaced by nobody but an operator."""

from __future__ import annotations

import json
import shutil
import stat
import threading
from pathlib import Path

import pytest

from barrel_p2p.auth import trust as trust_module
from barrel_p2p.auth.pin_files import PinnedKey
from barrel_p2p.auth.signing import fingerprint
from barrel_p2p.auth.trust import LAST_SEEN_STEP_MS, TrustStore, Verdict
from barrel_p2p.errors import InvalidValue, KeyMismatch, RevokedKey, StorageError
from tests.handshakes import key_pair

KEY, OTHER = (key_pair().public_key for _ in range(2))


class Clock:
    """A wall clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at_ms = 1_800_000_000_000

    def wall_ms(self) -> int:
        return self.at_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path, clock: Clock) -> TrustStore:
    return TrustStore(tmp_path, mode="tofu", clock=clock)


def again(tmp_path: Path, clock: Clock) -> TrustStore:
    return TrustStore(tmp_path, mode="strict", clock=clock)


def test_a_stored_key_is_found_and_trusted(store: TrustStore) -> None:
    """KEY-05, KEY-06, AUT-06: looked up as stored, trusted exactly, and listed."""
    store.store_key("A@Host", KEY)
    assert store.lookup_key("a@host") == store.lookup_pin("a@HOST") == KEY
    assert store.is_trusted("a@host", KEY)
    assert not store.is_trusted("a@host", OTHER)
    assert not store.is_trusted("b@host", KEY)
    assert [pinned.node for pinned in store.list_trusted()] == ["a@host"]


def test_a_pin_has_three_states_and_a_conflict_keeps_it(store: TrustStore) -> None:
    """AUT-22: not pinned, pinned with the stored key; a conflict keeps that."""
    assert store.lookup_pin("a@h") is None
    assert store.store_key_if_new("a@h", KEY)
    assert not store.store_key_if_new("a@h", KEY)
    with pytest.raises(KeyMismatch) as caught:
        store.store_key_if_new("a@h", OTHER)
    assert caught.value.pinned == fingerprint(KEY)
    assert caught.value.presented == fingerprint(OTHER)
    assert caught.value.peer == "a@h"
    assert store.lookup_pin("a@h") == KEY


def test_a_strict_store_trusts_no_stranger(tmp_path: Path, clock: Clock) -> None:
    """AUT-19: unknown keys are not trusted, and nothing is found."""
    store = TrustStore(tmp_path, mode="strict", clock=clock)
    assert store.check("a@h", KEY) is Verdict.UNKNOWN
    assert not store.is_trusted("a@h", KEY)
    assert store.lookup_key("a@h") is None


def test_the_mode_is_set_and_read_back_and_acts_at_once(store: TrustStore) -> None:
    """AUT-03: strict and tofu are set and read back."""
    assert store.get_trust_mode() == "tofu"
    assert store.check("a@h", KEY) is Verdict.FIRST_CONTACT
    store.set_trust_mode("strict")
    assert store.get_trust_mode() == "strict"
    assert store.check("a@h", KEY) is Verdict.UNKNOWN
    with pytest.raises(InvalidValue, match="'open' is neither tofu nor strict"):
        store.set_trust_mode("open")  # type: ignore[arg-type]
    assert store.get_trust_mode() == "strict"


def test_pins_and_what_is_known_of_them_survive_a_restart(
    store: TrustStore, tmp_path: Path, clock: Clock
) -> None:
    added = clock.at_ms
    store.pin("a@h", KEY)
    clock.at_ms += 5
    store.store_key("b@h", OTHER)
    before = store.list_trusted()
    assert [(p.node, p.level, p.added_at, p.last_seen) for p in before] == [
        ("a@h", "tofu", added, added),
        ("b@h", "permanent", added + 5, 0),
    ]
    assert again(tmp_path, clock).list_trusted() == before


def test_an_operator_s_key_replaces_a_pin_and_is_permanent(store: TrustStore) -> None:
    store.pin("a@h", KEY)
    store.store_key("a@h", OTHER)
    (pinned,) = store.list_trusted()
    assert (pinned.key, pinned.level) == (OTHER, "permanent")
    assert store.check("a@h", KEY) is Verdict.MISMATCH


def test_a_deleted_key_is_gone_for_good(
    store: TrustStore, tmp_path: Path, clock: Clock
) -> None:
    store.pin("a@h", KEY)
    store.delete_key("a@h")
    store.delete_key("never@h")
    assert store.check("a@h", OTHER) is Verdict.FIRST_CONTACT
    assert again(tmp_path, clock).lookup_key("a@h") is None
    assert list((tmp_path / "trusted").iterdir()) == []


def test_files_and_directories_are_private(store: TrustStore, tmp_path: Path) -> None:
    store.pin("a@h", KEY)
    store.revoke("a@h")
    store.pin("b@h", OTHER)
    paths = list(tmp_path.rglob("*"))
    assert {p.name for p in paths} == {
        *("trusted", "revoked", "a@h.json", "b@h.json", "b@h.pub")
    }
    for path in paths:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600)


def test_a_raw_key_that_an_operator_drops_works_alone(
    tmp_path: Path, clock: Clock
) -> None:
    (tmp_path / "trusted").mkdir(mode=0o700)
    (tmp_path / "trusted" / "a@h.pub").write_bytes(KEY)
    store = again(tmp_path, clock)
    (pinned,) = store.list_trusted()
    assert (pinned.node, pinned.key, pinned.level) == ("a@h", KEY, "permanent")
    assert pinned.last_seen == 0


def test_a_key_that_is_copied_here_at_run_time_is_found_on_a_miss(
    tmp_path: Path, clock: Clock
) -> None:
    store = again(tmp_path, clock)
    assert store.check("a@h", KEY) is Verdict.UNKNOWN
    (tmp_path / "trusted" / "a@h.pub").write_bytes(KEY)
    assert store.check("a@h", KEY) is Verdict.TRUSTED
    (tmp_path / "trusted" / "b@h.pub").write_bytes(OTHER)
    assert [p.node for p in store.list_trusted()] == ["a@h", "b@h"]


def test_a_key_that_is_replaced_here_at_run_time_is_found_when_it_is_shown(
    store: TrustStore, tmp_path: Path
) -> None:
    store.pin("a@h", KEY)
    (tmp_path / "trusted" / "a@h.pub").write_bytes(OTHER)
    assert store.check("a@h", OTHER) is Verdict.TRUSTED
    assert store.check("a@h", KEY) is Verdict.MISMATCH
    (pinned,) = store.list_trusted()
    assert pinned.level == "permanent"


def test_a_pin_removed_by_hand_holds_until_the_next_start(
    store: TrustStore, tmp_path: Path, clock: Clock
) -> None:
    store.pin("a@h", KEY)
    (tmp_path / "trusted" / "a@h.pub").unlink()
    assert store.check("a@h", OTHER) is Verdict.MISMATCH
    assert again(tmp_path, clock).check("a@h", OTHER) is Verdict.UNKNOWN


def test_a_contact_is_written_down_once_an_hour(
    store: TrustStore, tmp_path: Path, clock: Clock
) -> None:
    store.pin("a@h", KEY)
    record = tmp_path / "trusted" / "a@h.json"
    written = record.read_bytes()
    clock.at_ms += LAST_SEEN_STEP_MS - 1
    store.seen("a@h")
    assert record.read_bytes() == written
    clock.at_ms += 1
    store.seen("a@h")
    store.seen("never@h")
    assert json.loads(record.read_bytes())["last_seen"] == clock.at_ms
    assert again(tmp_path, clock).list_trusted() == store.list_trusted()
    assert store.list_trusted()[0].level == "tofu"


def test_a_revoked_name_is_refused_with_any_key_and_its_key_under_any_name(
    store: TrustStore, tmp_path: Path, clock: Clock
) -> None:
    store.pin("a@h", KEY)
    store.revoke("A@h")
    for checked in (store, again(tmp_path, clock)):
        assert checked.check("a@h", KEY) is Verdict.REVOKED
        assert checked.check("a@h", OTHER) is Verdict.REVOKED
        assert checked.check("a@h", None) is Verdict.REVOKED
        assert checked.check("b@h", KEY) is Verdict.REVOKED
        assert checked.check("b@h", OTHER) is not Verdict.REVOKED
        assert checked.is_revoked("a@h", None)
        assert not checked.is_revoked("b@h", None)
        assert checked.list_revoked() == ["a@h"]
        assert checked.list_trusted() == []


def test_nothing_revoked_can_be_pinned(store: TrustStore) -> None:
    store.pin("a@h", KEY)
    store.revoke("a@h")
    for pin in (store.pin, store.store_key, store.store_key_if_new):
        with pytest.raises(RevokedKey):
            pin("a@h", OTHER)
        with pytest.raises(RevokedKey):
            pin("b@h", KEY)
    assert store.list_trusted() == []


def test_a_revocation_can_be_undone(
    store: TrustStore, tmp_path: Path, clock: Clock
) -> None:
    store.pin("a@h", KEY)
    store.revoke("a@h")
    store.unrevoke("a@h")
    assert store.check("a@h", KEY) is Verdict.FIRST_CONTACT
    assert again(tmp_path, clock).check("a@h", KEY) is Verdict.UNKNOWN


def test_every_key_that_was_revoked_with_a_name_stays_so(store: TrustStore) -> None:
    store.pin("a@h", KEY)
    store.revoke("a@h")
    store.revoke("a@h")
    assert store.check("b@h", KEY) is Verdict.REVOKED


def test_those_who_asked_are_told_of_a_revocation_once_it_holds(
    store: TrustStore,
) -> None:
    told: list[tuple[str, bytes | None, bool]] = []

    def listener(name: str, key: bytes | None) -> None:
        told.append((name, key, store.is_revoked(name, None)))

    store.on_revoked(listener)
    store.pin("a@h", KEY)
    store.revoke("a@h")
    store.revoke("stranger@h")
    assert told == [("a@h", KEY, True), ("stranger@h", None, True)]


def copied(source: Path, target: Path) -> None:
    """Copy a file as `cp` does it: it has its name before it has its content."""
    target.touch()
    target.write_bytes(source.read_bytes())


def test_a_revocation_that_is_copied_in_by_hand_holds_at_the_next_question(
    store: TrustStore, tmp_path: Path, clock: Clock
) -> None:
    elsewhere = TrustStore(tmp_path / "elsewhere", mode="tofu", clock=clock)
    elsewhere.pin("a@h", KEY)
    elsewhere.revoke("a@h")
    told: list[tuple[str, bytes | None]] = []
    store.on_revoked(lambda name, key: told.append((name, key)))
    store.pin("a@h", KEY)
    assert store.check("a@h", KEY) is Verdict.TRUSTED
    copied(tmp_path / "elsewhere/revoked/a@h.json", tmp_path / "revoked/a@h.json")
    assert store.check("b@h", KEY) is Verdict.REVOKED
    assert store.check("a@h", OTHER) is Verdict.REVOKED
    assert told == [("a@h", None), ("a@h", KEY)]
    assert store.list_revoked() == ["a@h"]
    with pytest.raises(RevokedKey):
        store.store_key("c@h", KEY)
    (tmp_path / "revoked/a@h.json").unlink()
    assert store.is_revoked("a@h", None), "only `unrevoke` undoes it"
    store.unrevoke("a@h")
    assert not store.is_revoked("a@h", KEY)
    assert len(told) == 2


def test_a_revocation_that_is_half_copied_holds_for_its_name_and_then_for_its_key(
    store: TrustStore, tmp_path: Path
) -> None:
    record = tmp_path / "revoked/a@h.json"
    record.touch()
    assert store.check("a@h", KEY) is Verdict.REVOKED
    assert store.check("b@h", KEY) is Verdict.FIRST_CONTACT
    record.write_text(json.dumps({"revoked_at": 1, "keys": [KEY.hex()]}))
    assert store.check("b@h", KEY) is Verdict.REVOKED


def test_a_directory_of_revocations_that_is_gone_undoes_none(
    store: TrustStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.revoke("a@h")
    shutil.rmtree(tmp_path / "revoked")
    assert store.check("a@h", KEY) is Verdict.REVOKED
    assert "nothing new is revoked" in caplog.text


def test_the_number_of_pins_is_bounded(
    store: TrustStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trust_module, "PINS_MAX", 3)
    for n in range(3):
        store.pin(f"n{n}@h", KEY)
    with pytest.raises(StorageError, match="PINS_MAX=3"):
        store.pin("n3@h", KEY)
    store.store_key("n0@h", OTHER)
    assert store.check("n3@h", KEY) is Verdict.FIRST_CONTACT


def test_two_first_contacts_in_two_threads_leave_one_pin(store: TrustStore) -> None:
    for n in range(20):
        name = f"n{n}@h"
        outcomes: list[str] = []
        start = threading.Barrier(2)

        def contact(
            key: bytes,
            name: str = name,
            start: threading.Barrier = start,
            outcomes: list[str] = outcomes,
        ) -> None:
            start.wait()
            try:
                store.pin(name, key)
                outcomes.append("pinned")
            except KeyMismatch:
                outcomes.append("refused")

        threads = [threading.Thread(target=contact, args=(k,)) for k in (KEY, OTHER)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(outcomes) == ["pinned", "refused"]


@pytest.mark.parametrize("change", ["replaced", "deleted"])
def test_a_pin_that_changes_while_it_is_read_is_not_remembered_as_it_was(
    tmp_path: Path,
    store: TrustStore,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    again(tmp_path, clock).store_key("a@h", KEY)  # Known to the disk alone.
    read = store._pin_files.read

    def read_slowly(name: str) -> PinnedKey | None:
        found = read(name)
        monkeypatch.setattr(store._pin_files, "read", read)
        write = store.delete_key if change == "deleted" else replace
        writer = threading.Thread(target=write, args=(name,))
        writer.start()
        writer.join()
        return found

    def replace(name: str) -> None:
        store.store_key(name, OTHER)

    monkeypatch.setattr(store._pin_files, "read", read_slowly)
    assert store.is_trusted("a@h", KEY), "it was so when it was read"
    assert not store.is_trusted("a@h", KEY)
    assert store.is_trusted("a@h", OTHER) == (change == "replaced")


@pytest.mark.parametrize("mode", ["", "TOFU", "none"])
def test_an_unknown_mode_is_refused(tmp_path: Path, clock: Clock, mode: str) -> None:
    with pytest.raises(InvalidValue, match="neither tofu nor strict"):
        TrustStore(tmp_path, mode=mode, clock=clock)


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(32), b"\xff" * 32, bytes(64)])
def test_what_is_no_key_cannot_be_pinned(store: TrustStore, key: bytes) -> None:
    for pin in (store.pin, store.store_key, store.store_key_if_new):
        with pytest.raises(InvalidValue):
            pin("a@h", key)
    assert store.list_trusted() == []


def test_the_store_gives_fingerprints_as_the_documentation_has_it() -> None:
    assert TrustStore.fingerprint(KEY) == fingerprint(KEY)
