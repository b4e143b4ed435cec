"""How long a server may take, and which headers make one trace context."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.dataplane.timeout_headers import expected, grpc_timeout, read_grpc_timeout, read_milliseconds
from meshlib.dataplane.trace_headers import TRACE_HEADERS, spoken_for, without


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, b"500000u"),
        (1e-9, b"1u"),
        (0.0, b"1u"),
        (-3.0, b"1u"),
        (99.5, b"99500000u"),
        (100.0, b"100000m"),
        (100_000.0, b"100000S"),
        (1e9, b"277778H"),
        (1e30, b"99999999H"),
    ],
)
def test_a_grpc_timeout_is_written_in_the_finest_unit_that_has_room_and_never_as_0(seconds, text):
    assert grpc_timeout(seconds) == text


@given(st.floats(min_value=1e-6, max_value=3e11))
def test_a_grpc_timeout_has_its_form_and_is_rounded_up_by_less_than_its_unit(seconds):
    text = grpc_timeout(seconds).decode()
    unit = {"u": 1e-6, "m": 1e-3, "S": 1.0, "H": 3600.0}[text[-1]]
    assert 1 <= len(text[:-1]) <= 8
    read = read_grpc_timeout(text)
    assert read is not None
    assert seconds * (1 - 1e-9) - 1e-9 <= read <= seconds + unit * (1 + 1e-6)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1H", 3600.0),
        ("2M", 120.0),
        ("3S", 3.0),
        ("4m", 0.004),
        ("5u", 5e-6),
        ("6n", 6e-9),
        (" 7S ", 7.0),
        ("0S", None),
        ("123456789S", None),
        ("1s", None),
        ("-1S", None),
        ("1.5S", None),
        ("", None),
        ("S", None),
    ],
)
def test_a_grpc_timeout_is_read_in_each_unit_and_passed_over_where_it_has_another_form(text, seconds):
    assert read_grpc_timeout(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "seconds"), [("250", 0.25), ("0", None), ("-1", None), ("1.5", None), ("x", None), ("²", None), ("", None)]
)
def test_milliseconds_are_read_and_0_sets_no_limit(text, seconds):
    assert read_milliseconds(text) == seconds


def test_an_expected_timeout_is_at_least_a_millisecond():
    assert [expected(s)[1] for s in (-1.0, 0.0, 0.0004, 1.2345)] == [b"1", b"1", b"1", b"1234"]


def test_one_header_of_a_family_speaks_for_all_of_it():
    assert spoken_for([(b"TraceParent", b"")]) == {b"traceparent", b"tracestate"}
    assert {b"b3", b"x-b3-sampled"} <= spoken_for([(b"X-B3-TraceId", b"")])
    assert spoken_for([(b"baggage", b"")]) == {b"baggage"}
    headers = [(b"TraceState", b"a=1"), (b"b3", b"0"), (b"x-request-id", b"1")]
    assert without(headers, [(b"traceparent", b"new")]) == headers[1:]


def test_every_header_that_istio_asks_applications_to_forward_is_known():
    named = "x-request-id traceparent tracestate b3 x-b3-traceid x-b3-spanid x-b3-parentspanid x-b3-sampled x-b3-flags"
    other = "x-ot-span-context x-datadog-trace-id sw8 grpc-trace-bin x-cloud-trace-context baggage"
    assert {name.encode() for name in f"{named} {other}".split()} <= set(TRACE_HEADERS)
