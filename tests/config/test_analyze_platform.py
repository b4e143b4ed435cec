"""What surrounds the mesh: certificates of gateways, and who gets a sidecar."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest

from meshlib.config.analyze import ON_DEMAND, analyze
from meshlib.config.resources import load_text

PEM = """-----BEGIN CERTIFICATE-----
MIIBfjCCASOgAwIBAgIUHHqalbZy+AOuD3oWOKU4g20/YmIwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJYS5leGFtcGxlMB4XDTI2MTEyNDE1MjMwNloXDTM2MTEyMTE1
MjMwNlowFDESMBAGA1UEAwwJYS5leGFtcGxlMFkwEwYHKoZIzj0CAQYIKoZIzj0D
AQcDQgAEDCRB5NrLmR6YdAlxiaQ2COvePnaiKQpivqCddKHDjv6CAHh7geCJqdPe
5JUpwtM0CW6pQyfFZRKAmLRaHj9GR6NTMFEwHQYDVR0OBBYEFOdZxPnHSRBkrnvA
O1q19Kqpt3skMB8GA1UdIwQYMBaAFOdZxPnHSRBkrnvAO1q19Kqpt3skMA8GA1Ud
EwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSQAwRgIhAJBCmlPUIDFjtGo27tRCAQzj
TUKhS0rM/Jiq+Wns8dZLAiEA4qdA2TtnltzbtdPABFGrKrKicQFzCsBLyOj/BHAT
8P0=
-----END CERTIFICATE-----
"""
"""Made for this test: valid from 2026-11-24 to 2036-11-21; nobody has its key."""
KEY = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
GATEWAY = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 443, protocol: HTTPS, name: a}, hosts: [a.com], tls: {mode: SIMPLE, credentialName: c}}]
"""
WITHIN = datetime(2030, 1, 1, tzinfo=UTC)


def said(data, field="data", now=WITHIN):
    held = data if field == "stringData" else {k: base64.b64encode(v.encode()).decode() for k, v in data.items()}
    metadata = {"name": "c", "namespace": "istio-system"}
    secret = json.dumps({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, field: held})
    problems = analyze(load_text(f"{GATEWAY}---\n{secret}").resources, only={"gateway.SecretAnalyzer"}, now=now)
    return [(each.code, each.message) for each in problems]


@pytest.mark.parametrize("field", ["data", "stringData"])
@pytest.mark.parametrize(("certificate", "key"), [("tls.crt", "tls.key"), ("cert", "key")])
def test_a_certificate_and_its_key_are_fine_in_either_spelling(field, certificate, key):
    assert said({certificate: PEM, key: KEY}, field) == []


@pytest.mark.parametrize(
    ("data", "now", "words"),
    [
        ({"tls.crt": PEM}, WITHIN, "neither tls.crt"),
        ({"tls.crt": PEM, "key": KEY}, WITHIN, "neither tls.crt"),
        ({"tls.crt": PEM, "tls.key": "secret"}, WITHIN, "no private key"),
        ({"tls.crt": "nothing", "tls.key": KEY}, WITHIN, "cannot be read"),
        ({"tls.crt": PEM.replace("MIIB", "AAAA"), "tls.key": KEY}, WITHIN, "cannot be read"),
        ({"tls.crt": PEM, "tls.key": KEY}, datetime(2036, 12, 1, tzinfo=UTC), "expired on 2036-11-21"),
        ({"tls.crt": PEM, "tls.key": KEY}, datetime(2026, 11, 1, tzinfo=UTC), "valid from 2026-11-24"),
    ],
)
def test_a_certificate_that_tls_cannot_use_is_told_of(data, now, words):
    ((code, message),) = said(data, now=now)
    assert code == "IST0161"
    assert words in message


