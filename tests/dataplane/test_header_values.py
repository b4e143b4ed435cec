"""What ``%COMMAND%`` in a header's value comes to; the expectations were read off Envoy 1.40."""

from __future__ import annotations

import socket

import pytest

from meshlib.dataplane.formatter import Answered, Names, Seen, bind_value
from meshlib.dataplane.headers import apply, bind_ops
from meshlib.model.route import HeaderOps
from tests.dataplane.worlds import request

ANSWERED = Answered([(b"server", b"peer"), (b"x-b", b"2")], 200, "10.0.0.1:80", 2, "-")
SENT = [(b"x-a", b"abcdef"), (b"x-a", b"second")]
MADE_AT = 1_700_000_000.25


def value(text, answered=None):
    asked = request("GET", "/p?q=5&q=6", {"x-a": "abcdef"}, start_time=MADE_AT)
    bound = bind_value(text, Names("jason", "outbound|80||svc"))
    made = bound if isinstance(bound, bytes) else bound(Seen(asked, SENT, answered=answered))
    return made.decode()


@pytest.mark.parametrize(
    ("text", "on_requests", "on_responses"),
    [
        ("plain", "plain", "plain"),
        ("100%%", "100%", "100%"),
        ("%REQ(x-a)%", "abcdef", "abcdef"),
        ("%REQ(X-A)%", "abcdef", "abcdef"),
        ("%REQ(x-a):2%", "ab", "ab"),
        ("%REQ(absent)%", "", ""),
        ("%REQ(absent?x-a)%", "abcdef", "abcdef"),
        ("a%REQ(absent)%b", "ab", "ab"),
        ("%REQ(:METHOD)% %REQ(:path)%", "GET /p?q=5&q=6", "GET /p?q=5&q=6"),
        ("%REQ(:authority)%", "svc", "svc"),
        ("%PATH(NQ)%", "/p", "/p"),
        ("%QUERY_PARAM(q)%", "5", "5"),
        ("%QUERY_PARAM(none)%", "", ""),
        ("%ROUTE_NAME%", "jason", "jason"),
        ("%UPSTREAM_CLUSTER%", "outbound|80||svc", "outbound|80||svc"),
        ("%PROTOCOL%", "HTTP/1.1", "HTTP/1.1"),
        ("%HOSTNAME%", socket.gethostname(), socket.gethostname()),
        ("%ENVIRONMENT(MESHLIB_NOT_SET)%", "-", "-"),
        ("%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "127.0.0.1", "127.0.0.1"),
        ("%START_TIME%", "2023-11-14T22:13:20.250Z", "2023-11-14T22:13:20.250Z"),
        ("%START_TIME(%Y-%m %s %3f)%", "2023-11 1700000000 250", "2023-11 1700000000 250"),
        ("%RESPONSE_CODE%", "0", "200"),
        ("%RESPONSE_FLAGS%", "-", "-"),
        ("%UPSTREAM_REQUEST_ATTEMPT_COUNT%", "1", "2"),
        ("%UPSTREAM_HOST%", "", "10.0.0.1:80"),
        ("%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "", "10.0.0.1"),
        ("%RESP(server)%", "", "peer"),
        ("%RESP(none?x-b)%", "", "2"),
        ("%TRACE_ID%", "", ""),
        ("%VIRTUAL_CLUSTER_NAME%", "", ""),
        ("%REQUESTED_SERVER_NAME%", "", ""),
        ("%DYNAMIC_METADATA(a:b)%", "", ""),
    ],
)
def test_a_command_says_what_it_says_in_envoy(text, on_requests, on_responses):
    assert (value(text), value(text, ANSWERED)) == (on_requests, on_responses)


def test_an_empty_value_adds_and_overwrites_nothing():
    ops = bind_ops(HeaderOps(set=(("x-a", "%REQ(none)%"), ("x-set", "1")), add=(("x-more", "%TRACE_ID%"),)))
    assert apply(ops, [(b"x-a", b"kept")], request()) == [(b"x-a", b"kept"), (b"x-set", b"1")]


def test_a_moment_that_nobody_told_is_no_value():
    assert bind_value("%START_TIME%")(Seen(request(), [])) == b""


def test_a_literal_is_computed_once():
    assert bind_value("%HOSTNAME%-100%%-%ROUTE_NAME%", Names("r")) == f"{socket.gethostname()}-100%-r".encode()
