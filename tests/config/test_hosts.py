"""Which service and whose rules a name means: Istio's rules on names, visibility and scope, one by one."""

from __future__ import annotations

import random

import pytest
import yaml

from meshlib.config.compile import Universe
from meshlib.config.compile.domains import virtual_host_domains
from meshlib.config.resources import load_dict
from meshlib.config.resources.mesh_config import MeshConfig
from meshlib.dataplane import router
from meshlib.dataplane.explain import explain
from meshlib.dataplane.prepared import Prepared
from meshlib.dataplane.request import Request, request_of
from meshlib.dataplane.state import State
from meshlib.errors import NoRoute, UnknownHost
from meshlib.model.policy import TlsMode
from meshlib.model.snapshot import Client, Snapshot


def obj(kind, name, spec, namespace="default", api="networking.istio.io/v1", **metadata):
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace, **metadata},
        "spec": yaml.safe_load(spec),
    }


def service(name, ports="80", namespace="default", extra="", **metadata):
    listed = ", ".join(
        f"{{port: {port}, name: {name or 'http'}}}"
        for port, _, name in (each.partition(":") for each in ports.split(","))
    )
    return obj("Service", name, f"{{ports: [{listed}]{extra}}}", namespace, "v1", **metadata)


def entry(name, hosts, extra="", namespace="default", ports="[{number: 80, name: http, protocol: HTTP}]", **metadata):
    return obj("ServiceEntry", name, f"{{hosts: {hosts}, ports: {ports}{extra}}}", namespace, **metadata)


def rules(name, hosts, to, namespace="default", extra="", **metadata):
    spec = f"{{hosts: {hosts}, http: [{{route: [{{destination: {{host: {to}}}}}]}}]{extra}}}"
    return obj("VirtualService", name, spec, namespace, **metadata)


def sidecar(egress, namespace="default", extra="", name="default"):
    return obj("Sidecar", name, f"{{egress: {egress}{extra}}}", namespace)


def view(*objects, namespace="default", labels=None, mesh=None):
    resources = [load_dict(each).resources[0] for each in objects]
    universe = Universe(resources, mesh=MeshConfig.model_validate(mesh or {}))
    return universe.view(Client(namespace, labels or {}))


def world(*objects, **options):
    return Prepared(Snapshot(view(*objects, **options)), State(), 0.0, random.Random(1))


def decide(prepared, url, **headers):
    return explain(prepared, request_of("GET", url, headers))


def to(prepared, url, **headers):
    """The host that a request goes to; None when the mesh does not route it."""
    decision = decide(prepared, url, **headers)
    return decision.destinations[0].host if decision.action == "route" else None


A = service("a")
B = service("b")
FULL = "{}.default.svc.cluster.local".format

# Names --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "caller", "found"),
    [
        ("a", "default", True),
        ("a", "other", False),
        ("a.default", "other", True),
        ("a.default.svc", "other", True),
        ("a.default.svc.cluster.local", "other", True),
        ("a.default.svc.cluster.local.", "other", True),
        ("a.", "default", True),
        ("A.Default", "other", True),
        ("a.default.svc.cluster", "other", False),
    ],
)
def test_a_service_answers_to_the_names_that_its_callers_namespace_gives_it(name, caller, found):
    assert (to(world(A, namespace=caller), f"http://{name}/") is not None) is found


def test_the_port_of_a_host_header_is_ignored():
    assert to(world(A), "http://a/", Host="a:12345") == FULL("a")


@pytest.mark.parametrize("caller", ["default", "other"])
@pytest.mark.parametrize("headless", [False, True])
def test_every_listed_domain_leads_to_its_service(caller, headless):
    extra = ", clusterIP: None" if headless else ", clusterIP: 10.1.1.1"
    prepared = world(service("a", extra=extra), namespace=caller)
    addresses = () if headless else ("10.1.1.1",)
    for domain in virtual_host_domains(FULL("a"), f"{caller}.svc.cluster.local", addresses, headless=headless):
        found = prepared.host(domain.replace("*", "pod-0").removesuffix("."), 80)
        assert found is not None and found.host.service == FULL("a"), domain


