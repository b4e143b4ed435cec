"""Envoy's rate limit protocol, v3: what is asked and answered, as messages in gRPC's frame.

Needs the extra ``meshlib[xds]``. Source: ``envoy/service/ratelimit/v3/rls.proto``.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # generated classes come into being at run time, where no checker sees them
    from google.protobuf.message import DecodeError

    ratelimit_pb2: Any
    rls_pb2: Any
else:
    try:
        from envoy.extensions.common.ratelimit.v3 import ratelimit_pb2
        from envoy.service.ratelimit.v3 import rls_pb2
        from google.protobuf.message import DecodeError
    except ImportError as error:  # pragma: no cover - depends on what is installed
        raise ImportError(
            f"a global rate limit needs protobuf messages: pip install 'meshlib[xds]' ({error})"
        ) from error

__all__ = ["METHOD", "Answer", "decode_answer", "encode_question"]

METHOD = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
Pairs = list[tuple[bytes, bytes]]


class Answer(NamedTuple):
    """What a service said.

    Attributes:
        over: The call is one too many; whatever else is said lets it pass.
        request_headers: To add to the request.
        response_headers: To add to the response, a refusal included.
        body: Of a refusal.
    """

    over: bool
    request_headers: Pairs
    response_headers: Pairs
    body: bytes


def encode_question(domain: str, entries: Iterable[tuple[str, str]]) -> bytes:
    """One descriptor in its frame: a flag, four bytes of length, the message."""
    descriptor = ratelimit_pb2.RateLimitDescriptor()
    for key, value in entries:
        descriptor.entries.add(key=key, value=value)
    message: bytes = rls_pb2.RateLimitRequest(domain=domain, descriptors=[descriptor]).SerializeToString()
    return b"\0" + len(message).to_bytes(4, "big") + message


def decode_answer(frame: bytes) -> Answer:
    """The answer in a frame.

    Raises:
        ValueError: It is not one whole, uncompressed message of the protocol.
    """
    if len(frame) < 5 or frame[0] or len(frame) != 5 + int.from_bytes(frame[1:5], "big"):
        raise ValueError("no whole, uncompressed message came back")
    try:
        response = rls_pb2.RateLimitResponse.FromString(frame[5:])
    except DecodeError as error:
        raise ValueError(f"what came back cannot be read: {error}") from None
    over = response.overall_code == rls_pb2.RateLimitResponse.OVER_LIMIT
    added, told = response.request_headers_to_add, response.response_headers_to_add
    return Answer(over, _pairs(added), _pairs(told), response.raw_body)


def _pairs(headers: Iterable[object]) -> Pairs:
    return [
        (header.key.encode("latin-1", "replace"), header.raw_value or header.value.encode("latin-1", "replace"))  # type: ignore[attr-defined]
        for header in headers
    ]
