"""Injected faults, drawn from a given source: gRPC's runs, and what Envoy allows headers to ask for."""

from __future__ import annotations

import pytest

pytest.importorskip("envoy.config.route.v3")

from meshlib.dataplane.policies.fault import bind_faults, inject
from meshlib.dataplane.request import Request
from meshlib.model.grpc_status import GRPC_STATUS_NAMES, grpc_of_http
from meshlib.xds import decode
from tests.conftest import data_cases

KIND = "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"
HEADERS = {
    "headerDelayDuration": "x-envoy-fault-delay-request",
    "headerDelayPercentage": "x-envoy-fault-delay-request-percentage",
    "headerAbortHTTPStatus": "x-envoy-fault-abort-request",
    "headerAbortGRPCStatus": "x-envoy-fault-abort-grpc-request",
    "headerAbortPercentage": "x-envoy-fault-abort-request-percentage",
}


def chain_of(faults):
    """The chain of a route behind a listener with these filters."""
    filters = {f"f{number}": {"@type": KIND, **each} for number, each in enumerate(faults)}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "c"}, "typed_per_filter_config": filters}
    table = decode.route_configuration({"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [route]}]}).value
    ((host, _),) = table.hosts
    return bind_faults(host.routes[0].fault)


def request(metadata, content_type=b"application/grpc"):
    raw = [(b"content-type", content_type)]
    for name, values in metadata.items():
        raw.extend((HEADERS.get(name, name).encode(), value.encode()) for value in values)
    return Request("POST", "http", "svc", 80, "/s/m", raw, is_grpc=content_type == b"application/grpc")


def code_of(found):
    if found.abort is None:
        return "OK"
    status = grpc_of_http(found.abort.http_status) if found.abort.http_status else found.abort.grpc_status
    return "".join(part.capitalize() for part in GRPC_STATUS_NAMES[status].split("_")) if status else "OK"


@pytest.mark.parametrize("case", data_cases("xds/fault.json"))
def test_a_run_sees_the_faults_that_grpc_injects(case):
    chain, number = chain_of(case["faults"]), 0
    for run in case["expect"]:
        for _ in range(run["repeat"]):
            bounds = []

            def draw(bound, number=number, bounds=bounds):
                bounds.append(bound)
                return (number * case["random_step"]) % bound

            asked = request(run["metadata"])
            found = inject(chain, asked, "c", draw, lambda: 0)
            assert code_of(found).lower() == run["grpc_code"].lower(), run["name"]
            assert bounds == run["random_draws"], run["name"]
            assert round(found.delay * 1e9) == sum(run["delays_ns"]), run["name"]
            number += 1


ALWAYS = {"numerator": 100}


def injected(fault, metadata=None, active=0, cluster="c"):
    asked = request(metadata or {}, b"text/plain")
    return inject(chain_of([fault]), asked, cluster, lambda bound: 0, lambda: active)


def test_headers_name_the_status_and_may_lower_the_share():
    fault = {"abort": {"header_abort": {}, "percentage": ALWAYS}}
    assert injected(fault).abort is None
    assert injected(fault, {"headerAbortHTTPStatus": ["418"]}).abort.http_status == 418
    assert injected(fault, {"headerAbortHTTPStatus": ["99"]}).abort is None
    assert injected(fault, {"headerAbortGRPCStatus": ["8"]}).abort.grpc_status == 8
    assert injected(fault, {"headerAbortHTTPStatus": ["418"], "headerAbortPercentage": ["0"]}).abort is None
    assert injected(fault, {"headerAbortHTTPStatus": ["418"], "x-envoy-fault-abort-percentage": ["0"]}).abort is None


def test_no_more_faults_are_under_way_than_allowed():
    fault = {"abort": {"http_status": 503, "percentage": ALWAYS}, "max_active_faults": 2}
    assert injected(fault, active=1).abort is not None
    assert injected(fault, active=2).abort is None


def test_a_fault_may_be_for_one_cluster_some_headers_and_some_nodes():
    base = {"abort": {"http_status": 503, "percentage": ALWAYS}}
    assert injected({**base, "upstream_cluster": "other"}).abort is None
    assert injected({**base, "headers": [{"name": "x-me"}]}).abort is None
    assert injected({**base, "headers": [{"name": "x-me"}]}, {"x-me": ["1"]}).abort is not None
    nodes = {**base, "downstream_nodes": ["a.b", "c"]}
    assert injected(nodes, {"x-envoy-downstream-service-node": ["a.b"]}).abort is not None
    assert injected(nodes, {"x-envoy-downstream-service-node": ["axb"]}).abort is None
