"""Checks beyond istioctl's: objects that are valid and do something else than they seem to."""

from __future__ import annotations

import pytest

from meshlib.config.analyze import ANALYZERS, ON_DEMAND, analyze
from meshlib.config.resources import load_text
from meshlib.errors import ConfigError
from tests.conftest import endpoint_slice, service

WORLD = service("reviews") + "---\n" + endpoint_slice("reviews", "v1", ("10.0.0.1", 9080), ("10.0.0.2", 9080))


def found(*texts, codes=(), **options):
    problems = analyze(load_text("\n---\n".join((WORLD, *texts)), "mesh.yaml").resources, **options)
    return [(each.code, each.resource, each.path) for each in problems if not codes or each.code.startswith(codes)]


def rule(name, namespace, host, spec):
    return (
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
        f"metadata: {{name: {name}, namespace: {namespace}}}\nspec: {{host: '{host}', {spec}}}\n"
    )


def virtual_service(spec, namespace="default", extra=""):
    return (
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        f"metadata: {{name: reviews, namespace: {namespace}}}\nspec: {{hosts: [reviews]{extra}, http: [{spec}]}}\n"
    )


def client_policy(name, spec):
    return f"apiVersion: meshlib.dev/v1alpha1\nkind: ClientPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n"


V1 = "subsets: [{name: v1, labels: {version: v1}}]"
TO_V1 = "{route: [{destination: {host: reviews, subset: v1}}]}"
FQDN = "reviews.default.svc.cluster.local"


def test_a_subset_that_only_a_hidden_rule_defines_is_not_in_force_for_some_clients():
    home = rule("reviews", "default", "reviews", V1)
    assert found(home, virtual_service(TO_V1), codes="MESH003") == []
    hiding = rule("all", "web", "*.svc.cluster.local", "trafficPolicy: {tls: {mode: DISABLE}}")
    path = "spec.http[0].route[0].destination.subset"
    assert found(home, hiding, virtual_service(TO_V1), codes="MESH003") == [
        ("MESH003", "VirtualService default/reviews", path)
    ]
    private = virtual_service(TO_V1, extra=", exportTo: ['.']")
    assert found(home, hiding, private, codes="MESH003") == []


def test_a_wildcard_rule_that_hides_a_specific_one_is_told_of_where_it_stands():
    home = rule("reviews", "default", "reviews", V1)
    hiding = rule("all", "web", "*.svc.cluster.local", "trafficPolicy: {tls: {mode: DISABLE}}")
    own = rule("mine", "web", FQDN, V1)
    assert found(home, hiding, codes="MESH008") == [("MESH008", "DestinationRule web/all", "spec.host")]
    assert found(home, hiding, own, codes="MESH008") == []
    assert found(home, rule("all", "default", "*.svc.cluster.local", V1), codes="MESH008") == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("{match: [{headers: {a: {regex: '*'}}}], %s}", [("MESH004", "match[0].headers.a")]),
        ("{match: [{withoutHeaders: {a: {regex: '*'}}}], %s}", [("MESH004", "match[0].withoutHeaders.a")]),
        ("{match: [{headers: {a: {regex: '.*'}}}], %s}", []),
        ("{retries: {}, %s}", [("MESH005", "retries")]),
        ("{retries: {perTryTimeout: 1s}, %s}", []),
        ("{retries: {attempts: 0}, %s}", []),
        ("{fault: {delay: {fixedDelay: 1s}}, %s}", [("MESH006", "fault.delay")]),
        ("{fault: {abort: {httpStatus: 503}}, %s}", [("MESH006", "fault.abort")]),
        ("{fault: {abort: {httpStatus: 503, percentage: {value: 0}}}, %s}", []),
        ("{fault: {delay: {fixedDelay: 1s, percent: 5}}, %s}", []),
    ],
)
def test_rules_that_seem_to_do_something(spec, expected):
    text = virtual_service(spec % "route: [{destination: {host: reviews}}]")
    wanted = [(code, "VirtualService default/reviews", f"spec.http[0].{path}") for code, path in expected]
    assert found(text, codes=("MESH004", "MESH005", "MESH006")) == wanted


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ("trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1}}", "spec.trafficPolicy.outlierDetection"),
        (
            "trafficPolicy: {outlierDetection: {maxEjectionPercent: 49}}",
            "spec.trafficPolicy.outlierDetection.maxEjectionPercent",
        ),
        ("trafficPolicy: {outlierDetection: {maxEjectionPercent: 50}}", None),
        (
            "subsets: [{name: v2, labels: {version: v2}, trafficPolicy: {outlierDetection: {maxEjectionPercent: 1}}}]",
            None,
        ),
        (
            "subsets: [{name: v1, labels: {version: v1}, trafficPolicy: {outlierDetection: {maxEjectionPercent: 9}}}]",
            "spec.subsets[0].trafficPolicy.outlierDetection.maxEjectionPercent",
        ),
    ],
)
def test_detection_that_may_not_eject_a_single_endpoint(spec, path):
    wanted = [("MESH007", "DestinationRule default/reviews", path)] if path else []
    assert found(rule("reviews", "default", "reviews", spec), codes="MESH007") == wanted


