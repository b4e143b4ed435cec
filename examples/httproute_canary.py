"""A canary by Gateway API's HTTPRoute: shares that move while the client runs, and testers who are there already."""

from collections import Counter

from _peers import mesh_yaml, serve

from meshlib import Mesh, MeshClient
from meshlib.providers import StaticProvider

SERVICES = "---\n".join(
    [mesh_yaml("reviews"), mesh_yaml("reviews-v1", v1=serve("v1")), mesh_yaml("reviews-v2", v1=serve("v2"))]
)


def canary(old: int, new: int) -> str:
    """Testers see v2, everybody else is split."""
    return f"""
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: reviews}}
spec:
  parentRefs: [{{group: "", kind: Service, name: reviews}}]
  rules:
  - backendRefs:
    - {{name: reviews-v1, port: 9080, weight: {old}}}
    - {{name: reviews-v2, port: 9080, weight: {new}}}
  - name: testers
    matches: [{{headers: [{{name: x-tester, value: "yes"}}]}}]
    backendRefs: [{{name: reviews-v2, port: 9080}}]
"""


provider = StaticProvider(SERVICES, canary(90, 10))
mesh = Mesh(provider)
with MeshClient(mesh) as client:

    def share(**headers: str) -> Counter[str]:
        return Counter(client.get("http://reviews:9080/", headers=headers).text for _ in range(300))

    everybody = share()
    assert 5 <= everybody["v2"] <= 70, everybody  # 30 are due, 5 either way is usual
    print(f"90:10 of 300 calls: {everybody['v1']} to v1, {everybody['v2']} to v2")

    testers = share(**{"x-tester": "yes"})
    assert testers == {"v2": 300}
    print("testers: all to v2, although their rule stands last: more conditions go first")

    decision = mesh.explain("GET", "http://reviews:9080/", {"x-tester": "yes"})
    assert (decision.virtual_service, decision.resource) == (None, "HTTPRoute default/reviews")
    print(f"why: {next(verdict for verdict in decision.rules if verdict.matches)}")

    version = mesh.snapshot.version
    provider.replace(SERVICES, canary(0, 100))
    while mesh.snapshot.version == version:
        assert client.get("http://reviews:9080/").is_success
    assert share() == {"v2": 300}
    print("0:100: everybody is on v2, and no call was lost on the way")
mesh.close()
