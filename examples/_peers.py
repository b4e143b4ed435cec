"""Servers and YAML that the examples share; underscore files are no examples."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def serve(name: str, status: int = 200) -> int:
    """Start a server on loopback that answers ``name``; its port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("content-length", str(len(name)))
            self.end_headers()
            self.wfile.write(name.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])


def mesh_yaml(service: str, **ports: int) -> str:
    """A Service on port 9080, a slice for each version, and a DestinationRule with a subset for each."""
    documents = [
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: {service}}}\nspec: {{ports: [{{name: http, port: 9080}}]}}"
    ]
    for version, port in ports.items():
        documents.append(f"""apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {service}-{version}, labels: {{kubernetes.io/service-name: {service}, version: {version}}}}}
addressType: IPv4
ports: [{{name: http, port: {port}}}]
endpoints: [{{addresses: [127.0.0.1]}}]""")
    subsets = ", ".join(f"{{name: {version}, labels: {{version: {version}}}}}" for version in ports)
    documents.append(f"""apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {service}-subsets}}
spec: {{host: {service}, subsets: [{subsets}]}}""")
    return "\n---\n".join(documents) + "\n"
