"""Load reports are read in every form in which they come, and rubbish is no report."""

from __future__ import annotations

import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.dataplane.balancing.load_report import LoadReport, decode, report_in

OrcaLoadReport = pytest.importorskip("xds.data.orca.v3.orca_load_report_pb2").OrcaLoadReport

numbers = st.floats(0, 1e6)
maps = st.dictionaries(st.text("abcxyz_", min_size=1, max_size=8), numbers, max_size=3)


@given(numbers, numbers, numbers, numbers, numbers, maps, maps, maps, st.integers(0, 2**64 - 1))
def test_the_message_is_read_as_protobuf_reads_it(cpu, mem, app, rps, eps, cost, utilization, named, old):
    message = OrcaLoadReport(
        cpu_utilization=cpu, mem_utilization=mem, application_utilization=app, rps_fractional=rps, eps=eps, rps=old
    )
    message.request_cost.update(cost)
    message.utilization.update(utilization)
    message.named_metrics.update(named)
    wanted = {f"request_cost.{k}": v for k, v in cost.items()}
    wanted |= {f"utilization.{k}": v for k, v in utilization.items()}
    wanted |= {f"named_metrics.{k}": v for k, v in named.items()}
    assert decode(message.SerializeToString()) == LoadReport(cpu, mem, app, rps, eps, wanted)


MESSAGE = OrcaLoadReport(cpu_utilization=0.5, rps_fractional=100.0, named_metrics={"queue": 2.0}).SerializeToString()
REPORT = LoadReport(cpu_utilization=0.5, rps_fractional=100.0, maps={"named_metrics.queue": 2.0})
BASE64 = base64.b64encode(MESSAGE)
JSON = json.dumps({"cpuUtilization": 0.5, "rps_fractional": 100, "namedMetrics": {"queue": 2}, "novel": 1}).encode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"endpoint-load-metrics-bin", BASE64),
        (b"Endpoint-Load-Metrics-Bin", BASE64.rstrip(b"=")),
        (b"endpoint-load-metrics", b"BIN " + BASE64),
        (b"Endpoint-Load-Metrics", b"TEXT cpu_utilization=0.5, rps_fractional=100,named_metrics.queue=2,novel=1"),
        (b"endpoint-load-metrics", b"cpu_utilization=0.5,rps_fractional=100,named_metrics.queue=2"),
        (b"endpoint-load-metrics", b"JSON " + JSON),
    ],
)
def test_every_form_says_the_same(name, value):
    assert report_in([(b"Date", b"today"), (name, value)]) == REPORT


RUBBISH = [
    b"",
    b"TEXT",
    b"TEXT cpu_utilization",
    b"TEXT cpu_utilization=x",
    b"TEXT cpu_utilization=nan",
    b"TEXT " * 9999,
    b"JSON {",
    b"JSON 3",
    b"JSON [1]",
    b"JSON " + b"[" * 9000,
    b'JSON {"cpuUtilization": null}',
    b"BIN !",
    b"BIN " + BASE64[:8],
    b"\xff\xfe",
]


@pytest.mark.parametrize("value", RUBBISH)
def test_what_cannot_be_read_is_no_report(value):
    assert report_in([(b"endpoint-load-metrics", value)]) is None


@given(st.binary(max_size=64))
def test_no_bytes_at_all_raise_anything(rubbish):
    for name in (b"endpoint-load-metrics-bin", b"endpoint-load-metrics"):
        for value in (rubbish, base64.b64encode(rubbish), b"JSON " + rubbish, b"TEXT " + rubbish):
            assert report_in([(name, value)]) is None or isinstance(report_in([(name, value)]), LoadReport)


def test_a_number_of_another_size_is_not_taken_for_one():
    assert decode(bytes([1 << 3 | 5]) + struct.pack("<f", 1.0)) == LoadReport()
