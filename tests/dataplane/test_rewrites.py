"""What becomes of path, authority and Location: each rule of Istio's and Envoy's texts on rewrites and redirects."""

from __future__ import annotations

import pytest
import yaml

from meshlib.config.compile.actions import Actions
from meshlib.config.compile.matches import translate
from meshlib.config.resources.virtual_service import HTTPMatchRequest, HTTPRoute
from meshlib.dataplane.reply import bind_rewrite, redirect_reply
from meshlib.dataplane.rewriting import rewrite
from meshlib.model.route import Redirect
from tests.config.test_hosts import obj, service, world
from tests.dataplane.worlds import request

ACTIONS = Actions(lambda to: f"outbound|80||{to.host}", lambda cluster, port: (), None)


def compiled(text, port=80):
    """(match, action) of a rule."""
    rule = HTTPRoute.model_validate(yaml.safe_load(text))
    match = translate(rule.match[0] if rule.match else HTTPMatchRequest())
    return match, ACTIONS.translate(rule, port)[0]


@pytest.mark.parametrize(
    ("match", "rewrite", "path", "wanted"),
    [
        ("{uri: {prefix: /foo}}", "{uri: /}", "/foo/bar", "//bar"),
        ("{uri: {prefix: /foo/}}", "{uri: /}", "/foo/bar", "/bar"),
        ("{uri: {prefix: /old}}", "{uri: /new}", "/oldx/y", "/newx/y"),
        ("{uri: {prefix: /}}", "{uri: /x}", "/a", "/xa"),
        ("{method: {exact: GET}}", "{uri: /x}", "/a", "/xa"),
        ("{uri: {exact: /foo}}", "{uri: /b}", "/foo", "/b"),
        ("{uri: {regex: '/foo.*'}}", "{uri: /b}", "/foo/bar", "/b"),
        ("{uri: {prefix: /}}", "{uriRegexRewrite: {match: o, rewrite: '0'}}", "/foo/boo", "/f00/b00"),
        (
            "{uri: {prefix: /}}",
            r"{uriRegexRewrite: {match: '^/service/([^/]+)(/.*)$', rewrite: '\2/instance/\1'}}",
            "/service/foo/v1/api",
            "/v1/api/instance/foo",
        ),
        ("{uri: {prefix: /}}", "{uriRegexRewrite: {match: '.*', rewrite: ''}}", "/a", "/a"),
        ("{uri: {prefix: /}}", "{authority: other}", "/a", "/a"),
    ],
)
def test_a_rewrite_replaces_what_matched(match, rewrite, path, wanted):
    conditions, action = compiled(f"{{match: [{match}], rewrite: {rewrite}, route: [{{destination: {{host: a}}}}]}}")
    change = bind_rewrite(action.path_rewrite, action.regex_rewrite, conditions.path)
    assert (change(path) if change is not None else path) == wanted


def located(redirect, url="http://b:8080/foo/bar?q=1", match="{uri: {prefix: /foo/}}", port=8080):
    conditions, action = compiled(f"{{match: [{match}], redirect: {redirect}}}", port)
    assert isinstance(action, Redirect)
    scheme, _, rest = url.partition("://")
    authority, slash, path = rest.partition("/")
    asked = request("GET", slash + path)
    asked.scheme, asked.authority = scheme, authority
    reply = redirect_reply(action, bind_rewrite(action.prefix_rewrite, None, conditions.path), asked)
    return reply.status, dict(reply.headers)[b"location"].decode()


@pytest.mark.parametrize(
    ("redirect", "wanted"),
    [
        ("{uri: /new}", "http://b:8080/new?q=1"),
        ("{uri: '/new?own=1'}", "http://b:8080/new?own=1"),
        ("{prefixRewrite: /new/}", "http://b:8080/new/bar?q=1"),
        ("{authority: other}", "http://other/foo/bar?q=1"),
        ("{authority: 'other:99'}", "http://other:99/foo/bar?q=1"),
        ("{scheme: https}", "https://b:8080/foo/bar?q=1"),
        ("{port: 81}", "http://b:81/foo/bar?q=1"),
        ("{authority: other, port: 81}", "http://other:81/foo/bar?q=1"),
        ("{derivePort: FROM_REQUEST_PORT}", "http://b:8080/foo/bar?q=1"),
        ("{authority: other, derivePort: FROM_REQUEST_PORT}", "http://other:8080/foo/bar?q=1"),
        ("{uri: /new, derivePort: FROM_PROTOCOL_DEFAULT}", "http://b:8080/new?q=1"),
    ],
)
def test_a_redirect_replaces_the_parts_that_it_names(redirect, wanted):
    assert located(redirect) == (301, wanted)