def test_a_host_that_two_objects_declare_counts_once():
    def entry(name, extra=""):
        return (
            f"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}}}\n"
            f"spec: {{hosts: [a.com], ports: [{{number: 80, name: http, protocol: HTTP}}]{extra}}}\n"
        )

    assert found(entry("a"), entry("b"), codes="MESH009") == []
    assert found(entry("a"), entry("b", ", resolution: DNS"), codes="MESH009") == [
        ("MESH009", "ServiceEntry b", "spec.hosts")
    ]
    shadowed = entry("c").replace("a.com", FQDN)
    assert found(shadowed, codes="MESH009") == [("MESH009", "ServiceEntry c", "spec.hosts")]


def test_a_credential_without_selector_and_an_outbound_policy_without_mode():
    tls = "trafficPolicy: {tls: {mode: SIMPLE, credentialName: c}}"
    selected = f"{tls}, workloadSelector: {{matchLabels: {{app: web}}}}"
    sidecar = (
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\nspec: {outboundTrafficPolicy: %s}\n"
    )
    codes = ("MESH012", "MESH013")
    assert found(rule("r", "default", "reviews", tls), sidecar % "{}", codes=codes) == [
        ("MESH012", "DestinationRule default/r", "spec.trafficPolicy.tls.credentialName"),
        ("MESH013", "Sidecar s", "spec.outboundTrafficPolicy"),
    ]
    assert found(rule("r", "default", "reviews", selected), sidecar % "{mode: ALLOW_ANY}", codes=codes) == []


def test_client_policies_name_what_exists_once_and_to_some_effect():
    policies = (
        client_policy("a", "{hosts: [reviews], subsets: [v9], retryBudget: {percent: 10}}"),
        client_policy("b", "{hosts: [nowhere], circuitBreaker: {window: 10s}}"),
        client_policy("c", "{hosts: [reviews], subsets: [v9, v1], circuitBreaker: {consecutiveErrors: 5}}"),
        client_policy("d", "{hosts: [reviews], hedge: {after: 50ms}}"),
    )
    budget = rule("reviews", "default", "reviews", f"{V1}, trafficPolicy: {{retryBudget: {{percent: 20}}}}")
    assert found(*policies, budget, codes="MESH02") == [
        ("MESH021", "ClientPolicy a", "spec.subsets[0]"),
        ("MESH022", "ClientPolicy a", "spec.hosts"),
        ("MESH024", "ClientPolicy a", "spec.retryBudget"),
        ("MESH020", "ClientPolicy b", "spec.hosts[0]"),
        ("MESH023", "ClientPolicy b", "spec.circuitBreaker"),
        ("MESH021", "ClientPolicy c", "spec.subsets[0]"),
        ("MESH022", "ClientPolicy c", "spec.hosts"),
    ]


def test_definitions_of_the_gateway_api_that_istiod_cannot_use():
    crd = (
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n"
        "metadata: {name: %s.gateway.networking.k8s.io, annotations: {%s}}\n"
        "spec: {group: gateway.networking.k8s.io, names: {kind: %s}, versions: [%s]}\n"
    )
    bundle = "gateway.networking.k8s.io/bundle-version: %s"
    old = crd % ("httproutes", "", "HTTPRoute", "{name: v1alpha2, served: true}, {name: v1, served: false}")
    early = crd % ("grpcroutes", bundle % "v1.0.0", "GRPCRoute", "{name: v1, served: true}")
    fine = crd % ("tlsroutes", bundle % "v1.5.0-rc.1", "TLSRoute", "{name: v1, served: true}")
    assert found(old, early, fine, codes=("IST0156", "IST0172", "IST0176")) == [
        ("IST0156", "CustomResourceDefinition httproutes.gateway.networking.k8s.io", "spec.versions"),
        ("IST0172", "CustomResourceDefinition httproutes.gateway.networking.k8s.io", "spec.versions"),
        (
            "IST0176",
            "CustomResourceDefinition grpcroutes.gateway.networking.k8s.io",
            "metadata.annotations.gateway.networking.k8s.io/bundle-version",
        ),
    ]


