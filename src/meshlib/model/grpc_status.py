"""gRPC status names, where the position is the number; and what HTTP makes of them, and they of HTTP.

Source: Envoy ``Grpc::Utility`` (``grpcToHttpStatus``, ``httpToGrpcStatus``).
"""

__all__ = ["GRPC_STATUS_NAMES", "grpc_of_http", "http_of_grpc"]

GRPC_STATUS_NAMES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)

_HTTP = (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)

_GRPC = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}


def http_of_grpc(status: int) -> int:
    """The HTTP status that a gRPC status counts as when endpoints are judged; unknown numbers are 500."""
    return _HTTP[status] if 0 <= status < len(_HTTP) else 500


def grpc_of_http(status: int) -> int:
    """The gRPC status of a local answer in plain HTTP, as a caller of gRPC sees it; what is not listed is UNKNOWN."""
    return _GRPC.get(status, 2)
