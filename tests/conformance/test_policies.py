"""One policy message in, the effective policy out; and what a Sidecar lets a client see."""

from __future__ import annotations

import json

import pytest

from meshlib.config.compile import Universe
from meshlib.config.compile.actions import Actions, fault_of
from meshlib.config.compile.imports import imported_services
from meshlib.config.compile.matches import inapplicable
from meshlib.config.compile.retries import retry_policy
from meshlib.config.compile.services import Port, Resolution, Service, parse_protocol
from meshlib.config.compile.sidecar import Listener
from meshlib.config.resources import load_dict
from meshlib.config.resources.virtual_service import HTTPFaultInjection, HTTPMatchRequest, HTTPRoute
from meshlib.model.snapshot import Client
from tests.conftest import data_cases


@pytest.mark.parametrize("case", data_cases("route/route_policies.json"))
def test_route_policies(case):
    ask = {"mirror_percent": _mirror, "fault": _fault, "source_match": _source, "retry_policy": _retry}[case["check"]]
    ask(case)


def parts(fraction):
    return fraction["numerator"] * {"HUNDRED": 10_000, "TEN_THOUSAND": 100, "MILLION": 1}[fraction["denominator"]]


def _mirror(case):
    given = {**case["http_route"], "mirror": {"host": "shadow"}, "route": [{"destination": {"host": "svc"}}]}
    for mirror in given.get("mirrors", ()):
        mirror["destination"] = {"host": "shadow"}
    rule = HTTPRoute.model_validate(
        json.loads(json.dumps(given).replace("40.0", "40").replace('Percent": 0.0', 'Percent": 0'))
    )
    actions = Actions(lambda to: f"outbound|80||{to.host}", lambda *_: (), None)
    shares = [mirror.parts_per_million for mirror in actions.translate(rule, 80)[0].mirrors]
    assert shares == ([] if case["expect"] is None else [parts(case["expect"])])


def _fault(case):
    got, wanted = fault_of(HTTPFaultInjection.model_validate(case["fault"])), case["expect"]
    assert (got.delay is None) is ("delay" not in wanted)
    if got.delay is not None:
        assert got.delay.parts_per_million == parts(wanted["delay"]["percentage"])
        assert got.delay.seconds == float(wanted["delay"]["fixedDelay"].rstrip("s"))
    assert (got.abort is None) is ("abort" not in wanted)
    if got.abort is not None:
        assert got.abort.parts_per_million == parts(wanted["abort"]["percentage"])
        assert got.abort.grpc_status == wanted["abort"].get("grpcStatus")


def _source(case):
    client = Client(case["client"]["namespace"], case["client"]["labels"])
    reason = inapplicable(HTTPMatchRequest.model_validate(case["match"]), client, 80)
    assert (reason is None) is case["expect"], reason


def _retry(case):
    rule = HTTPRoute.model_validate(case["http_route"])
    policy = retry_policy(rule.retries, consistent_hash=case["hash_policy"])
    for path, operator, wanted in case["asserts"]:
        if path == "policy":
            assert (policy is None) is (operator == "is_null")
        elif path == "policy.retry_on":
            assert policy.retry_on == set(wanted.split(","))
        elif path == "policy.retriable_status_codes":
            assert sorted(policy.retriable_status_codes) == sorted(wanted)
        elif path == "policy.num_retries.value":
            assert policy.attempts == wanted
        elif path == "policy.host_selection_retry_max_attempts":
            assert policy.host_selection_attempts == wanted
        elif path == "policy.retry_priority":
            assert policy.remote_localities is (operator != "is_null")


def _service_of(given, place):
    """A service as the registry holds it, whatever object it came from."""
    ports = tuple(Port(p["number"], p["name"], parse_protocol(p["protocol"] or "")) for p in given["ports"])
    export = tuple(given.get("exportTo") or ())
    kubernetes = given.get("registry") == "Kubernetes"
    return Service(
        given["host"], given["namespace"], ports, Resolution.NONE, (), export, kubernetes=kubernetes, created=place
    )


def _scoped(case, sidecars, objects, namespace):
    universe = Universe([*sidecars, *objects], namespace, domain="")
    for place, given in enumerate(case["services"]):
        universe.registry.add(_service_of(given, place))
    return universe.view(Client(namespace))


def _ports(services):
    found = {}
    for service in services:
        found.setdefault((service["namespace"], service["host"]), set()).update(p["number"] for p in service["ports"])
    return found


@pytest.mark.parametrize("case", data_cases("model/sidecar_scope.json"))
def test_sidecar_scope(case):
    if case["check"] == "sidecar_scope":
        namespace = case["sidecar_namespace"]
        sidecars = []
        if case["sidecar"] is not None:
            given = {**case["sidecar"], "metadata": {**case["sidecar"]["metadata"], "namespace": namespace}}
            sidecars = load_dict(given).resources
        objects = [resource for given in case["virtual_services"] for resource in load_dict(given).resources]
        seen = imported_services(_scoped(case, sidecars, objects, namespace))
    else:
        given = case["egress_hosts"].items()
        hosts = tuple((space, host) for space, patterns in given for host in patterns.get("hosts", ()))
        excluded = tuple((space, host) for space, patterns in given for host in patterns.get("excluded", ()))
        view = _scoped(case, [], [], case["namespace"])
        seen = view.seen.all_on(Listener(hosts=hosts, excluded=excluded))
    got = {(service.namespace, service.host): {port.number for port in service.ports} for service in seen}
    assert got == _ports(case["expect"])
