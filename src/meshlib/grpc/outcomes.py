"""What became of an attempt: from gRPC's status and words to the one classification that every policy reads.

A status that the peer sent is an answer (HTTP 200 with that gRPC status). A status that grpcio made up, because there
was no answer, is a failure of the wire; it comes without any metadata, and its words say what broke. A peer that hands
on such words of its own upstream is told apart by the address, which is not the picked endpoint's.

Source: Envoy (retry words, outlier detection), by way of ``dataplane.outcome``; the words are grpcio's, 1.66 to 1.85.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from meshlib.dataplane.outcome import Failure, Outcome

__all__ = ["OK", "outcome_of"]

OK = Outcome.of_status(200, grpc_status=0)
"""An RPC that ended well."""

_CANCELLED, _UNKNOWN, _DEADLINE, _INTERNAL = 1, 2, 4, 13
_REFUSED = 7
_OF_HTTP = re.compile(r"^Received http2 header with status: (\d+)")
_RESET = re.compile(r"^(?:Stream removed \()?(?:RST_STREAM \()?Received RST_STREAM with error code (\d+)")
_CLOSED = re.compile(
    r"^(?:Stream removed \()?"
    r"(?:Socket closed|Connection reset|recvmsg:|sendmsg:|GOAWAY received|Broken pipe|keepalive|ping timeout)",
    re.IGNORECASE,
)
_UNCONNECTED = re.compile(
    r"^(?:failed to connect to all addresses|errors resolving|DNS resolution failed|connections to all backends failing"
    r"|Name resolution|empty address list)",
    re.IGNORECASE,
)
_LATE = frozenset({"Deadline Exceeded", "Stream removed (Deadline Exceeded)"})
_OF_CALLER = frozenset({"Exception serializing request!", "Exception iterating requests!"})
_UNREADABLE = "Exception deserializing response!"


def outcome_of(
    status: int,
    details: str | None,
    *,
    metadata: Collection[object] = (),
    endpoint: str = "",
    late: bool = False,
    overall: bool = True,
    cancelled: bool = False,
    ratelimited: bool = False,
    error: BaseException | None = None,
) -> Outcome:
    """The classification of an attempt that is over.

    Args:
        status: gRPC status number.
        details: Its words.
        metadata: What came with it, initial and trailing; anything shows that the peer has answered.
        endpoint: ``address:port`` that was dialled; ``""`` where that is not known or is a name.
        late: The attempt's deadline has passed.
        overall: That deadline is the call's, not the attempt's own.
        cancelled: The caller, here, cancelled it.
        ratelimited: The answer carries ``x-envoy-ratelimited``.
        error: What is raised for it.
    """
    if not status:
        return OK
    if cancelled:
        return Outcome.of_failure(Failure.CANCELLED, error)
    words = details or ""
    if status == _DEADLINE and (late or (not metadata and words in _LATE)):
        return Outcome.of_failure(Failure.DEADLINE if overall else Failure.PER_TRY_TIMEOUT, error)
    found = None if metadata else _unanswered(status, words, endpoint, error)
    if found is not None:
        return found
    answer = Outcome.of_status(200, grpc_status=status, ratelimited=ratelimited)
    answer.error = error
    return answer


def _unanswered(status: int, words: str, endpoint: str, error: BaseException | None) -> Outcome | None:
    """The failure that grpcio's own words tell; None for words of the peer."""
    if _UNCONNECTED.match(words):
        if endpoint and endpoint not in words:
            return None
        failure = Failure.TLS if "handshake" in words.lower() else Failure.CONNECT
        return Outcome.of_failure(failure, error, sent=False)
    reset = _RESET.match(words)
    if reset is not None:
        refused = int(reset.group(1)) == _REFUSED
        return Outcome.of_failure(Failure.REFUSED_STREAM if refused else Failure.RESET, error)
    if _CLOSED.match(words):
        return Outcome.of_failure(Failure.CLOSED, error)
    http = _OF_HTTP.match(words)
    if http is not None:
        answer = Outcome.of_status(int(http.group(1)), grpc_status=status)
        answer.error = error
        return answer
    if words in _OF_CALLER and status in (_UNKNOWN, _INTERNAL):
        return Outcome.of_failure(Failure.BODY, error)
    return None
