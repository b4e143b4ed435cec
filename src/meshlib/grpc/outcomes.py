"""What became of an attempt: from gRPC's status and words to the one classification that every policy reads.

A status that the peer sent is an answer (HTTP 200 with that gRPC status). A status that grpcio made up, because there
was no answer, is a failure of the wire; it comes without any metadata, and its words say what broke. grpcio gives no
other sign (neither a peer, nor a cause, nor whether headers came), so that words decide: what stands in
``Stream removed (...)`` is grpcio's, whatever it says, and words that nobody here knows are the peer's answer, whose
status (UNAVAILABLE, mostly) retries and ejection read as well. A peer that hands on such words of its own upstream is
told apart by the address, which is not the picked endpoint's. Tests hold the words against servers that break.

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
_REMOVED = re.compile(r"^Stream removed \((.*)\)$", re.DOTALL)
_RESET = re.compile(r"^(?:RST_STREAM \()?Received RST_STREAM with error code (\d+)")
_CLOSED = re.compile(
    r"^(?:Socket closed|Connection reset|recvmsg:|sendmsg:|Broken pipe|keepalive|ping timeout"
    r"|Internal error from Core)",
    re.IGNORECASE,
)
_TURNED_AWAY = "GOAWAY received"
"""The peer goes away, and says that it has not looked at the stream; of one that it has, grpcio says how it ended."""
_MALFORMED = "Failed parsing HTTP/2"
_TOO_LARGE = "message larger than max"
_CHANNEL_CLOSED = "Channel closed!"
_BAD_METADATA = "Invalid metadata"
_GIVEN_UP = "Locally cancelled by application!"
"""Where the caller has not: ``grpc.aio`` cancels an RPC itself when it cannot write a message of a stream."""
_UNCONNECTED = re.compile(
    r"^(?:failed to connect to all addresses|errors resolving|DNS resolution failed|connections to all backends failing"
    r"|Name resolution|empty address list)",
    re.IGNORECASE,
)
_LATE = "Deadline Exceeded"
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
    removed = None if metadata else _REMOVED.match(words)
    if removed is not None:
        words = removed[1]
    if status == _DEADLINE and (late or (not metadata and words == _LATE)):
        return Outcome.of_failure(Failure.DEADLINE if overall else Failure.PER_TRY_TIMEOUT, error)
    found = None if metadata else _unanswered(status, words, endpoint, error)
    if found is None and removed is not None and _TOO_LARGE not in words:
        found = Outcome.of_failure(Failure.PROTOCOL if words.startswith(_MALFORMED) else Failure.CLOSED, error)
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
    if words.startswith(_TURNED_AWAY):
        return Outcome.of_failure(Failure.REFUSED_STREAM, error)
    if status == _CANCELLED and words == _CHANNEL_CLOSED:
        return Outcome.of_failure(Failure.CANCELLED, error)
    if _CLOSED.match(words) or (status == _CANCELLED and words == _GIVEN_UP):
        return Outcome.of_failure(Failure.CLOSED, error)
    http = _OF_HTTP.match(words)
    if http is not None:
        answer = Outcome.of_status(int(http.group(1)), grpc_status=status)
        answer.error = error
        return answer
    if status == _INTERNAL and words == _BAD_METADATA:
        return Outcome.of_failure(Failure.LOCAL, error, sent=False)
    if words in _OF_CALLER and status in (_UNKNOWN, _INTERNAL):
        return Outcome.of_failure(Failure.BODY, error)
    return None
