"""Whatever is in a shared directory, a lookup finds an address or says why not."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from barrel_p2p.core.names import Address
from barrel_p2p.discovery.file import FRESH_MS, FileDiscovery
from barrel_p2p.errors import StorageError
from tests.models.clock import HandClock

NOW_MS = 1_700_000_000_000
FIELD = (
    st.none() | st.integers() | st.text(max_size=20) | st.sampled_from(["h", 1, NOW_MS])
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "host": FIELD | st.sampled_from(["10.0.0.5", "::1", "..", "a b"]),
        "port": FIELD | st.sampled_from([0, 65_535, 65_536, True, 1.0]),
        "written_at": FIELD | st.integers(NOW_MS - 2 * FRESH_MS, NOW_MS + 2 * FRESH_MS),
    },
).map(lambda entry: json.dumps(entry).encode())


def outcome(backend: FileDiscovery) -> Address | str | None:
    try:
        return asyncio.run(backend.lookup("a@h"))
    except StorageError as error:
        return str(error)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=NEARLY | st.binary(max_size=200))
def test_a_file_holds_an_address_or_a_storage_error(
    tmp_path: Path, data: bytes
) -> None:
    backend = FileDiscovery(tmp_path, clock=HandClock(NOW_MS))
    (tmp_path / "a@h.endpoint").write_bytes(data)
    found, problems = backend.scan()
    assert len(found) + len(problems) == 1
    assert outcome(backend) == (found or problems)[0]
    assert all(Address.parse(str(address)) == address for address in found)
