"""Zone-aware routing from YAML: the callers are those behind the service that selects the client."""

from __future__ import annotations

from collections import Counter

import httpx
import pytest

from meshlib.config.compile import Universe
from meshlib.config.resources import load_text
from meshlib.httpx import MeshTransport
from meshlib.model.endpoint import Locality
from meshlib.model.snapshot import Client
from meshlib.testing import ScriptedTransport, mesh_of

NAME = "outbound|80||svc.default.svc.cluster.local"
RULE = (
    "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: svc}\n"
    "spec: {host: svc, trafficPolicy: {loadBalancer: {simple: RANDOM, zoneAwareLbSetting: {minClusterSize: 6}}}}"
)
SERVICE = (
    "apiVersion: v1\nkind: Service\nmetadata: {{name: {0}, namespace: default}}\n"
    "spec: {{ports: [{{name: http, port: 80}}], selector: {{app: {0}}}}}"
)


def pods(name, number, zones, down=()):
    """A Service with so many endpoints in each zone of region r; those in ``down`` are not ready."""
    parts = [SERVICE.format(name)]
    for place, (zone, size) in enumerate(zones.items()):
        for pod in range(size):
            labels = f"{{topology.kubernetes.io/region: r, topology.kubernetes.io/zone: {zone}}}"
            node = f"apiVersion: v1\nkind: Node\nmetadata: {{name: {zone}, labels: {labels}}}"
            parts.append(node if not pod else "")
            parts.append(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
                f"metadata: {{name: {name}-{zone}-{pod}, labels: {{kubernetes.io/service-name: {name}}}}}\n"
                "addressType: IPv4\nports: [{name: http, port: 80}]\n"
                f"endpoints: [{{addresses: [10.{number}.{place}.{pod + 1}], nodeName: {zone}, "
                f"conditions: {{ready: {str((zone, pod) not in down).lower()}}}}}]"
            )
    return "\n---\n".join(part for part in parts if part)


def groups(*texts, labels=("app", "web"), zone="a"):
    loaded = load_text("\n---\n".join([*texts, RULE]))
    client = Client("default", dict([labels]), Locality("r", zone))
    found = Universe(loaded.resources).view(client).assignment(NAME)
    return {group.locality.zone: (len(group.endpoints), group.near, group.callers) for group in found}


def test_each_zone_knows_its_callers_and_the_client_its_own():
    found = groups(pods("web", 1, {"a": 4, "b": 2}), pods("svc", 2, {"a": 2, "b": 6}))
    assert found == {"a": (2, True, 4), "b": (6, False, 2)}


def test_only_healthy_callers_count():
    found = groups(pods("web", 1, {"a": 4, "b": 2}, down=[("b", 0)]), pods("svc", 2, {"a": 2, "b": 6}))
    assert {zone: callers for zone, (_, _, callers) in found.items()} == {"a": 4, "b": 1}


@pytest.mark.parametrize(
    "texts",
    [
        [pods("svc", 2, {"a": 2, "b": 6})],
        [pods("web", 1, {"a": 4}), pods("svc", 2, {"a": 2, "b": 6})],
        [pods("web", 1, {"a": 4, "b": 1, "c": 1}), pods("svc", 2, {"a": 2, "b": 6})],
    ],
    ids=["nobody selects the client", "callers in fewer zones", "callers in more zones"],
)
def test_without_the_same_zones_nothing_is_known(texts):
    assert {callers for _, _, callers in groups(*texts).values()} == {None}


def test_calls_stay_as_far_as_the_zone_can_take_them():
    """Half of the callers and a quarter of the endpoints are here: half of the calls stay."""
    wire = ScriptedTransport()
    options = {"labels": {"app": "web"}, "locality": "r/a", "telemetry": False}
    mesh = mesh_of(pods("web", 1, {"a": 4, "b": 4}), pods("svc", 2, {"a": 2, "b": 6}), RULE, **options)
    with mesh, httpx.Client(transport=MeshTransport(mesh, transport=wire)) as client:
        for _ in range(2000):
            client.get("http://svc/")
    zones = Counter(address.split(".")[2] for address in wire.seen)
    assert zones["0"] / 2000 == pytest.approx(0.5, abs=0.04)