def test_a_short_name_in_an_object_is_of_the_objects_namespace():
    prepared = world(service("a", namespace="far"), service("b", namespace="far"), rules("r", "[a]", "b", "far"))
    assert to(prepared, "http://a.far/") == "b.far.svc.cluster.local"


def test_a_name_with_any_dot_is_not_short_in_objects():
    prepared = world(A, B, rules("r", "[a]", "b.default"))
    decision = decide(prepared, "http://a/")
    assert (decision.flag, decision.destinations[0].host) == ("NC", "b.default")


def test_a_real_name_wins_over_a_short_one():
    prepared = world(A, entry("e", "[a.default]", ", resolution: DNS"))
    assert to(prepared, "http://a.default/") == "a.default"
    assert to(prepared, "http://a/") == FULL("a")


def test_a_name_that_only_rules_know_wins_over_a_short_one_and_loses_to_earlier_rules():
    one = rules("one", "[a.default]", "b", creationTimestamp="2020-01-02T00:00:00Z")
    prepared = world(A, B, one)
    assert (to(prepared, "http://a.default/"), to(prepared, "http://a/")) == (FULL("b"), FULL("a"))
    owner = rules("owner", "[a]", "a", creationTimestamp="2020-01-01T00:00:00Z")
    assert to(world(A, B, one, owner), "http://a.default/") == FULL("a")


# Wildcards ----------------------------------------------------------------------------------------------------------


def test_wildcards_match_any_depth_and_not_the_bare_domain():
    prepared = world(entry("e", '["*.foo.com"]'))
    assert [to(prepared, f"http://{name}/") for name in ("x.foo.com", "x.y.foo.com", "foo.com")] == [
        "*.foo.com",
        "*.foo.com",
        None,
    ]


def test_the_longer_wildcard_and_the_exact_name_win():
    prepared = world(entry("one", '["*.com"]'), entry("two", '["*.foo.com"]'), entry("three", "[x.foo.com]"))
    assert [to(prepared, f"http://{name}/") for name in ("x.foo.com", "y.foo.com", "y.com")] == [
        "x.foo.com",
        "*.foo.com",
        "*.com",
    ]


def test_an_exact_host_of_rules_beats_a_wildcard_whatever_the_age():
    wild = rules("wild", '["*.default.svc.cluster.local"]', "b", creationTimestamp="2020-01-01T00:00:00Z")
    exact = rules("exact", "[a]", "a", creationTimestamp="2021-01-01T00:00:00Z")
    assert to(world(A, B, wild, exact), "http://a/") == FULL("a")
    assert to(world(A, B, wild), "http://a/") == FULL("b")


def test_a_destination_is_looked_up_by_its_very_name():
    prepared = world(A, entry("e", '["*.foo.com"]'), rules("r", "[a]", "x.foo.com"))
    assert decide(prepared, "http://a/").flag == "NC"


# Visibility ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("export", "sees"),
    [
        ('["*"]', {"default", "far"}),
        ('["."]', {"far"}),
        ("[far]", {"far"}),
        ("[default]", {"default"}),
        ('["~"]', set()),
        ("[]", {"default", "far"}),
    ],
)
def test_export_to_says_who_sees_a_service(export, sees):
    given = entry("e", "[a.com]", f", exportTo: {export}, resolution: DNS", "far")
    assert {n for n in ("default", "far") if to(world(given, namespace=n), "http://a.com/")} == sees


def test_the_mesh_says_who_sees_what_names_nobody():
    given, mesh = entry("e", "[a.com]", ", resolution: DNS", "far"), {"defaultServiceExportTo": ["."]}
    assert to(world(given, mesh=mesh), "http://a.com/") is None
    assert to(world(given, namespace="far", mesh=mesh), "http://a.com/") == "a.com"


