"""Which types of resources a server has, and which of them are watched."""

from __future__ import annotations

import asyncio

import pytest

from meshlib.providers.kubernetes.collections import Collection, Scope
from meshlib.providers.kubernetes.discovery import Discovery
from meshlib.providers.kubernetes.failures import Failure, RequestFailed
from tests.kubernetes.api import discovery
from tests.kubernetes.cluster import ISTIO_TYPES, Cluster, Refused, Type


def looking(cluster, failing=()):
    async def get(path):
        if path in failing:
            raise RequestFailed(Failure("503", 503))
        try:
            return discovery(cluster, [part for part in path.split("/") if part])
        except Refused as refusal:
            raise RequestFailed(Failure(str(refusal), refusal.code)) from None

    return Discovery(get)


def found(known):
    return {(each.api_version, each.kind) for each in asyncio.run(known.look())}


def test_the_core_is_always_there_and_istio_where_it_is_installed():
    cluster = Cluster()
    kinds = found(looking(cluster))
    assert ("v1", "Service") in kinds
    assert ("discovery.k8s.io/v1", "EndpointSlice") in kinds
    assert ("networking.istio.io/v1", "VirtualService") in kinds
    assert ("meshlib.dev/v1alpha1", "ClientPolicy") in kinds
    assert not {kind for _, kind in kinds} & {"Deployment", "Endpoints"}
    cluster.types = [each for each in cluster.types if each not in ISTIO_TYPES]
    assert {version for version, _ in found(looking(cluster))} == {"v1", "discovery.k8s.io/v1"}


def test_the_servers_preferred_version_is_taken_unless_nobody_can_read_it():
    cluster = Cluster()
    cluster.types = [Type("networking.istio.io", ("v2", "v1alpha3", "v1"), "virtualservices", "VirtualService")]
    assert ("networking.istio.io/v1alpha3", "VirtualService") in found(looking(cluster))


def test_kinds_of_a_group_may_be_served_in_different_versions():
    cluster = Cluster()
    cluster.types = [
        Type("gateway.networking.k8s.io", ("v1", "v1beta1"), "httproutes", "HTTPRoute"),
        Type("gateway.networking.k8s.io", ("v1beta1",), "referencegrants", "ReferenceGrant"),
    ]
    kinds = found(looking(cluster))
    assert ("gateway.networking.k8s.io/v1", "HTTPRoute") in kinds
    assert ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant") in kinds


def test_a_group_that_cannot_be_asked_about_keeps_what_it_had():
    cluster, failing = Cluster(), set()
    known = looking(cluster, failing)
    before = found(known)
    failing.add("/apis/networking.istio.io/v1")
    assert found(known) == before
    cluster.types = [each for each in cluster.types if each.group != "networking.istio.io"]
    assert not {kind for _, kind in found(known)} & {"VirtualService"}


def test_a_group_that_cannot_be_asked_about_at_first_fails_the_look():
    with pytest.raises(RequestFailed):
        asyncio.run(looking(Cluster(), {"/apis/networking.istio.io/v1"}).look())


def test_a_server_that_cannot_be_asked_is_no_server_without_kinds():
    with pytest.raises(RequestFailed):
        asyncio.run(looking(Cluster(), {"/apis"}).look())


def test_scopes_narrow_what_is_watched():
    types = asyncio.run(looking(Cluster()).look())
    scope = Scope(["shop", "web"], {"Pod": "tier=web"}, None, frozenset({"Node", "Namespace"}), None)
    paths = [each.path for each in scope.collections(types)]
    assert "/api/v1/namespaces/shop/services" in paths
    assert "/apis/networking.istio.io/v1/namespaces/web/virtualservices" in paths
    assert not [path for path in paths if "nodes" in path or path.startswith("/api/v1/services")]
    (pods, _) = [each for each in scope.collections(types) if each.type.kind == "Pod"]
    assert pods.selection["labelSelector"] == "tier=web"
    assert "Succeeded" in pods.selection["fieldSelector"]


def test_of_nodes_and_namespaces_the_metadata_is_enough():
    types = {each.kind: each for each in asyncio.run(looking(Cluster()).look())}
    assert "as=PartialObjectMetadataList;" in Collection(types["Node"]).accept(watch=False)
    assert "as=PartialObjectMetadata;" in Collection(types["Namespace"]).accept(watch=True)
    assert Collection(types["Service"]).accept(watch=True) == "application/json"


def test_the_mesh_config_is_one_object_of_one_namespace():
    (collection,) = Scope(config_map=("istio-system", "istio")).collections([])
    assert collection.path == "/api/v1/namespaces/istio-system/configmaps"
    assert collection.selection == {"fieldSelector": "metadata.name=istio"}
