"""Whatever a key is given, a configuration is valid or a ConfigError, nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from barrel_p2p.config import Config
from barrel_p2p.config.settings import keys
from barrel_p2p.errors import ConfigError

# Reading a file is not what is tested here.
KEY = st.sampled_from([key for key in keys() if key != "dist_cookie_file"])
ATOM = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.sampled_from(
        ["a@h", "10.0.0.1:53", "dns", "strict", "0.0.0.0", "true", "\ud800"]
    )
)
TABLE = st.dictionaries(st.sampled_from(["a@h", "m", "scan_ms", ""]) | st.text(), ATOM)
VALUE = st.recursive(ATOM | TABLE, lambda inner: st.lists(inner, max_size=3) | TABLE)
TEXT = st.text() | st.sampled_from(
    ["[", "{}", "[1]", "1", "true", '{"a@h": ["h", 1]}', ","]
)


def loaded(env: dict[str, str], changes: dict[str, object]) -> Config | str:
    """The configuration, or why there is none."""
    try:
        return Config.load(None, env=env, **changes)
    except ConfigError as error:
        return str(error)


@given(key=KEY, value=VALUE)
def test_no_value_raises_anything_but_config_error(key: str, value: object) -> None:
    match loaded({}, {key: value}):
        case Config() as config:
            assert config.explain()[key][1] == "code"
            assert loaded({}, {key: getattr(config, key)}) == config
        case reason:
            assert len(reason) < 2_000


@given(key=KEY, text=TEXT)
def test_no_variable_raises_anything_but_config_error(key: str, text: str) -> None:
    variable = f"BARREL_P2P_{key.upper()}"
    match loaded({variable: text}, {}):
        case Config() as config:
            assert config.explain()[key][1] == f"environment {variable}"
        case reason:
            assert key in reason


@given(st.text(max_size=60) | KEY)
def test_no_variable_s_name_raises_anything_but_config_error(name: str) -> None:
    found = loaded({f"BARREL_P2P_{name}": "1"}, {})
    assert isinstance(found, Config) or "did you mean" in found