def test_a_kubernetes_service_says_by_annotation_who_sees_it():
    hidden = service("a", namespace="far", annotations={"networking.istio.io/exportTo": "."})
    assert to(world(hidden), "http://a.far/") is None
    assert to(world(hidden, namespace="far"), "http://a.far/") is not None


def test_of_one_host_in_several_namespaces_ones_own_counts_then_kubernetes_then_the_oldest():
    old = entry("e", "[x.com]", ", resolution: DNS", "old", creationTimestamp="2020-01-01T00:00:00Z")
    new = entry("e", "[x.com]", ", resolution: DNS", "new", creationTimestamp="2021-01-01T00:00:00Z")
    for caller, wanted in (("default", "old"), ("new", "new"), ("old", "old")):
        found = view(old, new, namespace=caller).seen.named("x.com")
        assert found is not None and found.namespace == wanted
    kubernetes = service("x", namespace="far")
    squatter = entry("e", "[x.far.svc.cluster.local]", ", resolution: DNS", creationTimestamp="2019-01-01T00:00:00Z")
    found = view(kubernetes, squatter, namespace="third").seen.named("x.far.svc.cluster.local")
    assert found is not None and found.kubernetes


def test_entries_of_one_host_unite_their_ports_only_when_they_are_alike():
    one = entry("one", "[x.com]", ", resolution: DNS")
    other = entry("two", "[x.com]", ", resolution: DNS", ports="[{number: 81, name: more, protocol: HTTP}]")
    assert [to(world(one, other), f"http://x.com:{port}/") for port in (80, 81)] == ["x.com", "x.com"]
    unlike = entry("two", "[x.com]", ", resolution: NONE", ports="[{number: 81, name: more, protocol: HTTP}]")
    assert [to(world(one, unlike), f"http://x.com:{port}/") for port in (80, 81)] == ["x.com", None]


# Which VirtualService -----------------------------------------------------------------------------------------------

OLD, NEW = "2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z"


def test_private_rules_come_first_then_those_exported_by_name_then_public_ones():
    public = rules("p", "[x.com]", "p.com", "far", creationTimestamp=OLD)
    named = rules("n", "[x.com]", "n.com", "far", ", exportTo: [default]", creationTimestamp=NEW)
    private = rules("o", "[x.com]", "o.com", "default", ', exportTo: ["."]', creationTimestamp=NEW)
    order = [public, named, private]
    for wanted in ("o.com", "n.com", "p.com"):
        assert decide(world(*order), "http://x.com/").destinations[0].host == wanted
        order.pop()


def test_public_rules_of_ones_own_namespace_have_no_precedence():
    theirs = rules("t", "[x.com]", "t.com", "far", creationTimestamp=OLD)
    own = rules("o", "[x.com]", "o.com", creationTimestamp=NEW)
    assert decide(world(theirs, own), "http://x.com/").destinations[0].host == "t.com"


def test_rules_that_yield_nothing_for_this_port_leave_the_host_to_the_next():
    nothing = obj(
        "VirtualService",
        "one",
        "{hosts: [a], http: [{match: [{port: 81}], route: [{destination: {host: b}}]}]}",
        creationTimestamp=OLD,
    )
    assert to(world(A, B, nothing), "http://a/") == FULL("a")
    assert to(world(A, B, nothing, rules("two", "[a]", "b", creationTimestamp=NEW)), "http://a/") == FULL("b")


def test_the_first_rules_own_the_host_even_if_none_of_them_matches():
    first = obj(
        "VirtualService",
        "one",
        "{hosts: [a], http: [{match: [{uri: {prefix: /x}}], route: [{destination: {host: b}}]}]}",
        creationTimestamp=OLD,
    )
    prepared = world(A, B, first, rules("two", "[a]", "b", creationTimestamp=NEW))
    assert (decide(prepared, "http://a/").flag, to(prepared, "http://a/x")) == ("NR", FULL("b"))
    with pytest.raises(NoRoute) as caught:
        router.begin(prepared, request_of("GET", "http://a/", {}), 0.0, random.Random(1))
    assert caught.value.status == 404


