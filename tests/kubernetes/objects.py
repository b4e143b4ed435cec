"""Objects as an API server holds them."""

from __future__ import annotations

from typing import Any


def service(name: str, namespace: str = "default", port: int = 80) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "clusterIP": "10.96.0.1",
            "selector": {"app": name},
            "ports": [{"name": "http", "port": port, "targetPort": "web", "protocol": "TCP"}],
        },
        "status": {"loadBalancer": {}},
    }


def endpoints(
    name: str, *addresses: str | dict[str, Any], part: str = "a", namespace: str = "default", port: int = 8080
):
    """An EndpointSlice; an endpoint is an address, or given whole."""
    rows = [{"addresses": [a], "conditions": {"ready": True}} if isinstance(a, str) else a for a in addresses]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-{part}",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-11-01T00:00:00Z"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
        "endpoints": rows,
    }


def pod_endpoint(address: str, pod: str, node: str = "n1", **conditions: bool) -> dict[str, Any]:
    return {
        "addresses": [address],
        "conditions": {"ready": True, **conditions},
        "targetRef": {"kind": "Pod", "name": pod, "namespace": "default", "uid": "u"},
        "nodeName": node,
        "zone": "z1",
    }


def pod(name: str, namespace: str = "default", phase: str = "Running", **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": {"cni": "x" * 500},
            "ownerReferences": [{"kind": "StatefulSet", "name": "db", "controller": True, "uid": "u"}],
        },
        "spec": {
            "serviceAccountName": "web",
            "nodeName": "n1",
            "volumes": [{"name": "token", "projected": {"sources": []}}],
            "containers": [{"name": "app", "image": "x", "env": [{"name": "A"}], "ports": [{"containerPort": 8080}]}],
        },
        "status": {"phase": phase, "podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]},
    }


def node(name: str, region: str, zone: str) -> dict[str, Any]:
    labels = {"topology.kubernetes.io/region": region, "topology.kubernetes.io/zone": zone}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "spec": {}, "status": {}}


def route(name: str, status: int, namespace: str = "default") -> dict[str, Any]:
    """A VirtualService that answers by itself."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"hosts": [name], "http": [{"directResponse": {"status": status}}]},
    }