def test_a_gateway_without_pods_has_no_place_for_its_certificate():
    text = GATEWAY.replace("ingressgateway", "nobody")
    found = analyze(load_text(text).resources, only={"gateway.SecretAnalyzer"})
    assert [(each.code, each.path) for each in found] == [("IST0101", "spec.selector")]
    both = analyze(load_text(text).resources, only={"gateway.SecretAnalyzer", "gateway.IngressGatewayPortAnalyzer"})
    assert [each.code for each in both] == ["IST0101"]


NAMESPACES = """apiVersion: v1
kind: Namespace
metadata: {name: plain}
---
apiVersion: v1
kind: Namespace
metadata: {name: out, labels: {istio-injection: disabled}}
---
apiVersion: v1
kind: Namespace
metadata: {name: twice, labels: {istio-injection: enabled, istio.io/rev: canary}}
---
apiVersion: v1
kind: Namespace
metadata: {name: in, labels: {istio.io/rev: canary}}
---
apiVersion: v1
kind: Namespace
metadata: {name: kube-system}
"""


def pod(name, extra="", spec="containers: [{name: app}]"):
    return f"---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: in{extra}}}\nspec: {{{spec}}}\n"


def test_who_gets_a_sidecar_is_told_on_demand():
    proxy = "containers: [{name: app}, {name: istio-proxy, image: proxy}]"
    text = NAMESPACES + pod("without") + pod("with", spec=proxy) + pod("host", spec="hostNetwork: true")
    text += pod("native", spec=f"initContainers: [{{name: istio-proxy, image: proxy}}], {proxy[:24]}]")
    text += pod("not", ", labels: {sidecar.istio.io/inject: 'false'}, annotations: {sidecar.istio.io/inject: 'true'}")
    found = analyze(load_text(text).resources, only=ON_DEMAND)
    assert [(each.code, each.resource) for each in found if each.code != "IST0136"] == [
        ("IST0102", "Namespace plain"),
        ("IST0123", "Namespace twice"),
        ("IST0103", "Pod in/without"),
    ]
    assert not [each for each in analyze(load_text(text).resources) if each.code == "IST0102"]


def test_an_injector_that_takes_namespaces_by_default():
    values = json.dumps({"sidecarInjectorWebhook": {"enableNamespacesByDefault": True}})
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-sidecar-injector"}}
    text = f"{NAMESPACES}---\n{json.dumps({**config, 'data': {'values': values}})}"
    found = analyze(load_text(text).resources, only={"injection.Analyzer"})
    assert [each.code for each in found] == ["IST0148", "IST0123"]


ROUTE = """apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: r}
spec:
  parentRefs: [{group: "", kind: Service, name: %s}]
  rules: [{backendRefs: [%s], filters: [{type: RequestMirror, requestMirror: {backendRef: %s}}]}]
"""


@pytest.mark.parametrize(
    ("parent", "backend", "mirror", "paths"),
    [
        ("reviews", "{name: reviews, port: 80}", "{name: reviews, port: 80}", []),
        ("nobody", "{name: reviews, port: 80}", "{name: reviews, port: 80}", ["parentRefs[0].name"]),
        ("reviews", "{name: nobody, port: 80}", "{name: reviews, port: 80}", ["rules[0].backendRefs[0].name"]),
        ("reviews", "{name: reviews, port: 81}", "{name: reviews, port: 80}", ["rules[0].backendRefs[0].port"]),
        (
            "reviews",
            "{group: networking.istio.io, kind: Hostname, name: reviews.default.svc.cluster.local, port: 80}",
            "{name: reviews, namespace: other, port: 80}",
            ["rules[0].filters[0].requestMirror.backendRef.name"],
        ),
    ],
)
def test_what_a_route_of_the_gateway_api_names_must_exist(parent, backend, mirror, paths):
    found = analyze(load_text(ROUTE % (parent, backend, mirror)).resources, only={"meshlib.GatewayRoutes"})
    assert [(each.code, each.path) for each in found] == [("IST0101", f"spec.{path}") for path in paths]
