"""Several sources in one mesh: who counts, what is said of it, and that one bad object hurts no other."""

from __future__ import annotations

import json

import pytest

from meshlib import Mesh
from meshlib.config.feed import Feed, Options
from meshlib.config.resources import load_dict, load_text
from meshlib.mesh_status import STATUS_LIMIT
from meshlib.model.snapshot import Client
from meshlib.providers import StaticProvider
from meshlib.providers.base import Facts
from tests.conftest import endpoint_slice, service


def route(name, status):
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name},
        "spec": {"hosts": [name], "http": [{"directResponse": {"status": status}}]},
    }


def answer(mesh, host):
    return (mesh.explain("GET", f"http://{host}/").details.get("direct_response") or {}).get("status")


def test_objects_files_and_providers_mix_and_the_first_counts(tmp_path):
    (tmp_path / "a.yaml").write_text(json.dumps(route("a", 202)))
    (tmp_path / "b.yaml").write_text(json.dumps(route("b", 202)))
    provider = StaticProvider(json.dumps(route("b", 203)), json.dumps(route("c", 203)), name="mine")
    (resource,) = load_dict(route("c", 204)).resources
    with Mesh(route("a", 201), tmp_path, provider, resource, telemetry=False) as mesh:
        assert [answer(mesh, host) for host in "abc"] == [201, 202, 203]
        status = mesh.status()
        assert [each["name"] for each in status.providers] == ["objects", f"file:{tmp_path}", "mine", "objects"]
        said = [(each.code, each.resource, each.file) for each in status.problems]
        assert said == [
            ("MESH001", "VirtualService a", str(tmp_path / "a.yaml")),
            ("MESH001", "VirtualService b", "mine[0]"),
            ("MESH001", "VirtualService c", "<object>"),
        ]


def test_the_same_object_twice_is_no_conflict():
    with Mesh(StaticProvider(route("a", 201)), StaticProvider(route("a", 201)), telemetry=False) as mesh:
        assert (answer(mesh, "a"), mesh.status().problems) == (201, ())


def feed(*providers):
    made = Feed(len(providers), Options(Client()))
    tell(made, *providers)
    return made


def tell(made, *providers):
    for number, (source, text) in enumerate(providers):
        loaded = load_text(text, source)
        made.take(number, Facts(tuple(loaded.resources), tuple(loaded.problems)))
    made.publish()


def in_force(made, kind):
    return [each.spec for each in made.resources if each.kind == kind]


def test_an_object_that_turns_bad_does_not_hand_over_to_a_later_source():
    one, other = json.dumps(route("a", 201)), json.dumps(route("a", 202))
    made = feed(("one", one), ("two", other))
    for broken in (json.dumps(route("a", 9)), one.replace('"hosts"', '"http"'), "{"):
        tell(made, ("one", broken), ("two", other))
        assert [spec.http[0].direct_response.status for spec in in_force(made, "VirtualService")] == [201]
    tell(made, ("one", ""), ("two", other))
    assert [spec.http[0].direct_response.status for spec in in_force(made, "VirtualService")] == [202]


def test_a_later_source_that_turns_bad_does_not_come_back_over_an_earlier_one():
    one, other = json.dumps(route("a", 201)), json.dumps(route("a", 202))
    made = feed(("one", ""), ("two", other))
    tell(made, ("one", one), ("two", "{"))
    assert [spec.http[0].direct_response.status for spec in in_force(made, "VirtualService")] == [201]


