"""Header operations on the wire. Within a level Envoy removes first, then overwrites, then adds.

Source: Envoy ``HeaderParser``; Istio writes ``set`` as ``OVERWRITE_IF_EXISTS_OR_ADD`` and ``add`` as the default.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from meshlib.model.route import HeaderOps
from meshlib.xds.messages import base_pb2

__all__ = ["write", "write_levels"]

_ACTION = base_pb2.HeaderValueOption.HeaderAppendAction


def write(target: Any, requests: HeaderOps, responses: HeaderOps) -> None:
    """Put one level into a message that has the four fields of header mutation."""
    target.request_headers_to_add.extend(_options(requests))
    target.request_headers_to_remove.extend(requests.remove)
    target.response_headers_to_add.extend(_options(responses))
    target.response_headers_to_remove.extend(responses.remove)


def write_levels(targets: Sequence[Any], requests: Sequence[HeaderOps], responses: Sequence[HeaderOps]) -> None:
    """Put outer levels into the messages around a route, the innermost first.

    Raises:
        ValueError: There are more levels than messages.
    """
    if max(len(requests), len(responses)) > len(targets):
        raise ValueError(f"{len(targets)} outer levels of header operations are all that the wire has room for")
    for number, target in enumerate(targets):
        write(target, *(levels[number] if number < len(levels) else HeaderOps() for levels in (requests, responses)))


def _options(ops: HeaderOps) -> Iterator[Any]:
    yield from _of_kind(ops.set, "OVERWRITE_IF_EXISTS_OR_ADD")
    yield from _of_kind(ops.set_present, "OVERWRITE_IF_EXISTS")
    yield from _of_kind(ops.add, "APPEND_IF_EXISTS_OR_ADD")
    yield from _of_kind(ops.add_absent, "ADD_IF_ABSENT")


def _of_kind(pairs: Iterable[tuple[str, str]], action: str) -> Iterator[Any]:
    for key, value in pairs:
        yield base_pb2.HeaderValueOption(
            header=base_pb2.HeaderValue(key=key, value=value), append_action=_ACTION.Value(action)
        )
