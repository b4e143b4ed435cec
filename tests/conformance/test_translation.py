"""VirtualServices in, rules out: delegates merged, and routes as Envoy's fields would have them."""

from __future__ import annotations

import re

import pytest

from meshlib.config.compile import Universe
from meshlib.config.compile.delegates import PlacedRule, with_delegates
from meshlib.config.resources import load_dict, load_file
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.config.resources.virtual_service import HTTPRoute
from meshlib.dataplane.reply import bind_rewrite
from meshlib.model.match import MatchKind
from meshlib.model.route import DirectResponse, Forward, Redirect
from meshlib.model.snapshot import Client
from tests.conftest import data_cases

# Delegates ----------------------------------------------------------------------------------------------------------


def virtual_service(name, http, hosts=(), **spec):
    metadata = {"name": name, "namespace": "default"}
    given = {"hosts": list(hosts), "http": http, **spec}
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": metadata,
        "spec": given,
    }


def merged(objects, export=("*",)):
    """(hosts, rules) of each object with hosts, its delegates' rules in place."""
    resources = [load_dict(each).resources[0] for each in objects]
    delegates = {(r.metadata.namespace, r.metadata.name): r for r in resources if not r.spec.hosts}
    return [
        (
            list(r.spec.hosts),
            [
                plain(each.rule)
                for each in with_delegates(r, r.metadata.namespace, delegates, export)
                if isinstance(each, PlacedRule)
            ],
        )
        for r in resources
        if r.spec.hosts
    ]


def plain(rule):
    return rule.model_dump(exclude_defaults=True, exclude={"delegate"})


def rules(given):
    return [plain(HTTPRoute.model_validate(each)) for each in given]


SOMEWHERE = [{"destination": {"host": "somewhere"}}]


def with_matches(root, own):
    """The matches of a delegate's rule below a root rule with these; None when the rule goes."""
    rule = {"match": root, "delegate": {"name": "own"}}
    objects = [virtual_service("root", [rule], ["a.org"]), virtual_service("own", [{"match": own, "route": SOMEWHERE}])]
    ((_, found),) = merged(objects)
    return found[0].get("match", []) if found else None


@pytest.mark.parametrize("case", data_cases("model/virtualservice_delegate.json"))
def test_delegates(case):
    check = case["check"]
    if check == "merge_virtual_services":
        wanted = [(each["spec"]["hosts"], rules(each["spec"]["http"])) for each in case["expect"]]
        assert merged(case["input"], case["default_export_to"]) == wanted
    elif check == "merge_http_routes":
        root = virtual_service("root", [case["root"]], ["a.org"])
        ((_, found),) = merged([root, virtual_service(case["root"]["delegate"]["name"], case["delegate"])])
        assert found == rules(case["expect"])
    elif check == "merge_http_matches":
        wanted = case["expect"] and rules([{"match": case["expect"]}])[0]["match"]
        assert with_matches(case["root"], case["delegate"]) == wanted
    else:
        assert (with_matches([case["root"]], [case["leaf"]]) is None) is case["expect"]


# Routes as Envoy's fields ---------------------------------------------------------------------------------------------


def as_envoy(route):
    """The fields of an Envoy route that the cases ask for."""
    action, made = (
        route.action,
        {"match": _match(route.match), "response_headers_to_add": _added(route.response_headers)},
    )
    if isinstance(action, Redirect):
        codes = {301: "MOVED_PERMANENTLY", 302: "FOUND", 303: "SEE_OTHER", 307: "TEMPORARY_REDIRECT"}
        paths = {"pathRedirect": action.path, "prefixRewrite": action.prefix_rewrite}
        made["redirect"] = {
            "response_code": {**codes, 308: "PERMANENT_REDIRECT"}.get(action.status),
            "host_redirect": action.authority,
            "path_rewrite_specifier": {name: value for name, value in paths.items() if value is not None},
        }
    elif isinstance(action, DirectResponse):
        body = {"specifier": {"inline_string": action.body.decode()}}
        made["direct_response"] = {"status": action.status, "body": body}
    else:
        made["route"] = _forward(route, action)
    return made


def _match(match):
    headers = [
        {
            "name": header.name,
            "invert_match": header.invert,
            "present_match": header.value is None,
            "treat_missing_header_as_empty": header.missing_as_empty,
            "string_match": _text(header.value),
        }
        for header in match.headers
    ]
    query = [{"name": each.name, "string_match": _text(each.value)} for each in match.query]
    return {"headers": headers, "query_parameters": query, **_text(match.path)}


def _text(match):
    return {"safe_regex": {"regex": match.value}} if match is not None and match.kind is MatchKind.REGEX else {}


