"""A MeshClient obeys a VirtualService: /user goes to v1, everything else to v2."""

from _peers import mesh_yaml, serve

from meshlib import Mesh, MeshClient
from meshlib.providers import StaticProvider

v1, v2 = serve("v1"), serve("v2")
RULES = """
apiVersion: networking.istio.io/v1alpha3
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /user}}]
    route: [{destination: {host: reviews, subset: v1}}]
  - route: [{destination: {host: reviews, subset: v2}}]
"""

with Mesh(StaticProvider(mesh_yaml("reviews", v1=v1, v2=v2), RULES)) as mesh, MeshClient(mesh) as client:
    assert client.get("http://reviews:9080/user/7").text == "v1"
    assert client.get("http://reviews:9080/other").text == "v2"
    print("/user went to v1, the rest to v2")
    print("\n".join(mesh.explain("GET", "http://reviews:9080/other").reasons))
