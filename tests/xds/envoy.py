"""A real Envoy that takes everything from an ADS server."""

from __future__ import annotations

import http.client
import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.differential.proxy import ABSENT, ENVOY, _end_with_us

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
        assert ENVOY is not None, ABSENT
        self._folder = tempfile.TemporaryDirectory(prefix="meshlib-envoy-")
        folder = Path(self._folder.name)
        (folder / "bootstrap.json").write_text(json.dumps(_bootstrap(port, api)))
        self._log = (folder / "log").open("w+")
        command = [ENVOY, "-c", str(folder / "bootstrap.json"), "--concurrency", "1", "--disable-hot-restart"]
        command += ["-l", "warning", "--admin-address-path", str(folder / "admin"), "--use-dynamic-base-id"]
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT, preexec_fn=_end_with_us)
        self._admin_file = folder / "admin"

    def listener(self) -> int:
        """The port of its one listener, as soon as there is one."""
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            address = self._admin_file.read_text().strip() if self._admin_file.is_file() else ""
            found = json.loads(self._get(address, "/listeners?format=json") or "{}") if address else {}
            for status in found.get("listener_statuses", ()):
                if port := status["local_address"]["socket_address"]["port_value"]:
                    return int(port)
            time.sleep(0.05)
        raise AssertionError(f"Envoy has no listener after 60 s: {self.output()}")

    def output(self) -> str:
        self._log.flush()
        self._log.seek(0)
        return self._log.read()[-4000:]

    @staticmethod
    def _get(address: str, path: str) -> bytes:
        host, _, port = address.rpartition(":")
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        except OSError:
            return b""
        finally:
            connection.close()

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(10)
        self._log.close()
        self._folder.cleanup()

    def __enter__(self) -> AdsEnvoy:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