def _added(ops):
    actions = ((ops.set, "OVERWRITE_IF_EXISTS_OR_ADD"), (ops.add, "APPEND_IF_EXISTS_OR_ADD"))
    return [
        {"header": {"key": key, "value": value}, "append_action": action, "appendAction": action}
        for pairs, action in actions
        for key, value in pairs
    ]


def _forward(route, action: Forward):
    clusters = [
        {
            "request_headers_to_add": _plain(_added(each.request_headers)),
            "request_headers_to_remove": list(each.request_headers.remove),
            "response_headers_to_add": _plain(_added(each.response_headers)),
            "response_headers_to_remove": list(each.response_headers.remove),
            "host_rewrite_literal": each.host_rewrite,
        }
        for each in action.clusters
    ]
    regex = action.regex_rewrite
    return {
        "timeout": {"seconds": action.timeout or 0},
        "weighted_clusters": {"clusters": clusters},
        "host_rewrite_specifier": {"hostRewriteLiteral": action.host_rewrite},
        "prefix_rewrite": action.path_rewrite,
        "regex_rewrite": regex and {"pattern": {"regex": regex.pattern}, "substitution": regex.substitution},
        "append_x_forwarded_host": action.append_forwarded_host,
    }


def _plain(added):
    return [{key: value for key, value in each.items() if key != "append_action"} for each in added]


def at(made, path):
    """The value at ``routes[0].match.headers[0].name``; ``len:`` counts."""
    value = made
    for name, number in re.findall(r"(\w+)(?:\[(\d+)\])?", path.removeprefix("len:")):
        value = value.get(name) if isinstance(value, dict) else None
        value = value[int(number)] if number and value is not None else value
    return len(value or ()) if path.startswith("len:") else value


SOME_PATHS = ("", "/", "/x", "/x/y", "/x/")


def _same_rewrite(route, wanted):
    """Whether a rewrite does to paths what the regular expression would that istiod writes for it."""
    assert route.match.path.kind is MatchKind.SEGMENT_PREFIX
    rewritten = bind_rewrite(route.action.path_rewrite, None, route.match.path)
    for rest in SOME_PATHS:
        path = route.match.path.value + rest
        expected = re.sub(wanted["pattern"]["regex"], wanted["substitution"], path, count=1)
        assert rewritten(path) == expected, path


@pytest.mark.parametrize("case", data_cases("route/translation.json"))
def test_translation(case):
    given = case["virtual_service"]
    given = {**given, "metadata": {"namespace": "default", **given["metadata"]}}
    mesh = MeshConfig.model_validate(case.get("mesh_config") or {})
    universe = Universe(load_dict(given).resources, mesh=mesh)
    (host,) = given["spec"]["hosts"]
    routes = universe.view(Client("default")).virtual_host(host, 80).routes
    made = {"routes": [as_envoy(route) for route in routes]}
    for path, operator, wanted in case["asserts"]:
        if "dynamic_metadata" in path or (path == "len:routes[0].match.headers" and not wanted):
            _claims(routes[0], path, wanted)
        elif path.endswith("route.regex_rewrite") and routes[0].action.regex_rewrite is None:
            _same_rewrite(routes[0], wanted)
        else:
            _compare(at(made, path), operator, wanted, path)


def _compare(got, operator, wanted, path):
    if path.endswith("headers[0].name"):
        got, wanted = got.lower(), wanted.lower()
    if operator == "not_is_null":
        assert got is not None, path
    else:
        assert operator == "equals" and got == wanted, (path, got)


def _claims(route, path, wanted):
    """Claims of a token are conditions that no header can meet; what must not be claimed holds."""
    claims = [header for header in route.match.headers if header.name.startswith("@request.auth.claims")]
    if path.startswith("len:"):
        assert len(route.match.headers) - len(claims) == wanted
    elif path.endswith(".invert"):
        number = int(re.search(r"\[(\d)\]\.invert", path)[1])
        assert claims[number].invert is wanted


# Samples ------------------------------------------------------------------------------------------------------------


def test_every_sample_loads_and_compiles(shared_data):
    files = sorted((shared_data / "samples").rglob("*.yaml"))
    assert files
    for file in files:
        loaded = load_file(file)
        view = Universe(loaded.resources).view(Client("default"))
        for host, port in view.listing():
            found = view.virtual_host(host, port)
            for route in found.routes if found is not None else ():
                if isinstance(route.action, Forward):
                    for to in route.action.clusters:
                        view.cluster(to.cluster)
                        view.assignment(to.cluster)
            view.tcp_host(host, port)
