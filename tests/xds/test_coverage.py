"""Every field of the model is on the wire, or is named here with the reason why it is not."""

from __future__ import annotations

import pytest

pytest.importorskip("envoy.config.route.v3")

from dataclasses import MISSING, fields, is_dataclass

from hypothesis import HealthCheck, Phase, given, seed, settings

from meshlib.model.policy import TlsMode
from tests.xds.models import ASSIGNMENTS, clusters, tables

NOT_ON_THE_WIRE = {
    "explain alone wants to know": {
        "Cluster.origins",
        "RouteOrigin.notes",
        "RouteOrigin.values",
        "VirtualHost.objects",
        "VirtualHost.skipped",
    },
    "Envoy has no field for it": {
        "Cluster.client_policy",
        "DirectResponse.grpc_status",
        "Forward.weight_keys",
        "HashKey.kept",
        "WeightedCluster.path_rewrite",
        "WeightedCluster.regex_rewrite",
    },
    "it belongs to the route": {"LoadBalancer.hash_keys"},
    "it follows from the caller": {"LocalityEndpoints.callers", "LocalityEndpoints.near"},
    "the profile says it": {"HeaderMatch.joined"},
    "control planes send it, and we are none": {"Tls.material"},
    "it concerns raw connections": {"Cluster.tunnel", "VirtualHost.by_address"},
}
EXCUSED = set().union(*NOT_ON_THE_WIRE.values())


def visit(value, seen):
    """Note every field whose value is not its default."""
    if is_dataclass(value):
        for field in fields(value):
            inner = getattr(value, field.name)
            made = field.default_factory() if field.default_factory is not MISSING else field.default
            name = f"{type(value).__name__}.{field.name}"
            seen.setdefault(name, False)
            seen[name] = seen[name] or inner != made
            if name not in EXCUSED:
                visit(inner, seen)
    elif isinstance(value, tuple) and not isinstance(value, TlsMode):
        for each in value:
            visit(each, seen)


BATCH = settings(
    max_examples=60,
    deadline=None,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
BATCHES = 20


def draw_some(number, seen):
    @seed(number)
    @BATCH
    @given(tables(), clusters(), ASSIGNMENTS)
    def draw(table, cluster, assignment):
        visit((table, cluster, assignment), seen)

    draw()


def test_every_field_is_written_and_read_or_said_not_to_be():
    seen: dict[str, bool] = {}
    for number in range(BATCHES):
        draw_some(number, seen)
        missing = {name for name, varied in seen.items() if not varied} - EXCUSED
        if not missing:
            break
    assert not missing, "extend xds.encode, xds.decode and tests/xds/models.py, or say here why not"
    assert {name for name in EXCUSED if seen[name]} == set()
