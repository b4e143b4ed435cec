"""Who we say we are: the ``Node`` of a bootstrap as a message, and the one that istiod expects of a workload.

Source: gRFC A27; Istio ``pkg/istio-agent/grpcxds``, ``pkg/bootstrap/config.go``: the id has four parts,
``sidecar~<IP>~<pod>.<namespace>~<namespace>.svc.<domain>``, and what the pod is stands in the metadata.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshlib import __version__
from meshlib.model.snapshot import Client
from meshlib.xds.bootstrap import Node
from meshlib.xds.messages import base_pb2

__all__ = ["client_of", "is_for_grpc", "istio_node", "node_message"]

_FEATURES = ("xds.config.resource-in-sotw",)
_METADATA = {
    "CLUSTER_ID": "ISTIO_META_CLUSTER_ID",
    "ISTIO_VERSION": "ISTIO_META_ISTIO_VERSION",
    "MESH_ID": "ISTIO_META_MESH_ID",
    "NETWORK": "ISTIO_META_NETWORK",
    "NODE_NAME": "ISTIO_META_NODE_NAME",
    "OWNER": "ISTIO_META_OWNER",
    "SERVICE_ACCOUNT": "SERVICE_ACCOUNT",
    "WORKLOAD_NAME": "ISTIO_META_WORKLOAD_NAME",
}


def node_message(node: Node) -> Any:
    """The ``Node`` to send."""
    made = base_pb2.Node(
        id=node.id,
        cluster=node.cluster,
        user_agent_name="meshlib",
        user_agent_version=__version__,
        client_features=_FEATURES,
    )
    made.metadata.update(_plain(node.metadata))
    made.locality.region, made.locality.zone, made.locality.sub_zone = node.locality
    return made


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


def istio_node(client: Client, environ: Mapping[str, str], *, grpc: bool = False) -> Node:
    """The node of a workload towards istiod.

    Args:
        client: Namespace, labels, locality, address, service account, network and the like.
        environ: ``POD_NAME``, ``INSTANCE_IP`` and the ``ISTIO_META_`` variables of a pod, where ``client`` has no word.
        grpc: Ask for the resources of proxyless gRPC (``GENERATOR: grpc``) rather than for a sidecar's.
    """
    address = client.address or environ.get("INSTANCE_IP") or "127.0.0.1"
    pod = environ.get("POD_NAME") or environ.get("HOSTNAME") or "meshlib"
    space, domain = client.namespace, client.cluster_domain
    metadata: dict[str, Any] = {name: environ[key] for name, key in _METADATA.items() if environ.get(key)}
    given = {
        "CLUSTER_ID": client.cluster,
        "NETWORK": client.network,
        "NODE_NAME": client.node,
        "SERVICE_ACCOUNT": client.service_account,
    }
    metadata |= {name: value for name, value in given.items() if value}
    metadata |= {"NAMESPACE": space, "INSTANCE_IPS": address, "LABELS": dict(client.labels)}
    if grpc:
        metadata["GENERATOR"] = "grpc"
    app = client.labels.get("app") or pod
    return Node(f"sidecar~{address}~{pod}.{space}~{space}.svc.{domain}", f"{app}.{space}", metadata, client.locality)


def is_for_grpc(node: Node) -> bool:
    """Whether a control plane will answer by name, as gRPC asks, and not with everything, as for a sidecar."""
    return node.metadata.get("GENERATOR") == "grpc" or node.id.count("~") != 3


def client_of(node: Node) -> Client:
    """Whose short names count, as far as a node tells it."""
    parts = node.id.split("~")
    space, _, domain = (parts[3] if len(parts) == 4 else "").partition(".svc.")
    namespace = str(node.metadata.get("NAMESPACE") or space or "default")
    return Client(namespace, cluster_domain=domain or "cluster.local", locality=node.locality)
