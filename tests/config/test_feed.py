"""The feed reuses what did not change: one object's change costs that object."""

from __future__ import annotations

import pytest

from meshlib.config import merge
from meshlib.config.compile import registry, virtual_services
from meshlib.config.feed import Feed, Options
from meshlib.config.resources import load_text
from meshlib.config.resources.reload import Source
from meshlib.model.problem import Level
from meshlib.model.snapshot import Client
from meshlib.providers import Facts
from tests.conftest import endpoint_slice, service

RULE = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [{name}]
  http: [{{directResponse: {{status: {status}}}}}]
"""
NAMES = [f"s{number}" for number in range(30)]


class Fed:
    """A feed of one text that is edited."""

    def __init__(self):
        self.source = Source("mesh.yaml")
        self.feed = Feed(1, Options(Client()))

    def publish(self, *parts):
        loaded = self.source.read("---\n".join(parts).encode())
        self.feed.take(0, Facts(tuple(loaded.resources), tuple(loaded.problems)))
        return self.feed.publish()


def texts(changed=None, status=200):
    rules = [RULE.format(name=name, status=status if name == changed else 200) for name in NAMES]
    return [*map(service, NAMES), *(endpoint_slice(name, "v1", ("10.0.0.1", 80)) for name in NAMES), *rules]


@pytest.fixture
def asked(monkeypatch):
    """Which objects were checked, which made into rules, which into services."""
    seen = {"validate": [], "_rules": [], "of_kubernetes": []}
    for owner, name, pick in (
        (merge, "validate", 0),
        (virtual_services, "_rules", 0),
        (registry, "of_kubernetes", 0),
    ):
        real = getattr(owner, name)

        def counted(*given, real=real, name=name, pick=pick, **named):
            seen[name].append(given[pick].metadata.name)
            return real(*given, **named)

        monkeypatch.setattr(owner, name, counted)
    return seen


def test_a_changed_rule_is_checked_and_indexed_alone(asked):
    fed = Fed()
    first = fed.publish(*texts())
    assert len(asked["validate"]) == 90
    for found in asked.values():
        found.clear()
    second = fed.publish(*texts("s7", 201))
    assert asked == {"validate": ["s7"], "_rules": ["s7"], "of_kubernetes": []}
    assert second.routing is not first.routing
    assert second.virtual_host("s7", 9080).routes[0].action.status == 201
    assert second.virtual_host("s8", 9080).routes[0].action.status == 200


def test_objects_that_only_moved_are_not_checked_again(asked):
    fed = Fed()
    fed.publish(*texts())
    for found in asked.values():
        found.clear()
    assert fed.publish("# a comment\n\n" + texts()[0], *texts()[1:]) is None
    assert asked["validate"] == ["s0"], "its own text changed"
    assert asked["_rules"] == asked["of_kubernetes"] == []


def test_changed_endpoints_touch_no_rule(asked):
    fed = Fed()
    first = fed.publish(*texts())
    for found in asked.values():
        found.clear()
    parts = texts()
    parts[30] = endpoint_slice("s0", "v1", ("10.0.0.9", 80))
    second = fed.publish(*parts)
    assert second.routing is first.routing
    assert asked == {"validate": ["s0-v1-0"], "_rules": [], "of_kubernetes": []}
    (group,) = second.assignment("outbound|9080||s0.default.svc.cluster.local")
    assert [endpoint.address for endpoint in group.endpoints] == ["10.0.0.9"]


def test_rules_that_delegate_follow_their_delegate():
    root = """apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: root}
spec: {hosts: [s0], http: [{delegate: {name: lent}}]}
"""
    lent = RULE.format(name="lent", status=201).replace("hosts: [lent]", "hosts: []")
    fed = Fed()
    fed.publish(service("s0"), root, lent)
    after = fed.publish(service("s0"), root, lent.replace("201", "202"))
    assert after.virtual_host("s0", 9080).routes[0].action.status == 202


def test_findings_are_told_at_every_publication_with_their_line_now():
    bad = RULE.format(name="bad", status=9)
    fed = Fed()
    fed.publish(bad)
    (before,) = fed.feed.problems
    fed.publish(service("s0"), bad)
    (after,) = fed.feed.problems
    assert after.line == before.line + service("s0").count("\n") + 1


SETTINGS = """apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    outboundTrafficPolicy: {mode: %s}
"""


@pytest.mark.parametrize(
    "wrong",
    ["  mesh: |\n    a: *b\n", "  mesh: |\n    [1]\n", "  mesh: |\n    connectTimeout: soon\n", "  mesh: '[[[['\n"],
)
def test_wrong_mesh_settings_leave_those_before_in_force_and_are_told_until_mended(wrong):
    fed = Fed()
    first = fed.publish(SETTINGS % "REGISTRY_ONLY")
    assert first.outbound_policy.value == "REGISTRY_ONLY"
    text = SETTINGS.partition("  mesh")[0] + wrong
    fed.publish(text)
    fed.publish(text, service("s0"))
    (problem,) = fed.feed.problems
    assert problem.level is Level.ERROR
    assert problem.path.startswith("data.mesh")
    assert fed.feed.snapshot.outbound_policy.value == "REGISTRY_ONLY"
    fed.publish(SETTINGS % "ALLOW_ANY")
    assert fed.feed.problems == ()
    assert fed.feed.snapshot.outbound_policy.value == "ALLOW_ANY"


@pytest.mark.parametrize("spec", ["data: [1]", "data: {}", "{}"])
def test_odd_settings_objects_are_passed_over(spec):
    fed = Fed()
    body = spec if spec != "{}" else "other: 1"
    assert fed.publish(f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio}}\n{body}\n") is not None
    assert fed.feed.problems == ()


def test_objects_of_one_name_in_two_groups_are_two():
    both = [
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: same}\nspec: {}\n",
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: same}\nspec: {}\n",
    ]
    feed = Feed(1, Options(Client()))
    feed.take(0, Facts(tuple(load_text("---\n".join(both)).resources)))
    feed.publish()
    assert not [problem for problem in feed.problems if problem.code == "MESH001"]