def test_rules_for_tcp_alone_do_not_touch_http_ports():
    only = obj("VirtualService", "r", "{hosts: [a], tcp: [{route: [{destination: {host: b}}]}]}")
    assert to(world(A, B, only), "http://a/") == FULL("a")


def test_hosts_outside_the_registry_are_served_on_port_80():
    prepared = world(A, rules("r", "[nowhere.com]", "a"))
    assert (to(prepared, "http://nowhere.com/"), to(prepared, "http://nowhere.com:8080/")) == (FULL("a"), None)


def test_hosts_outside_the_registry_are_served_on_the_ports_of_the_rules_services():
    prepared = world(service("a", "7777"), rules("r", "[a, nowhere.com]", "a"))
    assert to(prepared, "http://nowhere.com:7777/") == FULL("a")


def test_a_wildcard_host_of_rules_that_has_services_serves_nobody_else():
    prepared = world(A, B, rules("r", '["*.default.svc.cluster.local"]', "b"))
    assert to(prepared, "http://nobody.default.svc.cluster.local/") is None
    assert to(world(A, rules("r", '["*.nowhere.com"]', "a")), "http://x.nowhere.com/") == FULL("a")


# Sidecars -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hosts", "seen"),
    [
        ('["*/*"]', {"a", "b", "a.far"}),
        ('["./*"]', {"a", "b"}),
        ('["far/*"]', {"a.far"}),
        ('["*/a.default.svc.cluster.local"]', {"a"}),
        ('["*/*.default.svc.cluster.local"]', {"a", "b"}),
        ('["*/*", "~./b.default.svc.cluster.local"]', {"a", "a.far"}),
        ('["*/*", "~far/*"]', {"a", "b"}),
        ('["*/*", "~/a.default.svc.cluster.local"]', {"b", "a.far"}),
        ('["~/*"]', set()),
    ],
)
def test_a_sidecar_imports_what_its_hosts_name(hosts, seen):
    prepared = world(A, B, service("a", namespace="far"), sidecar(f"[{{hosts: {hosts}}}]"))
    assert {name for name in ("a", "b", "a.far") if to(prepared, f"http://{name}/")} == seen


def test_the_sidecar_of_ones_labels_comes_first_then_the_namespaces_then_the_roots():
    root = sidecar('[{hosts: ["./*"]}]', "istio-system")
    own = sidecar('[{hosts: ["*/b.default.svc.cluster.local"]}]')
    chosen = sidecar(
        '[{hosts: ["*/a.default.svc.cluster.local"]}]', extra=", workloadSelector: {labels: {app: x}}", name="x"
    )

    def seen(*objects, **options):
        prepared = world(A, B, service("c", namespace="far"), *objects, **options)
        return {name for name in ("a.default", "b.default", "c.far") if to(prepared, f"http://{name}/")}

    assert seen(root, own, chosen, labels={"app": "x"}) == {"a.default"}
    assert seen(root, own, chosen) == {"b.default"}
    assert seen(root) == {"a.default", "b.default"}
    assert seen(root, namespace="far") == {"c.far"}


def test_a_listener_on_a_port_decides_alone_about_that_port():
    egress = (
        '[{port: {number: 80, protocol: HTTP, name: h}, hosts: ["./a.default.svc.cluster.local"]}, {hosts: ["*/*"]}]'
    )
    prepared = world(service("a", "80,81:http-2"), service("b", "80,81:http-2"), sidecar(egress))
    found = {(name, port): to(prepared, f"http://{name}:{port}/") for name in "ab" for port in (80, 81)}
    assert found == {("a", 80): FULL("a"), ("b", 80): None, ("a", 81): FULL("a"), ("b", 81): FULL("b")}


