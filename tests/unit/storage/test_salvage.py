"""A check tells what is wrong and changes nothing; a salvage keeps what is whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from barrel_p2p.cli.main import main
from barrel_p2p.core.hlc import Timestamp
from barrel_p2p.core.ormap import TOMBSTONE
from barrel_p2p.errors import StorageError
from barrel_p2p.ormap import Entry
from barrel_p2p.storage.database import Database, log_path
from barrel_p2p.storage.rows import encode_row
from barrel_p2p.storage.salvage import check_store, salvage_store, stores_in
from barrel_p2p.storage.wal import PAGE_BYTES
from barrel_p2p.wire.terms import key_bytes

KEYS = 2_000


def fill(path: Path, keys: int = KEYS, *, close: bool = True) -> None:
    database, _ = Database.open(path, store="map/m", node="a@h")
    rows = []
    for number in range(keys):
        value = TOMBSTONE if number % 10 == 0 else f"value {number}"
        entry = Entry(number, Timestamp(1_000 + number, 0), "a@h", value)
        rows.append(encode_row(key_bytes(number), entry))
    database.commit([], rows)
    if close:
        database.close()
    else:
        database.drop()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "maps" / "m.db"
    fill(path)
    return path


def damage(path: Path, page: int, at: int = 2_000) -> None:
    data = bytearray(path.read_bytes())
    data[page * PAGE_BYTES + at] ^= 0x55
    path.write_bytes(data)


def test_a_whole_store_is_counted_and_left_as_it_is(store: Path) -> None:
    before = store.read_bytes()
    report = check_store(store)
    assert (report.state, report.why, report.store, report.node) == (
        "whole",
        None,
        "map/m",
        "a@h",
    )
    assert (report.values, report.tombstones) == (KEYS - KEYS // 10, KEYS // 10)
    assert list(store.parent.iterdir()) == [store]
    assert store.read_bytes() == before


def test_what_is_only_in_the_log_is_counted_and_left_there(tmp_path: Path) -> None:
    path = tmp_path / "m.db"
    fill(path, 50, close=False)
    before = log_path(path).read_bytes()
    assert check_store(path).values == 45
    assert log_path(path).read_bytes() == before


CUT_SHORT = """
import os, sys
from pathlib import Path
from barrel_p2p.storage.salvage import salvage_store
left = int(sys.argv[2])
def cut(event, _):
    global left
    left -= event in ("os.rename", "os.remove")
    if not left:
        os._exit(9)
sys.addaudithook(cut)
salvage_store(Path(sys.argv[1]))
"""


def test_a_salvage_that_is_cut_short_leaves_no_older_store(tmp_path: Path) -> None:
    """Before whichever file it renames or removes; and the next one saves as much."""
    codes = []
    for step in range(1, 20):
        path = tmp_path / str(step) / "m.db"
        fill(path, 10)
        for keys in (20, 30):
            fill(path, keys, close=False)
        log = bytearray(log_path(path).read_bytes())
        log[200] ^= 0x55
        log_path(path).write_bytes(log)
        program = [sys.executable, "-c", CUT_SHORT, str(path), str(step)]
        codes.append(subprocess.run(program, check=False).returncode)
        if codes[-1] == 0:
            break
        report = check_store(path)
        assert (report.state, report.values) == ("damaged", 9), step
        assert salvage_store(path).kept == 10
        assert check_store(path).state == "whole"
    assert codes[-1] == 0
    assert set(codes[:-1]) == {9}
    assert len(codes) > 3


def test_a_store_in_use_is_said_to_be(store: Path) -> None:
    database, _ = Database.open(store, store="map/m", node="a@h")
    assert check_store(store).state == "in use"
    with pytest.raises(StorageError, match="is in use"):
        salvage_store(store)
    database.close()


@pytest.mark.parametrize("page", [10, 20, 30])
def test_a_damaged_page_costs_its_rows_and_no_others(store: Path, page: int) -> None:
    damage(store, page)
    old = store.read_bytes()
    report = check_store(store)
    assert report.state == "damaged"
    done = salvage_store(store)
    assert done.damaged.read_bytes() == old
    assert KEYS - 150 < done.kept < KEYS
    database, delta = Database.open(store, store="map/m", node="a@h")
    database.drop()
    assert len(delta) == done.kept
    for entry in delta.values():
        is_removed = int(str(entry.key)) % 10 == 0
        assert entry.value is TOMBSTONE if is_removed else f"value {entry.key}"
    again = [each.name for each in sorted(store.parent.iterdir())]
    assert again == ["m.db", "m.db.damaged-1"]


@pytest.mark.parametrize("left", [0, 5_000])
def test_a_store_without_its_first_page_is_told_what_it_is(
    store: Path, left: int
) -> None:
    store.write_bytes(bytes(PAGE_BYTES) + store.read_bytes()[PAGE_BYTES:left])
    assert check_store(store).state == "damaged"
    with pytest.raises(StorageError, match="does not say any more"):
        salvage_store(store)
    assert salvage_store(store, store="map/m", node="a@h").kept == 0
    assert check_store(store).state == "whole"


@pytest.mark.parametrize("word", [b"CREATE TABLE entry", b"entry(key BLOB", b"meta(k"])
@pytest.mark.parametrize("byte", [0xE5, 0x00, 0xFF, 0x22])
def test_tables_whose_text_is_damaged_are_told(
    store: Path, word: bytes, byte: int
) -> None:
    data = bytearray(store.read_bytes())
    data[data.index(word)] = byte
    store.write_bytes(data)
    assert check_store(store).state == "damaged"
    done = salvage_store(store, store="map/m", node="a@h")
    assert done.kept <= KEYS
    assert check_store(store).state == "whole"


def test_a_log_that_lost_its_store_is_damage(store: Path) -> None:
    store.unlink()
    log_path(store).write_bytes(b"left")
    log_path(store).chmod(0o600)
    assert stores_in(store.parent.parent) == [store]
    assert check_store(store).state == "damaged"
    salvage_store(store, store="map/m", node="a@h")
    assert log_path(store.with_name("m.db.damaged-1")).read_bytes() == b"left"


def test_the_commands_say_what_is_wrong_and_mend_it(
    store: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damage(store, 10)
    assert main(["store", "check", str(store.parent.parent), "--json"]) == 1
    (found,) = json.loads(capsys.readouterr().out)["stores"]
    assert (found["state"], found["path"]) == ("damaged", str(store))
    assert main(["store", "check", str(store)]) == 1
    assert f"barrel-p2p store salvage {store}" in capsys.readouterr().out
    assert main(["store", "salvage", str(store), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["path"] == str(store)
    assert main(["store", "check", str(store)]) == 0
    assert "ok  store map/m of a@h" in capsys.readouterr().out
    assert main(["store", "salvage", str(store)]) == 1
    assert main(["store", "check", str(store.parent / "none")]) == 1
