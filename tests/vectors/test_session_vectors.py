"""SESSION and BYE keep their bytes, and the page shows them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from barrel_p2p.carrier.reasons import Reason
from barrel_p2p.carrier.session import (
    BYE_REASON_CHARS_MAX,
    BYE_TEXT_BYTES_MAX,
    DATA_STREAMS_MAX,
    SESSION_BYTES_MAX,
    Bye,
    Session,
    decode_bye,
    decode_session,
    encode_bye,
    encode_session,
)
from barrel_p2p.errors import WireError
from tests.tree import ROOT

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parent / "session.json").read_text()
)
PAGE = (ROOT / "docs/reference/wire.md").read_text()
CODE = {span.replace(" ", "") for span in re.findall(r"`([^`\n]+)`", PAGE)}


@pytest.mark.parametrize("row", VECTORS["sessions"], ids=lambda row: row["name"])
def test_sessions_keep_their_bytes(row: dict[str, Any]) -> None:
    fields = dict(row["session"])
    address = fields.pop("address")
    session = Session(address=None if address is None else tuple(address), **fields)
    assert encode_session(session).hex() == row["body"]
    assert decode_session(bytes.fromhex(row["body"])) == session


@pytest.mark.parametrize("row", VECTORS["byes"], ids=lambda row: row["name"])
def test_byes_keep_their_bytes(row: dict[str, str]) -> None:
    bye = Bye(row["reason"], row["text"])
    assert encode_bye(bye).hex() == row["body"]
    assert decode_bye(bytes.fromhex(row["body"])) == bye
    assert row["body"] in CODE


@pytest.mark.parametrize("body", VECTORS["refused_byes"])
def test_what_is_no_bye_is_refused(body: str) -> None:
    with pytest.raises(WireError):
        decode_bye(bytes.fromhex(body))


def test_the_page_names_every_field_reason_and_limit() -> None:
    fields = set(VECTORS["sessions"][0]["session"])
    assert fields | set(Reason) <= CODE
    for limit in (
        SESSION_BYTES_MAX,
        DATA_STREAMS_MAX,
        BYE_REASON_CHARS_MAX,
        BYE_TEXT_BYTES_MAX,
    ):
        assert re.search(rf"\b{limit:,}\b", PAGE)
