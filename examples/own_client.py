"""The mesh as a transport of your own httpx or httpx2 client; errors stay the library's."""

import httpx
import httpx2
from _peers import mesh_yaml, serve

import meshlib.httpx
import meshlib.httpx2
from meshlib import Mesh
from meshlib.providers import StaticProvider

mesh = Mesh(StaticProvider(mesh_yaml("reviews", v1=serve("v1")) + "---\n" + mesh_yaml("empty")))
for library, faces in ((httpx, meshlib.httpx), (httpx2, meshlib.httpx2)):
    with library.Client(transport=faces.MeshTransport(mesh), headers={"x-team": "shop"}) as client:
        assert client.get("http://reviews.default:9080/").text == "v1"
        try:
            client.get("http://empty:9080/")
        except library.ConnectError as error:
            print(f"{library.__name__}: {type(error).__name__} ({error.flag}): {error}")
mesh.close()
