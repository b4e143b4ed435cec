"""What validation says of each kind, with line and path; Istio's own tables are asked in tests/conformance."""

from __future__ import annotations

import json

import pytest

from meshlib.config.resources import load_text
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.validation import mesh_config_given, validate
from meshlib.config.validation.header_format import header_value
from meshlib.config.validation.primitives import localities
from meshlib.errors import ConfigError
from meshlib.model.problem import Level

RULE = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match:
    - uri: {regex: "/a(b"}
    route:
    - destination: {host: reviews}
      weight: -1
    - destination: {host: reviews, subset: v2}
      weight: 3
    retries: {attempts: 2, retryOn: "5xx, reset"}
"""


def test_findings_carry_line_and_path():
    (resource,) = load_text(RULE, "mesh.yaml").resources
    found = {problem.path: (problem.line, problem.message) for problem in validate(resource)}
    assert found["spec.http[0].match[0].uri.regex"][0] == 8
    assert "RE2" in found["spec.http[0].match[0].uri.regex"][1]
    assert found["spec.http[0].route[0].weight"] == (11, "weight -1 is below 0")
    assert "' reset'" in found["spec.http[0].retries.retryOn"][1]


@pytest.mark.parametrize("pattern", [r"(?=a)b", r"(a)\1", "a{1001}"])
def test_what_re2_refuses_is_refused(pattern):
    text = RULE.replace('"/a(b"', f"'{pattern}'")
    (resource,) = load_text(text).resources
    assert any("RE2" in problem.message for problem in validate(resource))


def found_in(text, level=Level.ERROR):
    loaded = load_text(text, "mesh.yaml")
    problems = [*loaded.problems, *(problem for resource in loaded.resources for problem in validate(resource))]
    return {problem.path: (problem.line, problem.message) for problem in problems if problem.level is level}


POLICY = """apiVersion: meshlib.dev/v1alpha1
kind: ClientPolicy
metadata: {name: reviews}
spec:
  hosts: [reviews, "*"]
  subsets: [v1]
  circuitBreaker:
    consecutiveErrors: 5
    window: 10s
    minRequests: 20
    errorRate: 0.5
    openFor: 30s
    halfOpenRequests: 1
    scope: Endpoint
  retryBudget: {percent: 20, minConcurrency: 3}
  healthCheck: {path: /healthz, interval: 5s, timeout: 1s, unhealthyThreshold: 3, healthyThreshold: 2}
  rateLimit: {requestsPerUnit: 100, unit: SECOND, burst: 20, by: [{header: x-user}, {path: true}, {method: true}]}
  hedge: {after: 50ms, maxAttempts: 2, methods: [GET]}
  faultsBelowRetries: false