def test_a_unix_socket_is_no_listener_for_ports():
    egress = '[{port: {number: 0, protocol: HTTP, name: h}, bind: "unix:///x", hosts: ["*/*"]}]'
    assert to(world(A, sidecar(egress)), "http://a/") is None


def test_an_http_proxy_is_reached_by_every_port():
    egress = '[{port: {number: 3128, protocol: HTTP_PROXY, name: h}, hosts: ["*/*"]}]'
    assert to(world(A, sidecar(egress)), "http://a/") == FULL("a")


def test_services_that_imported_rules_name_can_be_reached_through_them_alone():
    prepared = world(A, B, rules("r", "[a]", "b"), sidecar('[{hosts: ["./a.default.svc.cluster.local"]}]'))
    assert (to(prepared, "http://a/"), to(prepared, "http://b/")) == (FULL("b"), None)


def test_rules_come_in_when_any_of_their_hosts_is_imported_and_count_for_all_of_them():
    given = rules("r", "[a, b]", "b")
    prepared = world(A, B, given, sidecar('[{hosts: ["./a.default.svc.cluster.local"]}]'))
    assert to(prepared, "http://a/") == FULL("b")
    far = rules("r", "[a.default.svc.cluster.local]", "b.default.svc.cluster.local", "far")
    assert to(world(A, B, far, sidecar('[{hosts: ["./*"]}]')), "http://a/") == FULL("a")


def test_an_object_without_egress_imports_everything_and_its_policy_counts():
    given = obj("Sidecar", "default", "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}")
    prepared = world(A, given)
    assert (to(prepared, "http://a/"), decide(prepared, "http://nobody/").action) == (FULL("a"), "none")


# Unknown hosts ------------------------------------------------------------------------------------------------------


def begin(prepared, url):
    return router.begin(prepared, request_of("GET", url, {}), 0.0, random.Random(1))


def test_unknown_hosts_pass_by_default_and_unknown_ports_of_known_ones_too():
    assert begin(world(A), "http://nobody/") is None
    assert begin(world(A), "http://a:81/") is None


@pytest.mark.parametrize("policy", ["{}", "{mode: REGISTRY_ONLY}"])
def test_registry_only_refuses_with_the_sidecars_status(policy):
    prepared = world(A, obj("Sidecar", "default", f"{{outboundTrafficPolicy: {policy}}}"))
    for url in ("http://nobody/", "http://a:81/"):
        with pytest.raises(UnknownHost) as caught:
            begin(prepared, url)
        assert caught.value.status == 502


