"""The analyzers find what ``istioctl analyze`` finds: code and object, no more and no fewer."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml

from meshlib.config.analyze import ANALYZERS, analyze
from meshlib.config.analyze.codes import CODES
from meshlib.config.resources import load_dict, load_file, load_text
from tests.conftest import data_cases


@pytest.mark.parametrize("case", data_cases("analyze/cases.json"))
def test_istios_cases(case, shared_data):
    if case["analyzer"] not in ANALYZERS:
        pytest.skip(
            f"{case['analyzer']} looks at injection, webhooks, installation or proxies: no concern of a library"
        )
    resources = [each for path in case["inputs"] for each in load_file(shared_data / path).resources]
    mesh = yaml.safe_load((shared_data / case["mesh_config"]).read_text()) if case.get("mesh_config") else None
    found = analyze(resources, mesh=mesh, only={case["analyzer"]})
    scope = set(case["scope_codes"])
    assert Counter((each.code, each.resource) for each in found if each.code in scope) == Counter(
        (each["code"], each["origin"]) for each in case["expected"]
    ), [str(each) for each in found]
    levels = {each["code"]: (each["message"], each["level"]) for each in case["expected"]}
    for each in found:
        if each.code in scope:
            assert (each.name, each.level.value) == levels[each.code]


@pytest.mark.parametrize("case", data_cases("validate/kiali.json"))
def test_kialis_cases(case):
    analyzers = {"subset_presence": "virtualservice.DestinationRuleAnalyzer", "authz_needs_mtls": "authz.MutualTLS"}
    resources = [each for value in case["config"] for each in load_dict(value).resources]
    mesh = {"enableAutoMtls": case.get("auto_mtls", True)}
    found = analyze(resources, namespace="bookinfo", mesh=mesh, only={analyzers[case["check"]]})
    assert bool(found) is case["expect_warning"]


def test_names_and_levels_are_istios(shared_data):
    messages = json.loads((shared_data / "analyze/messages.json").read_text("utf-8"))["cases"]
    theirs = {each["code"]: (each["name"], each["level"]) for each in messages}
    ours = {code: (name, level.value) for code, (name, level) in CODES.items() if code.startswith("IST")}
    assert ours.items() <= theirs.items()


REVIEWS = """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: prod, annotations: {networking.istio.io/exportTo: "."}}
spec: {ports: [{name: http, port: 80}, {name: http-admin, port: 81}], selector: {app: reviews}}
---
apiVersion: v1
kind: Pod
metadata: {name: reviews-1, namespace: prod, labels: {app: reviews, version: v1}}
spec: {containers: [{name: app}]}
"""


def found(text, *codes):
    problems = analyze(load_text(REVIEWS + "---" + text, "mesh.yaml").resources)
    return [(each.code, each.resource, each.path) for each in problems if not codes or each.code in codes]


def route(name, namespace, destination, extra="hosts: [reviews]"):
    return f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{{extra}, http: [{{route: [{{destination: {destination}}}]}}]}}
"""


@pytest.mark.parametrize(
    ("namespace", "destination", "expected"),
    [
        ("prod", "{host: reviews, port: {number: 80}}", []),
        ("prod", "{host: reviews}", [("IST0112", "")]),
        ("prod", "{host: reviews, port: {number: 8}}", [("IST0101", ".port.number")]),
        ("prod", "{host: bogus}", [("IST0101", ".host")]),
        ("test", "{host: reviews.prod.svc.cluster.local, port: {number: 80}}", [("IST0101", ".host")]),
        ("prod", "{host: reviews, subset: v9, port: {number: 80}}", [("IST0101", ".subset")]),
    ],
)
def test_destinations_must_exist_and_be_visible(namespace, destination, expected):
    place = "spec.http[0].route[0].destination"
    wanted = [(code, f"VirtualService {namespace}/one", place + field) for code, field in expected]
    assert found(route("one", namespace, destination), "IST0101", "IST0112") == wanted


def test_gateways_must_exist_and_serve_the_host():
    text = route("one", "prod", "{host: reviews, port: {number: 80}}", "hosts: [a.com], gateways: [mesh, none]")
    assert found(text, "IST0101") == [("IST0101", "VirtualService prod/one", "spec.gateways[1]")]