"""


def test_a_client_policy_as_the_documentation_shows_it_is_valid():
    assert not found_in(POLICY)
    assert not found_in(POLICY, Level.WARNING)


@pytest.mark.parametrize(
    ("old", "new", "path", "line"),
    [
        ("hosts: [reviews", "hosts: [rev_iews", "spec.hosts[0]", 5),
        ("subsets: [v1]", "subsets: [v1, v1]", "spec.subsets[1]", 6),
        ("consecutiveErrors: 5", "consecutiveErrors: 0", "spec.circuitBreaker.consecutiveErrors", 8),
        ("errorRate: 0.5", "errorRate: 1.5", "spec.circuitBreaker.errorRate", 11),
        ("openFor: 30s", "openFor: 0s", "spec.circuitBreaker.openFor", 12),
        ("scope: Endpoint", "scope: Host", "spec.circuitBreaker.scope", 14),
        ("percent: 20", "percent: 120", "spec.retryBudget.percent", 15),
        ("path: /healthz", "path: healthz", "spec.healthCheck.path", 16),
        ("path: /healthz", "path: /healthz, tcp: {}", "spec.healthCheck", 16),
        ("path: /healthz, ", "", "spec.healthCheck", 16),
        ("unhealthyThreshold: 3", "unhealthyThreshold: 0", "spec.healthCheck.unhealthyThreshold", 16),
        ("requestsPerUnit: 100", "requestsPerUnit: 0", "spec.rateLimit.requestsPerUnit", 17),
        ("unit: SECOND", "unit: FORTNIGHT", "spec.rateLimit.unit", 17),
        ("{header: x-user}", "{header: x-user, path: true}", "spec.rateLimit.by[0]", 17),
        ("{header: x-user}", "{}", "spec.rateLimit.by[0]", 17),
        ("{header: x-user}", "{descriptorKey: user}", "spec.rateLimit.by[0]", 17),
        ("burst: 20", "global: {service: limits, domain: d}", "spec.rateLimit.global.service", 17),
        ("burst: 20", "global: {service: 'limits:99999', domain: d}", "spec.rateLimit.global.service", 17),
        ("burst: 20", "global: {service: 'limits:80'}", "spec.rateLimit.global.domain", 17),
        ("burst: 20", "global: {service: 'l:8', domain: d, timeout: 0s}", "spec.rateLimit.global.timeout", 17),
        ("requestsPerUnit: 100, ", "", "spec.rateLimit", 17),
        ("maxAttempts: 2", "maxAttempts: 1", "spec.hedge.maxAttempts", 18),
        ("after: 50ms, ", "", "spec.hedge.after", 18),
    ],
)
def test_what_a_client_policy_cannot_mean_is_refused_where_it_stands(old, new, path, line):
    assert POLICY.count(old) >= 1
    assert {place: where for place, (where, _) in found_in(POLICY.replace(old, new, 1)).items()} == {path: line}


@pytest.mark.parametrize(
    ("old", "new", "path"),
    [
        ("    errorRate: 0.5\n", "", "spec.circuitBreaker.minRequests"),
        ("timeout: 1s", "timeout: 9s", "spec.healthCheck.timeout"),
        ("methods: [GET]", "methods: [POST]", "spec.hedge.methods[0]"),
    ],
)
def test_what_a_client_policy_probably_does_not_mean_is_worth_a_warning(old, new, path):
    text = POLICY.replace(old, new, 1)
    assert not found_in(text)
    assert path in found_in(text, Level.WARNING)


SIDECAR = """apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec:
  ingress:
  - port: {number: 9080, protocol: HTTP, name: http}
    defaultEndpoint: 127.0.0.1:8080
    tls: {mode: SIMPLE, credentialName: secret}
  egress:
  - hosts: ["*/*"]
  - port: {number: 443}
    hosts: [shop/reviews]
