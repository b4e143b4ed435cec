"""Rate limits: by token buckets in this process, and by a service that counts for all (Envoy's protocol)."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc
from _peers import mesh_yaml, serve
from envoy.service.ratelimit.v3 import rls_pb2, rls_pb2_grpc

from meshlib import Mesh, MeshClient, errors
from meshlib.providers import StaticProvider


class Counting(rls_pb2_grpc.RateLimitServiceServicer):
    """A service that lets four calls of each descriptor pass; Envoy's own, with Redis behind it, does it better."""

    def __init__(self):
        self.counts = Counter()

    def ShouldRateLimit(self, request, context):  # noqa: N802 - the protocol's name
        key = tuple((entry.key, entry.value) for entry in request.descriptors[0].entries)
        self.counts[key] += 1
        kind = rls_pb2.RateLimitResponse
        return kind(overall_code=kind.OK if self.counts[key] <= 4 else kind.OVER_LIMIT)


counting = Counting()
server = grpc.server(ThreadPoolExecutor(4))
rls_pb2_grpc.add_RateLimitServiceServicer_to_server(counting, server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()

RULES = f"""
apiVersion: meshlib.dev/v1alpha1
kind: ClientPolicy
metadata: {{name: reviews}}
spec:
  hosts: [reviews]
  rateLimit: {{requestsPerUnit: 60, unit: MINUTE, burst: 3, by: [{{header: x-user}}]}}
---
apiVersion: meshlib.dev/v1alpha1
kind: ClientPolicy
metadata: {{name: ratings}}
spec:
  hosts: [ratings]
  rateLimit:
    whenLimited: Raise
    by: [{{header: x-user, descriptorKey: user}}]
    global: {{service: '127.0.0.1:{port}', domain: bookshop, timeout: 2s, failOpen: false}}
"""
services = "---\n".join([mesh_yaml("reviews", v1=serve("reviews")), mesh_yaml("ratings", v1=serve("ratings"))])

with Mesh(StaticProvider(services, RULES)) as mesh:
    one, two = MeshClient(mesh), MeshClient(mesh)  # clients of one mesh share its counts; so do threads and tasks

    codes = [one.get("http://reviews:9080/", headers={"x-user": "ann"}).status_code for _ in range(5)]
    refused = one.get("http://reviews:9080/", headers={"x-user": "ann"})
    assert codes == [200, 200, 200, 429, 429]
    assert (refused.text, refused.headers["x-envoy-ratelimited"]) == ("local_rate_limited", "true")
    assert one.get("http://reviews:9080/", headers={"x-user": "bob"}).status_code == 200
    print(f"ann: {codes}; bob has a bucket of his own")

    passed = 0
    try:
        for client in (one, two) * 5:
            passed += client.get("http://ratings:9080/", headers={"x-user": "ann"}).is_success
    except errors.RateLimited as error:
        print(f"after {passed} calls the service said no, and the policy asks to raise: {error.flag}")
    assert passed == 4
    assert counting.counts == {(("user", "ann"),): 5}

    server.stop(None).wait()
    answer = one.get("http://ratings:9080/", headers={"x-user": "carl"})
    assert answer.status_code == 500
    print(f"without the service, failOpen: false answers {answer.status_code} ({answer.extensions['mesh'].flags})")
    one.close()
    two.close()
