"""A configuration is checked once, and says of every value where it came from."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from barrel_p2p.config import Config
from barrel_p2p.config.settings import DEFAULT_COOKIE, keys
from barrel_p2p.config.values import MILLIS_MAX
from barrel_p2p.core.hlc import MAX_DRIFT_MS_DEFAULT
from barrel_p2p.errors import ConfigError
from barrel_p2p.quic.settings import EngineSettings
from tests.tree import ROOT

PAGE = ROOT / "docs" / "reference" / "config.md"
SECRET = "correct horse battery staple"


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    path = tmp_path / "barrel_p2p.toml"
    path.write_text(
        "listen_port = 1\nactive_size = 2\n"
        'contact_nodes = ["a@h", "b@h:9100"]\n'
        '[nodes]\n"a@h" = ["10.0.0.1", 9100]\n'
        "[replicated_maps.flags]\npersist = true\n"
    )
    return path


def test_code_beats_the_environment_and_that_the_file(toml: Path) -> None:
    env = {"BARREL_P2P_LISTEN_PORT": "3", "BARREL_P2P_ACTIVE_SIZE": "4"}
    config = Config.load(toml, env=env, active_size=5)
    assert (config.active_size, config.listen_port) == (5, 3)
    assert config.contact_nodes == ("a@h", "b@h:9100")
    assert config.nodes == {"a@h": ("10.0.0.1", 9100)}
    assert config.replicated_maps == {"flags": {"persist": True}}
    explained = config.explain()
    assert explained["active_size"] == (5, "code")
    assert explained["listen_port"] == (3, "environment BARREL_P2P_LISTEN_PORT")
    assert explained["contact_nodes"] == (("a@h", "b@h:9100"), f"file {toml}")
    assert explained["passive_size"] == (30, "default")
    assert list(explained) == list(keys())


def test_the_process_s_environment_is_read_unless_another_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BARREL_P2P_RING_SIZE", "128")
    assert Config.load().ring_size == 128
    assert Config.load(env={}).ring_size == 64
    assert Config().ring_size == 64


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("AUTH_FOLLOW_ROTATION", "true", True),
        ("AUTH_FOLLOW_ROTATION", "0", False),
        ("KEEP_ALIVE_MS", "0", 0),
        ("BIND_HOST", "::1", "::1"),
        ("CONTACT_NODES", "a@h, b@h:1,", ("a@h", "b@h:1")),
        ("CONTACT_NODES", '["a@h"]', ("a@h",)),
        ("DISCOVERY_BACKENDS", "static,dns", ("static", "dns")),
        ("NODES", '{"a@h": ["::1", 9]}', {"a@h": ("::1", 9)}),
        ("REPLICATED_MAPS", '{"m": {"scan_ms": 5}}', {"m": {"scan_ms": 5}}),
        ("DIST_COOKIE", "[no json", "[no json"),
        ("DATA_DIR", "123", "123"),
        ("AUTH_TRUST_MODE", "strict", "strict"),
    ],
)
def test_the_environment_s_text_gets_the_key_s_type(
    name: str, text: str, value: object
) -> None:
    config = Config.load(env={f"BARREL_P2P_{name}": text})
    assert getattr(config, name.lower()) == value


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("active_size", 0),
        ("active_size", 1),
        ("active_size", "5"),
        ("active_size", True),
        ("active_size", 5.0),
        ("active_size", None),
        ("listen_port", 65_536),
        ("advertise_port", 0),
        ("idle_timeout_ms", 99),
        ("data_streams", 65),
        ("spin_us", 1_001),
        ("poll_us", 1_001),
        ("shuffle_period", MILLIS_MAX + 1),
        ("reminder_tombstone_ttl_ms", -1),
        ("auth_enabled", 1),
        ("auth_trust_mode", "TOFU"),
        ("bind_host", ""),
        ("data_dir", "x" * 5_000),
        ("contact_nodes", "a@h"),
        ("contact_nodes", [1]),
        ("nodes", {"a@h": ["h", 0]}),
        ("nodes", {"a@h": "h:1"}),
        ("nodes", ["a@h"]),
        ("cookie_only_nodes", ["no-at-sign"]),
        ("cookie_only_nodes", ["part*@h"]),
        ("dns_servers", ["not.an.address:53"]),
        ("dns_servers", ["10.0.0.1:0"]),
        ("discovery_backends", "static"),
        ("discovery_backends", ["consul"]),
        ("discovery_backends", [object()]),
        ("replicated_maps", ["m"]),
        ("replicated_maps", {"m": {"scan_ms": 0}}),
        ("replicated_maps", {"m": {"validator": "no function"}}),
        ("replicated_maps", {"m": {"validator": "os.path"}}),
        ("replicated_maps", {"m": {"validator": "os.path:"}}),
        ("replicated_maps", {"m": {"validator": "os:path:join"}}),
        ("replicated_maps", {"m": {"validator": "os:system('x')"}}),
        ("dist_cookie", ""),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_its_source(
    key: str, value: object
) -> None:
    with pytest.raises(ConfigError, match=rf"{key}=.* from code: "):
        Config.load(None, env={}, **{key: value})
    with pytest.raises(ConfigError):
        Config(**{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"keep_alive_ms": 2_501}, "idle_timeout_ms=5000"),
        ({"member_heartbeat_ms": 3_001}, "member_ttl_ms=6000"),
        ({"prwl": 7}, "arwl=6"),
        ({"bind_host": "0.0.0.0"}, "bind_host='0.0.0.0'"),
        ({"bind_host": "example.org"}, "bind_host"),
        ({"auth_enabled": False, "allow_default_cookie": True}, "auth_enabled=false"),
        ({"cookie_only_nodes": ["*@h"], "allow_default_cookie": True}, "cookie_only"),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    changes: dict[str, object], named: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(named)):
        Config.load(None, env={}, **changes)


def test_a_secret_of_one_s_own_opens_the_node_to_other_hosts() -> None:
    config = Config(bind_host="0.0.0.0", dist_cookie=SECRET, cookie_only_nodes=("*@B",))
    assert config.cookie_only_nodes == ("*@b",)
    assert ["cookie_only_nodes" in text for text in config.warnings()] == [True]
    assert Config(bind_host="0.0.0.0", dist_cookie=SECRET).warnings() == ()
    assert Config(bind_host="::", allow_default_cookie=True).warnings() != ()
    assert "cookie" in Config(bind_host="::1").warnings()[0]


def test_an_unknown_key_is_refused_and_the_right_one_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'active_size'"):
        Config.load(env={}, activ_size=3)
    with pytest.raises(ConfigError, match=r"'frobnicate' from code\n"):
        Config.load(env={}, frobnicate=3)
    path = tmp_path / "c.toml"
    path.write_text("listenport = 1\n")
    with pytest.raises(ConfigError, match=r"c\.toml; did you mean 'listen_port'"):
        Config.load(path, env={})
    with pytest.raises(ConfigError, match="did you mean 'persist'"):
        Config(replicated_maps={"m": {"persits": True}})
    with pytest.raises(ConfigError, match="unknown key 'keys_'"):
        Config().replace(keys_=1)


@pytest.mark.parametrize(
    "variable", ["BARREL_P2P_LISTEN_PRT", "BARREL_P2P_listen_port"]
)
def test_a_slip_in_a_variable_is_refused(variable: str) -> None:
    with pytest.raises(ConfigError, match="did you mean BARREL_P2P_LISTEN_PORT"):
        Config.load(env={variable: "1"})


@pytest.mark.parametrize("name", ["PICOQUIC", "DEEP", "ONLY", "SANITIZE", "HOUSE"])
def test_variables_that_are_no_slips_are_left_alone(name: str) -> None:
    assert Config.load(env={f"BARREL_P2P_{name}": "1"}) == Config()


def test_a_configuration_never_changes_nor_do_its_tables() -> None:
    config = Config(nodes={"a@h": ("h", 1)}, replicated_maps={"m": {}})
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.listen_port = 2  # type: ignore[misc]
    for table in (config.nodes, config.replicated_maps, config.replicated_maps["m"]):
        with pytest.raises(TypeError):
            table["b@h"] = 1  # type: ignore[index]


def test_a_change_is_checked_and_keeps_the_other_origins() -> None:
    env = {"BARREL_P2P_ACTIVE_SIZE": "4"}
    config = Config.load(env=env).replace(listen_port=9)
    assert config.explain()["active_size"] == (4, "environment BARREL_P2P_ACTIVE_SIZE")
    assert config.explain()["listen_port"] == (9, "code")
    with pytest.raises(ConfigError, match="listen_port=-1"):
        config.replace(listen_port=-1)


def test_a_cookie_s_file_beats_the_cookie_and_is_shown_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "cookie"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    config = Config(dist_cookie="another", dist_cookie_file=str(path))
    assert config.dist_cookie == SECRET
    assert config.explain()["dist_cookie"] == ("********", f"file {path}")
    for shown in (repr(config), str(config), str(config.explain())):
        assert SECRET not in shown
        assert "another" not in shown
    assert config.replace(active_size=2).dist_cookie == SECRET


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_cookie_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "cookie"
    path.write_text(SECRET)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"mode is {mode:04o}") as caught:
        Config(dist_cookie_file=str(path))
    assert caught.value.hint == f"chmod 600 {path}"


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe", b"x" * 5_000])
def test_a_file_without_a_cookie_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "cookie"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        Config(dist_cookie_file=str(path))


def test_a_cookie_s_path_leads_to_a_file(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for path in (pipe, tmp_path, tmp_path / "missing", tmp_path / "nul\0"):
        with pytest.raises(ConfigError):
            Config(dist_cookie_file=str(path))


def test_a_wrong_cookie_is_not_shown_either() -> None:
    for cookie in ("secret" * 200, "secret\ud800", 5_318_008):
        with pytest.raises(ConfigError) as caught:
            Config(dist_cookie=cookie)  # type: ignore[arg-type]
        assert str(caught.value).startswith("dist_cookie=******** from code: ")
        assert "secretsecret" not in str(caught.value)


@pytest.mark.parametrize(
    "content", [b"x", b"a = [", b"\xff", b"a = " + b"[" * 3_000, b"#" * 1_048_577]
)
def test_a_file_that_is_no_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"c\.toml"):
        Config.load(path, env={})


@pytest.mark.parametrize("text", ["[", '{"a@h": }', "[1]", "{}" * 9, "[" * 100_000])
def test_a_variable_that_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="BARREL_P2P_CONTACT_NODES"):
        Config.load(env={"BARREL_P2P_CONTACT_NODES": text})


def test_back_ends_keep_the_documentation_s_names_and_one_s_own_objects() -> None:
    class Mine:
        async def lookup(self, node: str) -> None:
            return None

    mine = Mine()
    config = Config(discovery_backends=("barrel_p2p_discovery_file", mine))
    assert config.discovery_backends == ("file", mine)


@pytest.mark.parametrize(
    ("server", "shown"),
    [
        ("10.0.0.1", "10.0.0.1:53"),
        ("127.0.0.1:5353", "127.0.0.1:5353"),
        ("::1", "[::1]:53"),
        ("[::1]:5353", "[::1]:5353"),
    ],
)
def test_a_name_server_has_a_port(server: str, shown: str) -> None:
    assert Config(dns_servers=(server,)).dns_servers == (shown,)


def test_paths_may_be_path_objects(tmp_path: Path) -> None:
    config = Config.load(env={}, data_dir=tmp_path)
    assert config.data_dir == str(tmp_path)


def test_defaults_agree_with_the_rooms_that_use_them() -> None:
    config, engine = Config(), EngineSettings()
    assert config.hlc_max_drift_ms == MAX_DRIFT_MS_DEFAULT
    assert config.idle_timeout_ms == engine.idle_timeout_ms
    assert config.keep_alive() == engine.keep_alive()
    assert config.spin_us == engine.spin_us
    assert config.poll_us == engine.poll_us


def test_the_reference_page_has_every_key_with_its_default() -> None:
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("| `")
    ]
    rows = {line[0].strip("`"): line for line in lines}
    assert sorted(rows) == sorted(keys())
    assert len(rows) == len(lines)
    config = Config()
    shown = {key: _shown(getattr(config, key)) for key in keys()}
    assert {key: row[3] for key, row in rows.items()} == shown
    units = {key: row[2] for key, row in rows.items()}
    assert [key for key in keys() if key.endswith("_ms") and units[key] != "ms"] == []
    assert DEFAULT_COOKIE in rows["dist_cookie"][3]


def _shown(value: object) -> str:
    if isinstance(value, (tuple, Mapping)):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def test_one_peer_a_node_is_refused_with_the_least_that_connects() -> None:
    with pytest.raises(ConfigError, match=r"active_size=1 from code: .* pairs") as told:
        Config.load(env={}, active_size=1)
    assert told.value.hint == "at least 2; 5 suits all but the largest clusters"
    with pytest.raises(ConfigError, match="environment BARREL_P2P_ACTIVE_SIZE"):
        Config.load(env={"BARREL_P2P_ACTIVE_SIZE": "1"})
    assert Config.load(env={}, active_size=2).active_size == 2
