"""Status and words of an attempt become one classification."""

from __future__ import annotations

import pytest

from meshlib.dataplane.outcome import Blame, Failure, RetryOn
from meshlib.grpc.outcomes import OK, outcome_of
from meshlib.grpc.rpc import authority_of, headers_of, metadata_of, request_of_rpc, service_of

REFUSED = "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:80: Connection refused"


@pytest.mark.parametrize(
    ("status", "words", "failure"),
    [
        (14, REFUSED, Failure.CONNECT),
        (14, "failed to connect to all addresses; last error: UNKNOWN: ipv4:10.0.0.1:80: Tls handshake failed", "TLS"),
        (14, "Stream removed (RST_STREAM (Received RST_STREAM with error code 7))", Failure.REFUSED_STREAM),
        (13, "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))", Failure.RESET),
        (13, "Received RST_STREAM with error code 2", Failure.RESET),
        (14, "Stream removed (Socket closed)", Failure.CLOSED),
        (14, "Socket closed", Failure.CLOSED),
        (14, "recvmsg:Connection reset by peer", Failure.CLOSED),
        (14, "Stream removed (Socket closed (GOAWAY received; Error code: 0; Debug Text: ))", Failure.CLOSED),
        (14, "Stream removed (GOAWAY received; Error code: 0; Debug Text: )", Failure.REFUSED_STREAM),
        (14, "Stream removed (what no version of grpcio says today)", Failure.CLOSED),
        (13, "Stream removed (Failed parsing HTTP/2 (Frame size 4740180 is larger ...))", Failure.PROTOCOL),
        (8, "Stream removed (CLIENT: Received message larger than max (5 vs. 4))", None),
        (1, "Stream removed (Channel closed!)", Failure.CANCELLED),
        (1, "Locally cancelled by application!", Failure.CLOSED),
        (14, "Internal error from Core", Failure.CLOSED),
        (1, "as the peer says", None),
        (4, "Stream removed (Deadline Exceeded)", Failure.DEADLINE),
        (2, "Exception iterating requests!", Failure.BODY),
        (14, "come back later", None),
    ],
)
def test_what_grpcio_says_of_a_wire_that_broke_is_a_failure_and_what_the_peer_says_is_an_answer(status, words, failure):
    outcome = outcome_of(status, words, endpoint="10.0.0.1:80")
    assert outcome.failure is (Failure.TLS if failure == "TLS" else failure)


def test_words_about_another_address_are_those_of_a_peer_whose_own_upstream_failed():
    assert outcome_of(14, REFUSED, endpoint="10.0.0.2:80").failure is None
    assert not outcome_of(14, REFUSED, endpoint="10.0.0.1:80").sent


def test_words_that_come_with_metadata_are_the_peers():
    assert outcome_of(14, "Socket closed", metadata=[("a", "b")]).failure is None


def test_a_deadline_that_the_server_reports_in_time_is_an_answer_that_may_be_retried():
    early = outcome_of(4, "too slow", late=False)
    assert (early.failure, early.retry & RetryOn.DEADLINE_EXCEEDED, early.judged) == (
        None,
        RetryOn.DEADLINE_EXCEEDED,
        504,
    )
    assert outcome_of(4, "too slow", late=True, overall=False).failure is Failure.PER_TRY_TIMEOUT


def test_statuses_are_blamed_on_whom_http_would_blame():
    assert [outcome_of(status, "x").blame for status in (3, 13, 14)] == [Blame.APPLICATION, Blame.HOST, Blame.HOST]
    assert (OK.ok, OK.grpc_status, outcome_of(0, None)) == (True, 0, OK)
    assert outcome_of(14, "Received http2 header with status: 503").status == 503


def test_metadata_survives_the_way_through_headers():
    given = [("x-a", "1"), ("x-bin", b"\0\xff"), ("x-a", "2")]
    assert metadata_of(headers_of(given)) == given


def test_headers_that_grpc_writes_itself_are_not_sent_twice_and_the_host_becomes_the_authority():
    headers = [(b"Host", b"other:1"), (b"Content-Type", b"application/grpc"), (b"X-A", b"1")]
    assert metadata_of(headers) == [("x-a", "1")]
    assert (authority_of(headers, "own:2"), authority_of([], "own:2")) == ("other:1", "own:2")


@pytest.mark.parametrize(
    ("target", "authority", "host", "port"),
    [
        ("Reviews:9080", "Reviews:9080", "reviews", 9080),
        ("dns:///reviews:9080", "reviews:9080", "reviews", 9080),
        ("reviews", "reviews", "reviews", 80),
        ("[::1]:50051", "[::1]:50051", "::1", 50051),
        ("[::1]", "[::1]", "::1", 80),
    ],
)
def test_targets_are_read_as_grpc_reads_them(target, authority, host, port):
    assert service_of(target) == (authority, host, port, "http")


@pytest.mark.parametrize("target", ["", "unix:/tmp/x", "reviews:http", "reviews:0", "ipv4:1.2.3.4:5/x"])
def test_targets_that_no_mesh_can_route_are_refused(target):
    with pytest.raises(ValueError, match=r"target|port"):
        service_of(target)


def test_an_rpc_is_routed_by_method_metadata_and_authority():
    request = request_of_rpc(service_of("reviews:9080"), "/s.R/Get", [("x-user", "jason")], 1.5)
    assert (request.method, request.path, request.port) == ("POST", "/s.R/Get", 9080)
    assert (request.header("x-user"), request.header("content-type")) == ("jason", "application/grpc")
    assert (request.is_grpc, request.timeout) == (True, 1.5)
