"""What the schema of Gateway API's routes refuses, at the line and field where it stands."""

from __future__ import annotations

import pytest

from meshlib.config.resources import load_text
from meshlib.config.validation import validate
from meshlib.model.problem import Level

BACKEND = "backendRefs: [{name: a, port: 80}]"


def route(rule, kind="HTTPRoute", parents="[{group: '', kind: Service, name: svc}]", extra=""):
    return f"""apiVersion: gateway.networking.k8s.io/v1
kind: {kind}
metadata: {{name: r}}
spec:
  parentRefs: {parents}
{extra}
  rules:
  - {rule}
"""


def findings(text, level=Level.ERROR):
    loaded = load_text(text, "r.yaml")
    found = [*loaded.problems, *(problem for resource in loaded.resources for problem in validate(resource))]
    return [
        (problem.path.removeprefix("spec.rules[0]."), problem.message) for problem in found if problem.level is level
    ]


def paths(text, level=Level.ERROR):
    return [path for path, _ in findings(text, level)]


def rule(**fields):
    return "{" + ", ".join(f"{name}: {value}" for name, value in fields.items()) + "}"


GOOD = rule(
    name="canary",
    matches="""[{path: {type: PathPrefix, value: /a}, method: GET, headers: [{name: x, value: "1"}],
      queryParams: [{name: q, type: RegularExpression, value: "[0-9]+"}]}]""",
    filters="""[{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: a, value: b}], remove: [c]}},
      {type: URLRewrite, urlRewrite: {hostname: example.com, path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}},
      {type: RequestMirror, requestMirror: {backendRef: {name: m, port: 80}, fraction: {numerator: 1, denominator: 3}}},
      {type: RequestMirror, requestMirror: {backendRef: {name: n, port: 80}, percent: 5}},
      {type: CORS, cors: {allowOrigins: ["https://*.example.com"], allowMethods: [GET], maxAge: 60}}]""",
    backendRefs="[{name: a, port: 80, weight: 9}, {name: b, port: 80, weight: 0}]",
    timeouts="{request: 10s, backendRequest: 500ms}",
    retry="{attempts: 3, codes: [500, 503], backoff: 100ms}",
)


def test_a_route_with_everything_in_it_is_fine():
    text = route(GOOD, extra='  hostnames: ["*.example.com"]')
    assert paths(text) == paths(text, Level.WARNING) == []


@pytest.mark.parametrize("version", ["v1", "v1beta1", "v1alpha2"])
@pytest.mark.parametrize("kind", ["HTTPRoute", "GRPCRoute"])
def test_every_version_reads_the_same(version, kind):
    [resource] = load_text(route(f"{{{BACKEND}}}", kind).replace("io/v1", f"io/{version}")).resources
    assert [ref.name for ref in resource.spec.rules[0].backend_refs] == ["a"]


@pytest.mark.parametrize(
    ("path", "wrong"),
    [
        ("{value: a}", "path.value"),
        ("{value: /a//b}", "path.value"),
        ("{value: /a/./b}", "path.value"),
        ("{value: /a/../b}", "path.value"),
        ("{value: /a/..}", "path.value"),
        ("{value: /a%2fb}", "path.value"),
        ("{value: '/a#b'}", "path.value"),
        ("{value: '/a b'}", "path.value"),
        ("{type: Exact, value: a}", "path.value"),
        ("{type: RegularExpression, value: '('}", "path.value"),
        ("{type: RegularExpression, value: '(?=a)'}", "path.value"),
        ("{type: Prefix, value: /a}", "path.type"),
    ],
)
def test_paths(path, wrong):
    assert paths(route(rule(matches=f"[{{path: {path}}}]", backendRefs="[]"))) == [f"matches[0].{wrong}"]


@pytest.mark.parametrize(
    ("match", "wrong"),
    [
        ("{method: FETCH}", "method"),
        ("{headers: [{name: 'a b', value: x}]}", "headers[0].name"),
        ("{headers: [{name: a}]}", "headers[0].value"),
        ("{headers: [{name: a, value: ''}]}", "headers[0].value"),
        ("{headers: [{name: a, value: x}, {name: a, value: y}]}", "headers[1].name"),
        ("{headers: [{name: a, type: RegularExpression, value: '('}]}", "headers[0].value"),
        ("{headers: [{name: a, type: Prefix, value: x}]}", "headers[0].type"),
        ("{queryParams: [{name: '', value: x}]}", "queryParams[0].name"),
        ("{headers: [" + ", ".join(f"{{name: h{n}, value: x}}" for n in range(17)) + "]}", "headers"),
    ],
)
def test_conditions(match, wrong):
    assert paths(route(rule(matches=f"[{match}]"))) == [f"matches[0].{wrong}"]


