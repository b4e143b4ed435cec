"""A real Envoy that takes everything from an ADS server."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.envoy import EnvoyProcess

_HTTP2 = {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _bootstrap(ads: int, api: str) -> dict[str, Any]:
    source = {"ads": {}, "resource_api_version": "V3"}
    server = {
        "name": "xds",
        "type": "STATIC",
        "typed_extension_protocol_options": _HTTP2,
        "load_assignment": {
            "cluster_name": "xds",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(ads)}}]}],
        },
    }
    return {
        "node": {"id": "envoy", "cluster": "envoy"},
        "admin": {"address": _address(0)},
        "dynamic_resources": {
            "ads_config": {
                "api_type": api,
                "transport_api_version": "V3",
                "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}],
            },
            "cds_config": source,
            "lds_config": source,
        },
        "static_resources": {"clusters": [server]},
    }


class AdsEnvoy:
    """The process; ended by its own handle.

    Args:
        port: Of the ADS server on loopback.
        api: ``GRPC`` or ``DELTA_GRPC``.
    """

    def __init__(self, port: int, api: str) -> None:
        self._process = EnvoyProcess("bootstrap.json", json.dumps(_bootstrap(port, api)).encode(), level="warning")
        self.output = self._process.output
        self.close = self._process.close

    def listener(self) -> int:
        """The port of its one listener, as soon as there is one."""
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            found = json.loads(self._process.admin("/listeners?format=json") or "{}")
            for status in found.get("listener_statuses", ()):
                if port := status["local_address"]["socket_address"]["port_value"]:
                    return int(port)
            time.sleep(0.05)
        raise AssertionError(f"Envoy has no listener after 60 s: {self.output()}")

    def __enter__(self) -> AdsEnvoy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
