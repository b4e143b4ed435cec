"""An AsyncMeshClient under asyncio and trio: a failing endpoint is retried elsewhere and then ejected."""

import asyncio

import trio
from _peers import mesh_yaml, serve

from meshlib import AsyncMeshClient, Mesh
from meshlib.providers import StaticProvider

good, bad = serve("good"), serve("bad", status=503)
RULES = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy:
    outlierDetection: {consecutive5xxErrors: 2, maxEjectionPercent: 50}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - retries: {attempts: 2, retryOn: 5xx}
    route: [{destination: {host: reviews}}]
"""
mesh = Mesh(StaticProvider(mesh_yaml("reviews", good=good, bad=bad), RULES))


async def main() -> None:
    async with AsyncMeshClient(mesh) as client:
        for _ in range(20):
            response = await client.get("http://reviews:9080/")
            assert (response.status_code, response.text) == (200, "good")


asyncio.run(main())
trio.run(main)
(left_out,) = mesh.explain("GET", "http://reviews:9080/").destinations[0].left_out
assert left_out[1].startswith("ejected"), left_out
print(f"40 of 40 answered; {left_out[0]} was asked twice and is ejected")
mesh.close()