@pytest.mark.parametrize(
    ("method", "wrong"),
    [
        ("{}", "method"),
        ("{service: a/b}", "method.service"),
        ("{service: a, method: 'b c'}", "method.method"),
        ("{type: RegularExpression, service: '('}", "method.service"),
        ("{type: Prefix, service: a}", "method.type"),
    ],
)
def test_grpc_methods(method, wrong):
    assert paths(route(rule(matches=f"[{{method: {method}}}]"), "GRPCRoute")) == [f"matches[0].{wrong}"]


@pytest.mark.parametrize(
    ("filters", "wrong"),
    [
        ("[{type: URLRewrite}]", "[0]"),
        ("[{type: CORS, cors: {}, urlRewrite: {hostname: a}}]", "[0].urlRewrite"),
        ("[{type: URLRewrite, urlRewrite: {}}, {type: URLRewrite, urlRewrite: {}}]", ""),
        ("[{type: URLRewrite, urlRewrite: {}}, {type: RequestRedirect, requestRedirect: {}}]", ""),
        ("[{type: URLRewrite, urlRewrite: {hostname: '*.a'}}]", "[0].urlRewrite.hostname"),
        ("[{type: URLRewrite, urlRewrite: {hostname: 10.0.0.1}}]", "[0].urlRewrite.hostname"),
        ("[{type: URLRewrite, urlRewrite: {path: {type: ReplaceFullPath}}}]", "[0].urlRewrite.path"),
        (
            """[{type: URLRewrite,
              urlRewrite: {path: {type: ReplaceFullPath, replaceFullPath: /, replacePrefixMatch: /}}}]""",
            "[0].urlRewrite.path.replacePrefixMatch",
        ),
        ("[{type: RequestRedirect, requestRedirect: {statusCode: 300}}]", "[0].requestRedirect.statusCode"),
        ("[{type: RequestRedirect, requestRedirect: {scheme: ftp}}]", "[0].requestRedirect.scheme"),
        ("[{type: RequestRedirect, requestRedirect: {port: 0}}]", "[0].requestRedirect.port"),
        (
            "[{type: RequestHeaderModifier, requestHeaderModifier: {add: [{name: 'a:', value: b}]}}]",
            "[0].requestHeaderModifier.add[0].name",
        ),
        (
            "[{type: ResponseHeaderModifier, responseHeaderModifier: {set: [{name: a, value: ''}]}}]",
            "[0].responseHeaderModifier.set[0].value",
        ),
        (
            "[{type: ResponseHeaderModifier, responseHeaderModifier: {remove: [a, a]}}]",
            "[0].responseHeaderModifier.remove[1]",
        ),
        (
            "[{type: RequestMirror, requestMirror: {backendRef: {name: m, port: 80}, percent: 101}}]",
            "[0].requestMirror.percent",
        ),
        (
            "[{type: RequestMirror, requestMirror: {backendRef: {name: m, port: 80}, fraction: {numerator: 101}}}]",
            "[0].requestMirror.fraction.numerator",
        ),
        (
            """[{type: RequestMirror,
              requestMirror: {backendRef: {name: m, port: 1}, percent: 1, fraction: {numerator: 1}}}]""",
            "[0].requestMirror",
        ),
        ("[{type: RequestMirror, requestMirror: {backendRef: {name: m}}}]", "[0].requestMirror.backendRef.port"),
        ("[{type: CORS, cors: {allowOrigins: ['*', 'https://a']}}]", "[0].cors.allowOrigins"),
        ("[{type: CORS, cors: {allowOrigins: [example.com]}}]", "[0].cors.allowOrigins[0]"),
        ("[{type: CORS, cors: {allowMethods: [get]}}]", "[0].cors.allowMethods[0]"),
        ("[{type: CORS, cors: {maxAge: 0}}]", "[0].cors.maxAge"),
    ],
)
def test_filters(filters, wrong):
    assert paths(route(rule(filters=filters))) == [f"filters{wrong}"]


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"backendRefs": "[{name: a}]"}, "backendRefs[0].port"),
        ({"backendRefs": "[{name: a, port: 70000}]"}, "backendRefs[0].port"),
        ({"backendRefs": "[{name: a, port: 80, weight: -1}]"}, "backendRefs[0].weight"),
        ({"backendRefs": "[{name: a, port: 80, weight: 1000001}]"}, "backendRefs[0].weight"),
        ({"backendRefs": "[{name: '', port: 80}]"}, "backendRefs[0].name"),
        ({"name": "'A b'"}, "name"),
        ({"timeouts": "{request: 1s, backendRequest: 2s}"}, "timeouts.backendRequest"),
        ({"timeouts": "{request: 1.5s}"}, "timeouts.request"),
        ({"timeouts": "{request: 10}"}, "timeouts.request"),
        ({"retry": "{codes: [399]}"}, "retry.codes[0]"),
        ({"retry": "{codes: [500, 500]}"}, "retry.codes[1]"),
        ({"sessionPersistence": "{cookieConfig: {lifetimeType: Permanent}}"}, "sessionPersistence"),
        ({"sessionPersistence": "{type: Header, cookieConfig: {}}"}, "sessionPersistence.cookieConfig"),
        (
            {"filters": "[{type: RequestRedirect, requestRedirect: {}}]", "backendRefs": "[{name: a, port: 80}]"},
            "backendRefs",
        ),
        (
            {
                "matches": "[{path: {value: /a}}, {path: {value: /b}}]",
                "filters": """[{type: URLRewrite,
                  urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}]""",
            },
            "filters",
        ),
        (
            {
                "matches": "[{path: {type: Exact, value: /a}}]",
                "backendRefs": """[{name: a, port: 80, filters: [{type: URLRewrite,
                  urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /x}}}]}]""",
            },
            "backendRefs[0].filters",
        ),
    ],
)
def test_rules(fields, wrong):
    assert paths(route(rule(**fields))) == [wrong]