def test_the_meshs_policy_counts_where_no_sidecar_has_one():
    mesh = {"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}
    assert decide(world(A, mesh=mesh), "http://nobody/").action == "none"
    own = obj("Sidecar", "default", "{outboundTrafficPolicy: {mode: ALLOW_ANY}}")
    assert decide(world(A, own, mesh=mesh), "http://nobody/").action == "passthrough"


def test_an_egress_proxy_takes_what_nobody_knows():
    target = f"{{host: {FULL('a')}, port: {{number: 80}}}}"
    proxy = f"{{outboundTrafficPolicy: {{mode: ALLOW_ANY, egressProxy: {target}}}}}"
    prepared = world(A, B, obj("Sidecar", "default", proxy))
    decision = decide(prepared, "http://nobody:99/")
    assert [(d.host, d.port) for d in decision.destinations] == [(FULL("a"), 80)]
    assert (decision.details["retries"], decision.details["timeout_s"]) == (None, None)
    assert to(prepared, "http://b/") == FULL("b")


def test_allow_any_dynamic_dns_dials_the_name_and_wraps_tls_where_it_says_so():
    assert decide(world(mesh={"outboundTrafficPolicy": {"mode": "ALLOW_ANY_DYNAMIC_DNS"}}), "http://x/").action == (
        "passthrough"
    )
    mesh = {"outboundTrafficPolicy": {"mode": "ALLOW_ANY_DYNAMIC_DNS", "tls": {"mode": "SIMPLE"}}}
    call = begin(world(mesh=mesh), "http://x.com/")
    assert call is not None and call.cluster is not None and call.cluster.tls.mode is TlsMode.SIMPLE
    assert call.next_attempt(0.0).endpoint.key == "x.com:80"


# Aliases, addresses, detected ports, members ------------------------------------------------------------------------

ALIAS = obj("Service", "alias", "{type: ExternalName, externalName: a.default.svc.cluster.local}", api="v1")


def test_an_external_name_of_a_known_service_is_that_service_with_its_rules():
    prepared = world(A, B, ALIAS)
    assert [to(prepared, f"http://{name}/") for name in ("alias", "alias.default", FULL("alias"))] == [FULL("a")] * 3
    assert to(world(A, B, ALIAS, rules("r", "[a]", "b")), "http://alias/") == FULL("b")
    assert to(world(A, B, ALIAS, rules("r", "[b]", "alias")), "http://b/") == FULL("a")


def test_rules_for_an_external_name_count_for_its_full_name_on_port_80():
    prepared = world(A, B, ALIAS, rules("r", "[alias]", "b"))
    assert (to(prepared, f"http://{FULL('alias')}/"), to(prepared, "http://alias/")) == (FULL("b"), FULL("a"))


def test_virtual_ips_lead_to_their_service():
    prepared = world(
        entry("e", "[x.com]", ", resolution: DNS, addresses: [10.1.0.1]"), service("k", extra=", clusterIP: 10.1.0.2")
    )
    assert [to(prepared, f"http://10.1.0.{n}/") for n in (1, 2, 3)] == ["x.com", FULL("k"), None]


def test_allocated_virtual_ips_count_like_written_ones():
    given = entry("e", "[x.com]", ", resolution: DNS")
    given["status"] = {"addresses": [{"value": "240.240.0.1", "host": "x.com"}, {"value": "240.240.0.2", "host": "y"}]}
    assert [to(world(given), f"http://240.240.0.{n}/") for n in (1, 2)] == ["x.com", None]


def test_an_address_in_a_range_leads_to_its_service_where_the_address_alone_decides():
    extra = ", resolution: NONE, addresses: [10.2.0.0/16]"
    ports = "[{number: 80, name: http, protocol: HTTP}, {number: 81, name: auto}]"
    prepared = world(entry("e", "[x.com]", extra, ports=ports))
    assert [to(prepared, f"http://10.2.3.4:{port}/") for port in (80, 81)] == [None, "x.com"]


def test_a_port_of_undeclared_protocol_is_routed_by_the_dialled_name():
    prepared = world(service("a", "80:auto"), B)

    def asked(dialled, host):
        found = explain(prepared, Request("GET", "http", host, 80, "/", dialled=dialled))
        return found.destinations[0].host if found.destinations else None

    assert asked("a", "whatever.com") == FULL("a")
    assert asked("b", FULL("b")) == FULL("b")
    assert asked("nobody", "b") == FULL("b")


def test_a_member_of_a_headless_service_is_reached_by_dialling_it():
    headless = service("db", extra=", clusterIP: None")
    slices = obj("EndpointSlice", "db", "{}", api="discovery.k8s.io/v1", labels={"kubernetes.io/service-name": "db"})
    del slices["spec"]
    slices |= {"addressType": "IPv4", "ports": [{"name": "http", "port": 80}]}
    slices["endpoints"] = [{"addresses": [f"10.0.0.{n}"], "hostname": f"db-{n}"} for n in range(3)]
    prepared = world(headless, slices)

    def reached(dialled, host):
        found = explain(prepared, Request("GET", "http", host, 80, "/", dialled=dialled))
        return [key for d in found.destinations for key in d.endpoints]

    assert reached("db-1.db", "db-1.db") == ["10.0.0.1:80"]
    assert reached("db-1.db", "db") == ["10.0.0.1:80"]
    assert len(reached("db", "db-1.db")) == 3
    assert reached("db-9.db", "db-9.db") == []