def test_two_selectors_on_one_pod_and_a_selector_without_pod():
    def sidecar(name, labels):
        return (
            f"\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {{name: {name}, namespace: prod}}\n"
            f"spec: {{workloadSelector: {{labels: {labels}}}, egress: [{{hosts: ['./*']}}]}}\n---"
        )

    text = sidecar("a", "{app: reviews}") + sidecar("b", "{version: v1}") + sidecar("c", "{app: none}")
    assert sorted(found(text, "IST0101", "IST0110")) == [
        ("IST0101", "Sidecar prod/c", "spec.workloadSelector.labels"),
        ("IST0110", "Sidecar prod/a", "spec.workloadSelector"),
        ("IST0110", "Sidecar prod/b", "spec.workloadSelector"),
    ]


def test_templates_stand_for_the_pods_that_they_will_make():
    text = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews-v2, namespace: prod}
spec: {template: {metadata: {labels: {app: reviews, version: v2}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews, namespace: prod}
spec: {host: reviews, subsets: [{name: v2, labels: {version: v2}}, {name: v3, labels: {version: v3}}]}
"""
    assert found(text) == [("IST0173", "DestinationRule prod/reviews", "spec.subsets[1]")]


def test_annotations_are_known_in_place_and_valid():
    text = """
apiVersion: v1
kind: Service
metadata: {name: s, annotations: {networking.istio.io/exportTwo: x, sidecar.istio.io/inject: "true", else.io/x: y}}
---
apiVersion: v1
kind: Pod
metadata: {name: p, annotations: {sidecar.istio.io/inject: "true", traffic.sidecar.istio.io/excludeInboundPorts: http}}
"""
    assert [(code, resource) for code, resource, _ in found(text, "IST0107", "IST0108", "IST0125")] == [
        ("IST0107", "Service s"),
        ("IST0108", "Service s"),
        ("IST0125", "Pod p"),
    ]


def test_several_telemetries_without_selector():
    one = "\napiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: %s}\nspec: {}\n---"
    assert [code for code, _, _ in found(one % "a" + one % "b", "IST0160")] == ["IST0160", "IST0160"]


def test_an_object_that_stands_twice_is_said_once_and_no_conflict():
    twice = route("one", "prod", "{host: reviews, port: {number: 80}}")
    other = twice.replace("80", "81")
    assert [code for code, _, _ in found(f"{twice}---{other}")] == ["MESH001"]


@pytest.mark.parametrize("spec", ["5", "{servers: 5}", "{servers: [null, 5], selector: x}"])
def test_no_shape_of_an_unmodelled_kind_raises(spec):
    found(f"\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec: {spec}\n")


def test_deprecated_fields_and_the_sidecars_user():
    text = route("one", "prod", "{host: reviews, port: {number: 80}}").replace(
        "{route:", "{fault: {delay: {fixedDelay: 1s, percent: 5}}, route:"
    )
    pod = (
        "\napiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{securityContext: {runAsUser: 1337}}]}\n"
    )
    assert [code for code, _, _ in found(f"{text}---{pod}", "IST0002", "IST0144")] == ["IST0002", "IST0144"]


def test_one_certificate_in_two_gateways_and_a_selector_on_a_kubernetes_gateway():
    server = "{port: {number: %d, protocol: HTTPS, name: a}, hosts: [%s], tls: {mode: SIMPLE, credentialName: c}}"
    gateway = "\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: %s}\n"
    gateway += "spec: {selector: {istio: ingressgateway}, servers: [" + server + "]}\n---"
    policy = """
apiVersion: v1
kind: Pod
metadata: {name: p, labels: {gateway.networking.k8s.io/gateway-name: g}}
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: t}
spec: {selector: {matchLabels: {gateway.networking.k8s.io/gateway-name: g}}}
"""
    text = gateway % ("a", 443, "a.com") + gateway % ("b", 443, "b.com") + policy
    assert [code for code, _, _ in found(text, "IST0138", "IST0166")] == ["IST0138", "IST0138", "IST0166"]


def test_the_page_lists_every_code_and_says_of_every_other_why_not(shared_data):
    page = (Path(__file__).parents[2] / "docs" / "analyze.md").read_text("utf-8")
    messages = json.loads((shared_data / "analyze/messages.json").read_text("utf-8"))["cases"]
    assert not [each["code"] for each in messages if each["code"] not in page]
    found, missing = page.partition("| not found | why |")[::2]
    by_validation = {"IST0106", "IST0133"}
    for code in {each["code"] for each in messages}:
        assert (code in found) is (code in CODES or code in by_validation), code
        assert (code in found) is not (code in missing.partition("Where one file")[0]), code
    for code, (name, level) in CODES.items():
        if code.startswith("MESH"):
            assert f"| {code} | {name} | {level.value} |" in page
