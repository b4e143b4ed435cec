"""``h2`` set up as we use it, and its words turned into ours."""

from __future__ import annotations

from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.settings import SettingCodes, Settings

from meshlib.transport.base import Headers
from meshlib.transport.http2.frames import MAX_HEADERS, Malformed

__all__ = ["SHARED_WINDOW", "WINDOW", "begun", "name", "plain", "status"]

WINDOW = 256 * 1024
"""Body bytes of one stream that may wait for the caller."""

SHARED_WINDOW = 4 * 1024 * 1024
"""Body bytes of all streams that may be on their way."""

_NEVER_USED = 100
"""Streams that a peer may open, had it not been forbidden to. Not 0: ``h2`` would take what comes late for a stream
reset here for the opening of one stream too many, and end the connection."""


def begun() -> H2Connection:
    """A connection whose preface and settings wait to be sent. What goes out is checked by ``head``."""
    wire = H2Connection(
        H2Configuration(
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            normalize_inbound_headers=False,
        )
    )
    values = {
        SettingCodes.ENABLE_PUSH: 0,
        SettingCodes.MAX_CONCURRENT_STREAMS: _NEVER_USED,
        SettingCodes.INITIAL_WINDOW_SIZE: WINDOW,
        SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADERS,
    }
    wire.local_settings = Settings(client=True, initial_values=values)
    wire.decoder.max_header_list_size = MAX_HEADERS
    wire.initiate_connection()
    wire.increment_flow_control_window(SHARED_WINDOW - wire.inbound_flow_control_window)
    return wire


def status(headers: Any) -> int:
    """The status; raises ``Malformed`` where it is none."""
    value = next((value for key, value in headers if key == b":status"), b"")
    if len(value) != 3 or not value.isdigit() or value < b"100":
        raise Malformed(f"a status that is none: {value!r}")
    return int(value)


def plain(headers: Any) -> Headers:
    """Headers without the pseudo-headers."""
    return [(bytes(key), bytes(value)) for key, value in headers if not key.startswith(b":")]


def name(code: int) -> str:
    """What an error code is called."""
    try:
        return ErrorCodes(code).name
    except ValueError:
        return f"error {code}"