def test_an_istiod_that_fetches_keys_from_anywhere():
    istiod = (
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: istiod, labels: {app: istiod}}\n"
        "spec: {template: {spec: {containers: [{name: discovery, env: [%s]}]}}}\n"
    )
    policy = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: jwt}\nspec: {}\n"
    assert found(istiod % "", codes="IST0175") == []
    assert found(istiod % "", policy, codes="IST0175") == [
        ("IST0175", "Deployment istiod", "spec.template.spec.containers")
    ]
    assert found(istiod % "{name: BLOCKED_CIDRS_IN_JWKS_URIS, value: 10.0.0.0/8}", policy, codes="IST0175") == []


def test_networks_of_registries_that_nobody_knows():
    networks = """apiVersion: v1
kind: ConfigMap
metadata: {name: istio}
data:
  meshNetworks: |
    networks:
      n1: {endpoints: [{fromRegistry: c1}, {fromRegistry: Kubernetes}, {fromCidr: 10.0.0.0/8}]}
"""
    secret = (
        "apiVersion: v1\nkind: Secret\nmetadata: {name: s, labels: {istio/multiCluster: 'true'}}\ndata: {c1: eA==}\n"
    )
    assert found(networks, codes="IST0126") == [("IST0126", "ConfigMap istio", "data.meshNetworks")]
    assert found(networks, secret, codes="IST0126") == []


def test_services_that_differ_from_cluster_to_cluster_are_no_duplicates():
    def copy(cluster, spec):
        return (
            "apiVersion: v1\nkind: Service\n"
            f"metadata: {{name: s, labels: {{topology.istio.io/cluster: {cluster}}}}}\nspec: {spec}\n"
        )

    one = copy("c1", "{ports: [{name: http, port: 80}]}")
    assert found(one, copy("c2", "{ports: [{name: http, port: 80}]}"), codes=("IST0170", "MESH001")) == []
    assert found(one, copy("c2", "{ports: [{name: http, port: 81}]}"), codes=("IST0170", "MESH001")) == [
        ("IST0170", "Service s", "spec")
    ]


def test_annotations_on_their_way_out_and_those_of_alpha_features():
    def pod(labels, annotations):
        return f"apiVersion: v1\nkind: Pod\nmetadata: {{name: p, labels: {labels}, annotations: {annotations}}}\n"

    inject = "{sidecar.istio.io/inject: 'true', sidecar.istio.io/proxyCPU: 100m}"
    path = "metadata.annotations.sidecar.istio.io/"
    assert found(pod("{}", inject), codes=("IST0135", "IST0136")) == [("IST0135", "Pod p", f"{path}inject")]
    assert found(pod("{sidecar.istio.io/inject: 'true'}", inject), codes="IST0135") == []
    assert found(pod("{}", inject), only=ON_DEMAND) == [("IST0136", "Pod p", f"{path}proxyCPU")]
    assert set(ANALYZERS) > ON_DEMAND


@pytest.mark.parametrize(
    ("suppress", "left"),
    [
        ([], 1),
        (["MESH005=VirtualService reviews.default"], 0),
        (["MESH005=VirtualService *.default"], 0),
        (["MESH005=VirtualService reviews.prod", "MESH006=VirtualService reviews.default"], 1),
    ],
)
def test_a_code_can_be_silenced_for_an_object_from_outside(suppress, left):
    text = virtual_service("{retries: {}, route: [{destination: {host: reviews}}]}")
    assert len(found(text, codes="MESH005", suppress=suppress)) == left


def test_a_suppression_of_another_form_is_refused():
    with pytest.raises(ConfigError, match="CODE=Kind"):
        analyze([], suppress=["MESH005"])
