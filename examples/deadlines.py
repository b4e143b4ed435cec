"""One deadline for a whole chain of calls, and a canary chosen at its head: two servers, each with a mesh client."""

import threading
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from _peers import mesh_yaml

from meshlib import Mesh, MeshClient, errors
from meshlib.context import WsgiContext, current, deadline, detached, remaining
from meshlib.providers import StaticProvider

RULES = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: stock}
spec:
  hosts: [stock]
  http:
  - match: [{headers: {x-canary: {exact: "yes"}}}]
    route: [{destination: {host: stock, subset: v2}}]
  - route: [{destination: {host: stock, subset: v1}}]
"""
HANDED_ON = ["x-canary"]
provider = StaticProvider("")
mesh = Mesh(provider)
client = MeshClient(mesh)
left: dict[str, float | None] = {}


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


def serve(app):
    server = make_server("127.0.0.1", 0, WsgiContext(app, HANDED_ON), Server, Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def shop(environ, start_response):
    """Takes its time, then asks stock; it does nothing about deadlines or headers."""
    left["shop"] = remaining()
    threading.Event().wait(0.1)
    try:
        answer = client.get("http://stock:9080/").content
    except errors.DeadlineExceeded as error:
        answer = str(error).partition(" (route")[0].encode()
    start_response("200 OK", [("content-length", str(len(answer)))])
    return [answer]


def stock(version):
    def app(environ, start_response):
        left["stock"] = remaining()
        start_response("200 OK", [("content-length", "2")])
        return [version]

    return app


parts = [mesh_yaml("shop", v1=serve(shop)), mesh_yaml("stock", v1=serve(stock(b"v1")), v2=serve(stock(b"v2"))), RULES]
provider.replace("---\n".join(parts))
mesh.ready(["shop:9080", "stock:9080"])

with deadline(2.0):
    assert client.get("http://shop:9080/").content == b"v1"
assert left["shop"] and left["stock"]
assert 2.0 >= left["shop"] > left["stock"] + 0.09
print("2 seconds at the head, less at shop, and a tenth less again at stock")

assert client.get("http://shop:9080/", headers={"x-canary": "yes"}).content == b"v2"
print("x-canary, set at the head, led shop to version 2 of stock")

left.clear()
with deadline(0.1, "the example"):
    try:
        client.get("http://shop:9080/")
    except errors.DeadlineExceeded as error:
        print(f"0.1 seconds are too few: {str(error).partition(' (')[0]}")
    with detached():
        assert client.get("http://shop:9080/").content == b"v1"
        print("what is detached has its own time")
assert current().headers == ()
client.close()
mesh.close()