KINDS = {
    "Sidecar": (
        "networking.istio.io/v1",
        "{egress: [{hosts: ['./*']}]}",
        "{egress: [{hosts: 5}]}",
    ),
    "PeerAuthentication": ("security.istio.io/v1", "{mtls: {mode: STRICT}}", "{mtls: {mode: SOMETIMES}}"),
    "AuthorizationPolicy": ("security.istio.io/v1", "{rules: [{}]}", "{rules: 5}"),
    "RequestAuthentication": ("security.istio.io/v1", "{jwtRules: [{issuer: a}]}", "{jwtRules: 5}"),
    "Telemetry": ("telemetry.istio.io/v1", "{tracing: [{}]}", "{tracing: 5}"),
    "WorkloadGroup": ("networking.istio.io/v1", "{template: {serviceAccount: a}}", "{template: 5}"),
    "ProxyConfig": ("networking.istio.io/v1beta1", "{concurrency: 1}", "{concurrency: many}"),
    "ClientPolicy": ("meshlib.dev/v1alpha1", "{hosts: [a], hedge: {after: 50ms}}", "{hosts: [a], hedge: 5}"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_object_of_any_kind_stays_as_it_was_and_hurts_no_other(kind):
    version, good, bad = KINDS[kind]
    text = f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: %s\n---\n{json.dumps(route('a', 201))}"
    made = feed(("f.yaml", text % good))
    (before,) = in_force(made, kind)
    tell(made, ("f.yaml", (text % bad).replace("201", "202")))
    assert in_force(made, kind) == [before]
    assert in_force(made, "VirtualService")[0].http[0].direct_response.status == 202
    assert [(each.level.value, each.resource) for each in made.problems] == [("Error", f"{kind} x")]


def test_bad_settings_of_the_mesh_stay_as_they_were_and_are_told_of_as_long_as_they_stand():
    config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio}\ndata: {mesh: '%s'}\n---\n"
    rest = service("svc", 80) + "---\n%s"
    made = feed(("f", config % "{rootNamespace: mine}" + rest % endpoint_slice("svc", "v1", ("10.0.0.1", 80))))
    for address in ("10.0.0.1", "10.0.0.2"):
        slices = endpoint_slice("svc", "v1", (address, 80))
        tell(made, ("f", config % "{rootNamespace: [], connectTimeout: soon}" + rest % slices))
        assert made.universe.mesh.root_namespace == "mine"
        assert {(each.path, each.line) for each in made.problems} == {
            ("data.mesh.rootNamespace", 4),
            ("data.mesh.connectTimeout", 4),
        }


def test_two_kinds_of_one_name_in_two_groups_are_two_objects():
    text = "apiVersion: %s\nkind: Gateway\nmetadata: {name: g}\nspec: {%s}\n"
    istios = "servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example]}]"
    groups = (("networking.istio.io/v1", istios), ("gateway.networking.k8s.io/v1", "gatewayClassName: istio"))
    made = feed(("f", "---\n".join(text % group for group in groups)))
    assert len(in_force(made, "Gateway")) == 2
    assert not [each for each in made.problems if each.code == "MESH001"]


def test_status_tells_what_is_not_honoured_and_stays_bounded():
    unknown = {"apiVersion": "networking.istio.io/v1", "kind": "EnvoyFilter", "spec": {}}
    filters = [{**unknown, "metadata": {"name": f"f{number}"}} for number in range(STATUS_LIMIT + 5)]
    bad = [route(f"r{number}", 9) for number in range(STATUS_LIMIT + 7)]
    settings = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio"}}
    mesh_config = {**settings, "data": {"mesh": "ingressClass: other"}}
    with Mesh(mesh_config, *filters, *bad, telemetry=False) as mesh:
        mesh.ready()
        plain = json.loads(json.dumps(mesh.status().to_dict()))
    assert plain["totals"] == {"problems": STATUS_LIMIT + 7, "not_honoured": STATUS_LIMIT + 6}
    assert (len(plain["problems"]), len(plain["not_honoured"])) == (STATUS_LIMIT, STATUS_LIMIT)
    first, second = plain["not_honoured"][:2]
    assert (first["code"], first["path"], first["level"]) == ("MESH010", "data.mesh.ingressClass", "Info")
    assert (second["code"], second["resource"]) == ("MESH011", "EnvoyFilter f0")


def test_asking_for_the_status_again_costs_no_second_look_at_the_objects():
    made = feed(("f", json.dumps(route("a", 201))))
    assert made.not_honoured is made.not_honoured