@pytest.mark.parametrize(
    ("parents", "wrong"),
    [
        ("[{kind: Service}]", "spec.parentRefs[0].name"),
        ("[{group: 'A b', kind: Service, name: a}]", "spec.parentRefs[0].group"),
        ("[{group: '', kind: Service, name: a, port: 0}]", "spec.parentRefs[0].port"),
        ("[{name: a}, {name: a}]", "spec.parentRefs[1]"),
        ("[{name: a, port: 1}, {name: a}]", "spec.parentRefs[1]"),
        ("[{name: a, port: 1}, {name: a, port: 2}, {name: a, port: 1}]", "spec.parentRefs[2]"),
    ],
)
def test_parents(parents, wrong):
    assert paths(route(f"{{{BACKEND}}}", parents=parents)) == [wrong]


def test_limits_over_all_rules():
    many = ", ".join(["{path: {value: /a}}"] * 43)
    text = route("\n  - ".join([rule(matches=f"[{many}]")] * 3))
    assert paths(text) == ["spec.rules"]
    named = route("\n  - ".join([rule(name="one")] * 2))
    assert paths(named) == ["spec.rules[1].name"]
    assert paths(route(rule(), extra="  hostnames: [10.0.0.1]")) == ["spec.hostnames[0]"]


@pytest.mark.parametrize(
    ("fields", "warned"),
    [
        ({"filters": "[{type: ExtensionRef, extensionRef: {group: a.b, kind: C, name: d}}]"}, "filters[0].type"),
        ({"filters": "[{type: UrlRewrite}]"}, "filters[0].type"),
        (
            {"backendRefs": "[{group: inference.networking.k8s.io, kind: InferencePool, name: p}]"},
            "backendRefs[0].kind",
        ),
        ({"backendRefs": "[{name: a.default, port: 80}]"}, "backendRefs[0].name"),
        (
            {"backendRefs": "[{name: a, port: 80, filters: [{type: RequestRedirect, requestRedirect: {}}]}]"},
            "backendRefs[0].filters[0].type",
        ),
    ],
)
def test_what_cannot_be_honoured_is_told_and_the_route_is_kept(fields, warned):
    text = route(rule(**fields))
    assert paths(text) == []
    [(path, message)] = findings(text, Level.WARNING)
    assert path == warned
    assert "500" in message


def test_a_filter_with_a_slip_of_the_pen_is_told_what_it_may_mean():
    [(_, message)] = findings(route(rule(filters="[{type: UrlRewrite}]")), Level.WARNING)
    assert "did you mean URLRewrite?" in message


def test_problems_know_their_line():
    text = route("matches: [{path: {value: /a}}]\n    backendRefs:\n    - name: a\n      port: 80\n      weight: -1")
    [problem] = [p for resource in load_text(text, "r.yaml").resources for p in validate(resource)]
    assert (problem.file, problem.line, problem.path) == ("r.yaml", 12, "spec.rules[0].backendRefs[0].weight")


def test_a_mis_indented_match_is_refused():
    text = route("matches: []\n    backendRefs: [{name: a, port: 80}]\n    path: {value: /a}")
    assert [(path, "check the indentation" in message) for path, message in findings(text)] == [("path", True)]


def test_reference_grants():
    grant = """apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: g}
spec:
  from: %s
  to: [{group: "", kind: Service}]
"""
    good = "[{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}]"
    assert paths(grant % good) == []
    assert paths(grant % "[]") == ["spec.from"]
    assert paths(grant % "[{group: '', kind: HTTPRoute, namespace: 'A b'}]") == ["spec.from[0].namespace"]
    assert paths(grant % "[{group: '', kind: HTTPRoute}]") == ["spec.from[0].namespace"]