def test_default_ports_vanish_with_the_scheme_whose_they_were():
    assert located("{scheme: https}", "http://b:80/foo/")[1] == "https://b/foo/"
    assert located("{uri: /x}", "http://b:80/foo/")[1] == "http://b:80/x"
    assert located("{scheme: https, derivePort: FROM_REQUEST_PORT}", "http://b/foo/", port=80)[1] == "https://b:80/foo/"
    assert located("{scheme: https, derivePort: FROM_REQUEST_PORT}", "http://b/foo/", port=443)[1] == "https://b/foo/"


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_the_code_of_a_redirect_is_the_rules(code):
    assert located(f"{{uri: /x, redirectCode: {code}}}")[0] == code


def sent(rule, headers=None):
    """(path, authority, headers) of what leaves by the first rule of a service."""
    prepared = world(service("a"), obj("VirtualService", "r", f"{{hosts: [a], http: [{rule}]}}"), service("b"))
    asked = request("GET", "/foo?q=1", {"host": "a", "x-old": "1", **(headers or {})}, host="a")
    bound = prepared.host("a", 80).routes[0]
    target, pairs = rewrite(bound, asked, bound.destinations[0], prepared._rng)
    found = {}
    for name, value in pairs:
        found.setdefault(name.decode().lower(), []).append(value.decode())
    return target, found


TO_A = "destination: {host: a}"


def test_the_query_is_kept_and_the_old_path_is_told():
    target, found = sent(f"{{match: [{{uri: {{exact: /foo}}}}], rewrite: {{uri: /b}}, route: [{{{TO_A}}}]}}")
    assert (target, found["x-envoy-original-path"]) == ("/b?q=1", ["/foo?q=1"])


@pytest.mark.parametrize(
    ("rule", "wanted"),
    [
        (f"{{route: [{{{TO_A}}}]}}", "a"),
        (f"{{rewrite: {{authority: w}}, route: [{{{TO_A}}}]}}", "w"),
        (f"{{headers: {{request: {{set: {{Host: s}}}}}}, route: [{{{TO_A}}}]}}", "s"),
        (f"{{headers: {{request: {{set: {{':authority': s}}}}}}, route: [{{{TO_A}}}]}}", "s"),
        (f"{{headers: {{request: {{add: {{host: d}}}}}}, route: [{{{TO_A}}}]}}", "d"),
        (f"{{route: [{{{TO_A}, headers: {{request: {{set: {{host: own}}}}}}}}]}}", "own"),
        (
            f"{{headers: {{request: {{set: {{host: s}}}}}}, route: [{{{TO_A}, weight: 1, "
            "headers: {request: {set: {host: own}}}}, {destination: {host: b}, weight: 1}]}",
            "s",
        ),
        (
            f"{{route: [{{{TO_A}, weight: 1, headers: {{request: {{set: {{host: own}}}}}}}}, "
            "{destination: {host: b}, weight: 1}]}",
            "own",
        ),
    ],
)
def test_the_authority_is_the_rules_then_the_destinations_then_the_callers(rule, wanted):
    assert sent(rule)[1]["host"] == [wanted]


OPERATIONS = "{request: {set: {x-set: 'r', x-both: 'r'}, add: {x-add: 'r'}, remove: [x-old, x-dest]}}"
OWN = "headers: {request: {set: {x-both: 'd', x-dest: 'd'}, add: {x-add: 'd'}}}"


def test_with_one_destination_both_levels_run_as_one_and_the_destination_has_the_last_word():
    found = sent(f"{{headers: {OPERATIONS}, route: [{{{TO_A}, {OWN}}}]}}")[1]
    assert (found["x-set"], found["x-both"], found["x-add"]) == (["r"], ["d"], ["r", "d"])
    assert (found["x-dest"], "x-old" in found) == (["d"], False)


def test_with_several_destinations_the_destination_runs_first_and_the_rule_has_the_last_word():
    both = f"[{{{TO_A}, weight: 1, {OWN}}}, {{destination: {{host: b}}, weight: 1}}]"
    found = sent(f"{{headers: {OPERATIONS}, route: {both}}}")[1]
    assert (found["x-both"], found["x-add"], "x-dest" in found) == (["r"], ["d", "r"], False)


def test_a_direct_response_wins_over_a_route_and_a_redirect_over_both():
    rule = "{redirect: {uri: /x}, directResponse: {status: 200}, route: [{destination: {host: a}}]}"
    assert isinstance(compiled(rule)[1], Redirect)
    assert compiled(rule.replace("redirect: {uri: /x}, ", ""))[1].status == 200


def test_the_rewritten_authority_is_told_where_the_mesh_says_so():
    mesh = {"defaultConfig": {"proxyHeaders": {"xForwardedHost": {"enabled": True}}}}
    rule = "{hosts: [a], http: [{rewrite: {authority: w}, route: [{destination: {host: a}}]}]}"
    prepared = world(service("a"), obj("VirtualService", "r", rule), mesh=mesh)
    bound = prepared.host("a", 80).routes[0]
    headers = dict(rewrite(bound, request("GET", "/", host="a"), bound.destinations[0], prepared._rng)[1])
    assert (headers[b"Host"], headers[b"x-forwarded-host"]) == (b"w", b"svc")
