"""Header operations off the wire.

Within a level Envoy removes first, then overwrites, then adds, whatever the order on the wire; of two overwrites of one
name the later stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from meshlib.model.route import HeaderOps
from meshlib.xds.decode.findings import Place

__all__ = ["requests", "responses"]

_FIELDS = ("add", "add_absent", "set", "set_present")
"""In the order of Envoy's numbers of ``HeaderAppendAction``."""


def requests(message: Any, at: Place) -> HeaderOps:
    """Operations on requests of a message that has them."""
    return _read(message.request_headers_to_add, message.request_headers_to_remove, at.field("request_headers_to_add"))


def responses(message: Any, at: Place) -> HeaderOps:
    """Operations on responses of a message that has them."""
    options, removed = message.response_headers_to_add, message.response_headers_to_remove
    return _read(options, removed, at.field("response_headers_to_add"))


def _read(options: Iterable[Any], removed: Iterable[str], at: Place) -> HeaderOps:
    found: dict[str, list[tuple[str, str]]] = {field: [] for field in _FIELDS}
    for number, option in enumerate(options):
        place = at.item(number)
        place.only(option, {"header", "append_action", "append"})
        name, value = option.header.key, option.header.value or option.header.raw_value.decode("latin-1")
        if not name or (name.startswith(":") and name != ":authority"):
            place.error(f"{name!r} cannot be changed")
        found[_FIELDS[_action(option)]].append((name, value))
    gone = tuple(removed)
    for name in gone:
        if name.startswith(":") or name.lower() == "host":
            at.error(f"{name!r} cannot be removed")
    last = {name.lower(): (name, value) for name, value in found["set"]}
    return HeaderOps(
        tuple(last.values()), tuple(found["add"]), gone, tuple(found["set_present"]), tuple(found["add_absent"])
    )


def _action(option: Any) -> int:
    """The deprecated ``append: false`` means to overwrite."""
    if option.HasField("append") and not option.append.value:
        return _FIELDS.index("set")
    return int(option.append_action)