"""


def test_a_sidecar_is_told_every_mistake_at_its_line():
    found = found_in(SIDECAR)
    assert found["spec.ingress[0].tls.credentialName"][0] == 8
    assert found["spec.ingress[0].tls"][1] == "TLS settings are for ports of protocol HTTPS or TLS"
    assert found["spec.egress[0]"][0] == 10
    assert "short name" in found["spec.egress[1].hosts[0]"][1]


@pytest.mark.parametrize(
    ("kind", "field", "misspelt"),
    [
        ("security.istio.io/v1 AuthorizationPolicy", "rules: [{from: [{source: {principles: [a]}}]}]", "principles"),
        ("security.istio.io/v1 RequestAuthentication", "jwtRules: [{issuer: a, jwksURI: 'https://a'}]", "jwksURI"),
        ("security.istio.io/v1 PeerAuthentication", "mtls: {modes: STRICT}", "modes"),
        ("telemetry.istio.io/v1 Telemetry", "tracing: [{randomSampling: 1}]", "randomSampling"),
        ("networking.istio.io/v1 WorkloadGroup", "template: {}\n  probe: {tcpSocket: {port: 1, hosts: a}}", "hosts"),
        ("networking.istio.io/v1beta1 ProxyConfig", "image: {imageKind: debug}", "imageKind"),
        ("networking.istio.io/v1 Gateway", "servers: [{hosts: [a.b], tls: {cipherSuite: []}}]", "cipherSuite"),
        ("meshlib.dev/v1alpha1 ClientPolicy", "hosts: [a]\n  hedge: {delay: 1s}", "delay"),
    ],
)
def test_unknown_fields_are_warnings_and_in_strict_mode_refuse_the_object(kind, field, misspelt):
    version, name = kind.split()
    text = f"apiVersion: {version}\nkind: {name}\nmetadata: {{name: x}}\nspec:\n  {field}\n"
    loose, strict = load_text(text, "x.yaml"), load_text(text, "x.yaml", strict=True)
    (problem,) = loose.problems
    assert (problem.level, problem.line) == (Level.WARNING, 5 + field.count("\n"))
    assert f"unknown field {misspelt!r}" in problem.message
    assert loose.resources
    assert not strict.resources
    assert [found.level for found in strict.problems] == [Level.ERROR]


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        ("%REQ(x-user)%", True),
        ('%UPSTREAM_METADATA(["a", "b"])%', True),
        ('%UPSTREAM_METADATA(["a", b])%', False),
        ("%REQ(x-user", False),
        ("50%", False),
        ("a\x01b", False),
        ("%REQ(a\\)b)%", True),
    ],
)
def test_values_of_header_operations_are_read_as_envoy_reads_them(value, valid):
    assert (header_value(value) is None) is valid


@pytest.mark.parametrize(
    ("patterns", "valid"),
    [
        (["a/b", "a/*", "*"], True),
        (["*", "a"], False),
        (["a", "a/b"], False),
        (["a/b/c", "a/b"], False),
        (["a//b"], False),
    ],
)
def test_a_locality_pattern_may_not_cover_what_one_before_it_covers(patterns, valid):
    assert (localities(patterns) is None) is valid


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("response.code >= 400 && !('x' in request.headers)", None),
        ("response.code >=", "not a CEL expression"),
        ("(" * 100_000, "at most 16384"),
    ],
)
def test_a_filter_of_access_logs_is_an_expression_of_cel(expression, words):
    spec = json.dumps({"accessLogging": [{"filter": {"expression": expression}}]})
    found = found_in(f"apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {{name: a}}\nspec: {spec}\n")
    path = "spec.accessLogging[0].filter.expression"
    assert list(found) == ([] if words is None else [path])
    assert words is None or words in found[path][1]


@pytest.mark.parametrize(
    ("field", "path", "message"),
    [
        ("fromHeaders: [{name: ''}]", "fromHeaders[0].name", 'expected at least 1 characters, got ""'),
        ("fromHeaders: [{prefix: a}]", "fromHeaders[0].name", "is required"),
        ("outputClaimToHeaders: [{header: ':a', claim: b}]", "outputClaimToHeaders[0].header", "expected a text that"),
        ("jwksUri: a, jwks: b", "", "only one of jwksUri and jwks may be set"),
        ("timeout: 5", "timeout", "5 is not a duration: write a text with a unit, for example '5s'"),
        ("timeout: 1us", "timeout", "1e-06s is below the least duration, 1ms"),
        ("jwks: '{}'", "jwks", "this is not a JSON Web Key, nor a set of them"),
    ],
)
def test_bounds_of_the_schema_are_told_in_plain_words(field, path, message):
    head = "apiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {name: a}\nspec:\n"
    found = found_in(f"{head}  jwtRules:\n  - issuer: a\n    {field.replace(', jwks:', chr(10) + '    jwks:')}\n")
    (where,) = found
    assert where == f"spec.jwtRules[0].{path}".rstrip(".")
    assert found[where][1].startswith(message)


def test_settings_of_the_mesh_that_are_given_in_code_are_checked_and_every_problem_is_told():
    with pytest.raises(ConfigError) as caught:
        mesh_config_given({"connectTimeout": "2h", "trustDomain": "-"})
    assert [problem.path for problem in caught.value.problems] == ["connectTimeout", "trustDomain"]
    with pytest.raises(ConfigError, match="is not a duration"):
        mesh_config_given({"connectTimeout": 5})
    assert mesh_config_given({"rootNamespac": "a"}).root_namespace == "istio-system"
    with pytest.raises(ConfigError, match="did you mean 'rootNamespace'"):
        mesh_config_given({"rootNamespac": "a"}, strict=True)
    assert mesh_config_given(MeshConfig()) == MeshConfig()
